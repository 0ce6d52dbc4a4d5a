"""Faults over sockets: what a client of another make sees of each of them."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml
from aiohttp import web

from kaito.embedded.apiserver.server import ApiServer
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import ConfigurationError
from kaito.runtime.resources import CONFIGMAPS
from kaito.testing.faults import (
    Answer,
    CutWatch,
    DropWatch,
    FaultProxy,
    Faults,
    HalfOpenWatch,
    HoldEvents,
    LoseAnswer,
    Match,
    NoAnswer,
    Refuse,
    Slow,
    Truncate,
    WatchError,
)
from kaito.testing.faults.proxy import Upstream

pytestmark = pytest.mark.processes
COLLECTION = "/api/v1/namespaces/default/configmaps"


class Bench:
    """An API server, the proxy before it, and a plain HTTP client that knows nothing of Kubernetes."""

    def __init__(self, server: ApiServer, proxy: FaultProxy, folder: Path) -> None:
        self.server, self.proxy = server, proxy
        proxy.write_kubeconfig(folder / "proxied")
        config = yaml.safe_load((folder / "proxied").read_text())
        self.kubeconfig = folder / "proxied"
        self.http = aiohttp.ClientSession(
            proxy.url,
            connector=aiohttp.TCPConnector(ssl=trust(self.kubeconfig)),
            headers={
                "Authorization": f"Bearer {config['users'][0]['user']['token']}",
                "User-Agent": "plain/1",
            },
        )

    @property
    def faults(self) -> Faults:
        return self.proxy.faults

    async def create(self, name: str) -> int:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        async with self.http.post(COLLECTION, json=body) as answer:
            return answer.status

    async def names(self) -> list[str]:
        async with self.http.get(COLLECTION) as answer:
            items = (await answer.json())["items"]
            return [item["metadata"]["name"] for item in items]

    def watch(self, version: str = "") -> Any:
        parameters = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        return self.http.get(COLLECTION, params=parameters)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    server = ApiServer()
    await server.start()
    server.write_kubeconfig(tmp_path / "direct")
    clock = LoopClock()
    async with FaultProxy(Upstream.from_kubeconfig(tmp_path / "direct"), Faults(clock), clock) as proxy:
        made = Bench(server, proxy, tmp_path)
        yield made
        await made.http.close()
    await server.stop()


async def test_without_rules_it_is_not_noticed(bench: Bench) -> None:
    connection = Connection.from_kubeconfig(bench.kubeconfig)
    client = Client(connection.transport, clock=LoopClock())
    made = await client.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default"}})
    assert (await client.get(CONFIGMAPS, "a", "default"))["metadata"]["uid"] == made["metadata"]["uid"]
    assert await bench.names() == ["a"]
    async with bench.http.get(COLLECTION, headers={"Authorization": "Bearer wrong"}) as answer:
        assert answer.status == 401
    async with bench.watch() as stream:
        assert orjson.loads(await stream.content.readline())["object"]["metadata"]["name"] == "a"
        await client.delete(CONFIGMAPS, "a", "default")
        assert orjson.loads(await stream.content.readline())["type"] == "DELETED"
    await connection.close()
    assert bench.faults.injected == ()


async def test_a_body_as_large_as_an_api_server_takes_it(bench: Bench) -> None:
    body = {"metadata": {"name": "large"}, "data": {"quotes": '"' * 600_000}}
    sent = BytesIO(orjson.dumps(body))
    async with bench.http.post(COLLECTION, data=sent, headers={"Content-Type": "application/json"}) as answer:
        assert (answer.status, len(await answer.read()) > 1_200_000) == (201, True)


async def test_headers_pass_as_they_are(tmp_path: Path) -> None:
    async def serve(request: web.BaseRequest) -> web.Response:
        told = {key.lower(): value for key, value in request.headers.items() if key != "Host"}
        groups = request.headers.getall("Impersonate-Group", [])
        return web.json_response({"headers": told, "groups": groups}, headers={"Warning": '299 - "old"'})

    upstream = web.Server(serve)
    listening = await asyncio.get_running_loop().create_server(upstream, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    clock = LoopClock()
    async with FaultProxy(Upstream(f"http://127.0.0.1:{port}", None, "t"), Faults(clock), clock) as proxy:
        proxy.write_kubeconfig(tmp_path / "k")
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=trust(tmp_path / "k"))
        lines = (
            "GET /api HTTP/1.1",
            "Host: x",
            "Impersonate-Group: a",
            "Impersonate-Group: b",
            "TE: trailers",
        )
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    listening.close()
    await upstream.shutdown(0)
    told = orjson.loads(body)
    assert told == {"headers": {"impersonate-group": "b"}, "groups": ["a", "b"]}, (
        "nothing added, nothing lost"
    )
    assert b'Warning: 299 - "old"' in head


def trust(kubeconfig: Path) -> ssl.SSLContext:
    """What a client makes of the authority in a kubeconfig."""
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    return ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())


async def test_a_script_of_answers_with_proper_bodies(bench: Bench) -> None:
    bench.faults.script(Match(verb="list"), Answer(429, retry_after=2), Answer(503), Answer(410))
    told = []
    for _ in range(4):
        async with bench.http.get(COLLECTION) as answer:
            body = await answer.json()
            told.append((answer.status, body.get("reason"), answer.headers.get("Retry-After"), body["kind"]))
    assert told == [
        (429, "TooManyRequests", "2", "Status"),
        (503, "ServiceUnavailable", None, "Status"),
        (410, "Expired", None, "Status"),
        (200, None, None, "ConfigMapList"),
    ]
    assert [each.call.verb for each in bench.faults.injected] == ["list"] * 3
    bench.faults.assert_all_used()


async def test_only_the_one_who_is_meant_meets_it(bench: Bench) -> None:
    bench.faults.add(Match(user_agent="other/*"), Answer(500), times=None, at_least=0)
    assert await bench.create("a") == 201
    async with bench.http.get(COLLECTION, headers={"User-Agent": "other/2"}) as answer:
        assert answer.status == 500


async def test_a_refused_request_has_not_happened_and_a_lost_answer_has(bench: Bench) -> None:
    bench.faults.script(Match(verb="create"), Refuse(), LoseAnswer())
    for name in ("refused", "lost"):
        with pytest.raises(aiohttp.ClientConnectionError):
            await bench.create(name)
    assert await bench.names() == ["lost"]


async def test_a_truncated_body_breaks_off(bench: Bench) -> None:
    await bench.create("a")
    bench.faults.add(Match(verb="list"), Truncate())
    with pytest.raises(aiohttp.ClientPayloadError):
        await bench.names()
    assert await bench.names() == ["a"]


async def test_a_slow_body_is_whole(bench: Bench) -> None:
    await bench.create("a")
    bench.faults.add(Match(verb="list"), Slow(size=40, pause=0.001))
    assert await bench.names() == ["a"]
    assert len(bench.faults.injected) == 1


async def test_silence_lasts_until_the_client_gives_up(bench: Bench) -> None:
    bench.faults.add(Match(verb="list"), NoAnswer())
    with pytest.raises(TimeoutError):
        async with bench.http.get(COLLECTION, timeout=aiohttp.ClientTimeout(total=0.1)):
            pass
    assert await bench.names() == []


async def lines(bench: Bench, version: str = "") -> list[tuple[str, str]]:
    """Events of a watch until it ends in good order."""
    async with bench.watch(version) as stream:
        found = [orjson.loads(line) async for line in stream.content]
    return [
        (line["type"], line["object"].get("reason") or line["object"]["metadata"]["name"]) for line in found
    ]


async def test_what_happens_to_watches(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        await bench.create(name)
    bench.faults.script(
        Match(verb="watch", resource="configmaps"),
        DropWatch(after_events=2),
        WatchError(410, after_events=1),
        CutWatch(after_events=1),
    )
    assert await lines(bench) == [("ADDED", "a"), ("ADDED", "b")]
    assert await lines(bench) == [("ADDED", "a"), ("ERROR", "Expired")]
    async with bench.watch() as stream:
        assert orjson.loads(await stream.content.readline())["object"]["metadata"]["name"] == "a"
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.content.readline()


async def test_a_half_open_watch_stays_open_and_silent(bench: Bench) -> None:
    await bench.create("a")
    bench.faults.add(Match(verb="watch"), HalfOpenWatch(after_events=1))
    async with bench.watch() as stream:
        await stream.content.readline()
        await bench.create("b")
        assert await bench.names() == ["a", "b"]
        reading = asyncio.ensure_future(stream.content.readline())
        await asyncio.wait({reading}, timeout=0.2)
        assert not reading.done()
        reading.cancel()


async def test_held_events_come_when_they_are_released(bench: Bench) -> None:
    hold = HoldEvents()
    bench.faults.add(Match(verb="watch"), hold)
    async with bench.watch() as stream:
        await bench.create("a")
        reading = asyncio.ensure_future(stream.content.readline())
        await asyncio.wait({reading}, timeout=0.1)
        assert not reading.done()
        await asyncio.to_thread(hold.release)
        assert orjson.loads(await reading)["object"]["metadata"]["name"] == "a"


async def test_a_cut_breaks_what_is_open_and_a_partition_what_comes(bench: Bench) -> None:
    async with bench.watch() as stream:
        await bench.create("a")
        await stream.content.readline()
        partition = bench.faults.partition(Match(user_agent="plain/*"))
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.content.readline()
    with pytest.raises(aiohttp.ClientConnectionError):
        await bench.create("b")
    partition.remove()
    assert await bench.names() == ["a"]


async def test_stopped_it_refuses_and_started_again_it_has_its_address(bench: Bench) -> None:
    async with bench.watch() as stream:
        await bench.create("a")
        await stream.content.readline()
        await bench.proxy.stop()
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.content.readline()
    with pytest.raises(aiohttp.ClientConnectorError):
        await bench.names()
    await bench.proxy.start()
    assert await bench.names() == ["a"]


async def test_upgrades_are_refused_by_name(bench: Bench) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    async with bench.http.get("/api/v1/namespaces/default/pods/p/exec", headers=headers) as answer:
        assert answer.status == 501
        assert "does not carry upgraded connections" in (await answer.json())["message"]


async def test_a_server_that_is_away_looks_like_a_broken_connection(bench: Bench) -> None:
    await bench.server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await bench.names()


def test_only_tokens_can_be_passed_on(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"client-certificate": "x"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "k").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigurationError, match="has no token"):
        Upstream.from_kubeconfig(tmp_path / "k")
