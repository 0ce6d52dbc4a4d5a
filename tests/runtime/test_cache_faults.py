"""What goes wrong under a cache: it is said, counted and shown, it is tried again, and it heals. Virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.cache import CacheOptions, InformerCache
from kaito.runtime.cache_metrics import LABELS, CacheMetrics
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import Forbidden, NotFound, TransportError
from kaito.runtime.logs import JsonFormatter
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.metrics import RuntimeMetrics
from kaito.runtime.resources import CONFIGMAPS, CRDS, PODS, Resource
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock, watch_line
from runtime.support import LIST, World, bookmark, config_map, listed, watched

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
WIDGET_CRD = {
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


def widget(name: str) -> dict[str, object]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata}


@contextlib.asynccontextmanager
async def running(cache: InformerCache) -> AsyncIterator[None]:
    task = asyncio.ensure_future(cache.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def make_cache(clock: Clock, script: Iterable[Exchange]) -> tuple[ScriptedServer, InformerCache]:
    server = ScriptedServer(clock, script)
    client = Client(MemoryTransport(server.handle, clock), clock=clock)
    cache = InformerCache(client, watch_list=False)
    cache.informer(CONFIGMAPS)._reflector._draw = lambda: 0.0
    return server, cache


def numbers(cache: InformerCache, *names: str) -> list[float]:
    """Metrics of the cache's only informer."""
    families = {metric.name: metric for metric in CacheMetrics(cache).collect()}
    return [families[f"kaito_informer_{name}"].samples[0].value for name in names]


async def test_permission_taken_away_in_mid_flight(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The watch lives on to its end; then the cache is old, says so, and recovers by itself."""
    denied = Exchange(error=Forbidden("configmaps is forbidden"))
    server, cache = make_cache(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(100.0),
            *[denied] * 5,
            listed(50, config_map("b", 40)),
            watched(hold=True),
        ],
    )
    informer = cache.informer(CONFIGMAPS)
    async with running(cache):
        await virtual_clock.sleep(99)
        assert cache.problems(10) == []
        assert numbers(cache, "failing", "failing_seconds", "age_seconds", "failures") == [0, 0, 99, 0]
        await virtual_clock.sleep(12)  # the watch ended at 100; attempts at 100, 100.8, 102.4, 105.6, 112
        assert cache.problems(15) == []
        assert cache.problems(10) == [
            "configmaps could not be followed for 11 s: "
            "GET /api/v1/configmaps: configmaps is forbidden (HTTP 403, Forbidden)"
        ]
        assert numbers(cache, "failing", "failing_seconds", "failures", "objects") == [1, 11, 4, 1]
        await virtual_clock.sleep(20)
        assert cache.problems(10) == []
        assert numbers(cache, "failing", "failing_seconds", "failures", "synced") == [0, 0, 5, 1]
        assert [obj.key.name for obj in informer.lister.list()] == ["b"]
    server.assert_done()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 5
    assert all(text.startswith("cannot follow configmaps: ") for text in warnings)


async def test_a_definition_deleted_under_an_informer(virtual_clock: VirtualClock) -> None:
    """Its objects go, the failure shows, and once it is made anew so are they."""
    server = ApiServer(ApiServerOptions(clock=virtual_clock))
    client = Client(MemoryTransport(server.handle, virtual_clock), clock=virtual_clock)
    await client.create(CRDS, WIDGET_CRD)
    cache = InformerCache(client)
    informer = cache.informer(WIDGETS)
    await virtual_clock.sleep(1)
    await client.create(WIDGETS, widget("one"))
    async with running(cache):
        await cache.wait_synced()
        assert len(informer.store) == 1
        await client.delete(CRDS, "widgets.example.com")
        await virtual_clock.sleep(700)
        assert len(informer.store) == 0
        assert isinstance(informer.last_error, NotFound)
        assert cache.problems(60)[0].startswith("widgets.example.com could not be followed for ")
        await client.create(CRDS, WIDGET_CRD)
        await virtual_clock.sleep(1)
        await client.create(WIDGETS, widget("two"))
        await virtual_clock.sleep(61)
        assert [obj.key.name for obj in informer.lister.list()] == ["two"]
        assert cache.problems(60) == []


@pytest.mark.parametrize(
    ("garbage", "message"),
    [
        (b"}{\n", "not a watch event"),
        (b'{"type":"ADDED","object":{"metadata":{"name":"a"\n', "not a watch event"),
        (watch_line("ERROR", {}).replace(b"{}", b"nonsense"), "not a watch event"),
    ],
)
async def test_a_stream_that_cannot_be_read(
    virtual_clock: VirtualClock, garbage: bytes, message: str
) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(30.0, garbage, hold=True),
            listed(20, config_map("b", 15)),
            watched(hold=True),
        ],
    )
    async with world.running(30.5):
        assert message in str(world.informer.last_error)
        assert (world.names, world.informer.stats.failures) == (["a"], 1)
        await virtual_clock.sleep(1)
        assert (world.names, world.informer.last_error) == (["b"], None)


@pytest.mark.parametrize(
    "body", [{"metadata": {}}, {}, {"kind": "Status", "metadata": {"resourceVersion": "9"}}]
)
async def test_an_answer_that_is_no_list_does_not_empty_the_cache(
    virtual_clock: VirtualClock, body: dict[str, object]
) -> None:
    world = World(
        virtual_clock,
        [
            listed(10, config_map("a", 1)),
            watched(0.5),
            Exchange(body=body),
            listed(20, config_map("b", 15)),
            watched(hold=True),
        ],
    )
    async with world.running(1.4):
        assert "the answer to LIST" in str(world.informer.last_error)
        assert world.names == ["a"]
        await virtual_clock.sleep(10)
        assert world.names == ["b"]


@pytest.mark.parametrize(
    "metadata", [{"name": "x"}, {"resourceVersion": "12"}, {"name": "x", "resourceVersion": 12}]
)
async def test_objects_without_name_or_version_are_counted(
    virtual_clock: VirtualClock, metadata: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    odd = {"metadata": metadata}
    world = World(
        virtual_clock,
        [listed(10, odd, config_map("a", 1)), watched(watch_line("ADDED", odd), bookmark(13), hold=True)],
    )
    async with world.running(5):
        assert (world.names, world.informer.stats.skipped) == (["a"], 2)
        assert world.informer.store.resource_version == "13"
    assert caplog.text.count("skipping what configmaps sent: ") == 2


async def test_a_server_that_accepts_watches_only_to_break_them_counts_as_failing(
    virtual_clock: VirtualClock,
) -> None:
    """Each attempt seems to succeed for a moment: what matters is how long nothing has come."""
    flapping = [each for _ in range(20) for each in (watched(0.1, TransportError("reset")),)]
    _, cache = make_cache(virtual_clock, [listed(10), *flapping, watched(bookmark(11), hold=True)])
    informer = cache.informer(CONFIGMAPS)
    async with running(cache):
        await virtual_clock.sleep(100)
        assert informer.failing_for == pytest.approx(99.9)
        assert cache.problems(60) != []
        await virtual_clock.sleep(700)
        assert cache.problems(60) == []


async def test_a_watch_that_stays_open_ends_the_trouble_even_if_nothing_comes(
    virtual_clock: VirtualClock,
) -> None:
    _, cache = make_cache(
        virtual_clock,
        [
            *(listed(10), watched(50.0), Exchange(refuse="refused"), watched(200.0)),
            *(Exchange(refuse="refused"), watched(hold=True)),
        ],
    )
    informer = cache.informer(CONFIGMAPS)
    async with running(cache):
        await virtual_clock.sleep(51.2)
        assert informer.failing_for == 0.0
        await virtual_clock.sleep(200)  # refused at 250.8, again at 251.6
        assert informer.failing_for == pytest.approx(0.4)


async def test_watches_that_open_and_stay_silent_where_bookmarks_come_count_as_failing(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Something in between answers for a server that is gone: each watch opens, and the cache is frozen."""
    _, cache = make_cache(
        virtual_clock,
        [
            *(listed(10), watched(bookmark(11), hold=True), watched(hold=True), watched(hold=True)),
            *(watched(50.0, bookmark(12), hold=True), watched(hold=True)),
        ],
    )
    informer = cache.informer(CONFIGMAPS)
    async with running(cache):
        with caplog.at_level("INFO"):
            await virtual_clock.sleep(149)  # once silent, at 75: that may have been the connection
        assert (informer.failing_for, cache.problems(60)) == (0.0, [])
        (silence,) = [json.loads(JsonFormatter().format(each)) for each in caplog.records]
        assert (silence["msg"], silence["resource"], silence["path"]) == (
            *("watch fell silent, reconnecting", "configmaps", "/api/v1/configmaps"),
        )
        await virtual_clock.sleep(2)
        assert informer.failing_for == 151.0, "from the last byte"
        assert cache.problems(60) == [
            "configmaps could not be followed for 151 s: watches open, but nothing came on them for 150 s"
        ]
        await virtual_clock.sleep(120)  # the next opens at 225, and lives at 275
        assert informer.failing_for == 271.0
        await virtual_clock.sleep(5)
        assert (informer.failing_for, informer.last_error, cache.problems(60)) == (0.0, None, [])
        await virtual_clock.sleep(80)  # silent from 275 to 350: the first time again
        assert (informer.stats.silences, informer.last_error) == (4, None)


async def test_metrics_name_what_each_informer_follows(virtual_clock: VirtualClock) -> None:
    client = Client(MemoryTransport(ScriptedServer(virtual_clock).handle, virtual_clock), clock=virtual_clock)
    cache = InformerCache(client, options=CacheOptions(LIST))
    cache.informer(PODS, namespace="team", label_selector="app=x", field_selector="spec.nodeName=n")
    cache.informer(WIDGETS, metadata_only=True)
    cache.informer(WIDGETS, metadata_only=True, transform=lambda obj: obj)
    metrics = RuntimeMetrics(virtual_clock.now)
    metrics.add(CacheMetrics(cache))
    text = generate_latest(metrics.registry).decode()
    pods = 'group="",namespace="team",resource="pods",selector="app=x;spec.nodeName=n",version="v1"'
    widgets = 'group="example.com",namespace="",resource="widgets",selector="metadata",version="v1"'
    for labels in (pods, widgets):
        assert f"kaito_informer_synced{{{labels}}} 0.0" in text
        assert f"kaito_informer_age_seconds{{{labels}}} -1.0" in text
        assert f"kaito_informer_failures_total{{{labels}}} 0.0" in text
    assert text.count("kaito_informer_objects{") == 2, (
        "informers that differ in their transform are one series"
    )
    assert isinstance(metrics.registry, CollectorRegistry)
    assert set(LABELS) == {"group", "version", "resource", "namespace", "selector"}


async def test_the_version_shown_has_15_digits(virtual_clock: VirtualClock) -> None:
    _, cache = make_cache(virtual_clock, [listed("1234567890123456789"), watched(hold=True)])
    async with running(cache):
        await cache.wait_synced()
        assert numbers(cache, "resource_version") == [567890123456789.0]
