"""The server over real sockets and real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from fakeapi import FakeApi
from kaito.runtime.clock import LoopClock
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.resources import CRDS, Resource
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.webhook import (
    AdmissionRequest,
    Allow,
    CertificateError,
    Deny,
    WebhookOptions,
    WebhookServer,
    mutate_path,
    validate_path,
)
from kaito.runtime.webhook.certwatcher import CertificateWatcher
from kaito.runtime.webhook.metrics import WebhookMetrics
from kaito.runtime.webhook.terms import Certificates
from support.webhooks import MUTATE, VALIDATE, WIDGETS, made, review, widget, write_pair

CLOCK = LoopClock()


def judge(request: AdmissionRequest) -> Deny | None:
    size = (request.object or {})["spec"].get("size", 0)
    if size < 0:
        raise RuntimeError("the password is hunter2")
    return Deny("too big") if size > 10 else None


async def never(request: AdmissionRequest) -> None:
    await asyncio.get_running_loop().create_future()


class Served:
    """A running server and a client that trusts its certificate."""

    def __init__(self, server: WebhookServer, certificates: Certificates, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.trusted = certificates.bundle

    async def post(self, path: str, body: Any, **more: Any) -> tuple[int, Any]:
        context = ssl.create_default_context(cadata=self.trusted.decode())
        headers = more.pop("headers", {"Content-Type": "application/json"})
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, force_close=True)) as session,
            session.post(
                f"https://127.0.0.1:{self.server.port}{path}",
                data=body,
                headers=headers,
                server_hostname="localhost",
                **more,
            ) as response,
        ):
            if response.content_type == "application/json":
                return response.status, (await response.json())["response"]
            return response.status, await response.text()

    def metric(self, name: str, **labels: str) -> float | None:
        registry = CollectorRegistry()
        registry.register(_Source(self.server.metrics))
        return registry.get_sample_value(name, labels)


class _Source(Collector):
    def __init__(self, metrics: WebhookMetrics) -> None:
        self.collect = metrics.collect  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def serving(directory: Path, **options: Any) -> AsyncIterator[Served]:
    certificates = made()
    write_pair(directory, certificates)
    server = WebhookServer(
        clock=CLOCK, options=WebhookOptions(address="127.0.0.1:0", directory=directory, **options)
    )
    server.validate(WIDGETS)(judge)
    server.add("/slow", never, mutating=False)
    server.add("/warn", lambda request: Allow(warnings=["old"]), mutating=False)

    @server.mutate(WIDGETS)
    def default(request: AdmissionRequest) -> dict[str, Any] | None:
        assert request.object is not None
        request.object["spec"].setdefault("size", 3)
        return request.object

    @server.convert
    def convert(obj: dict[str, Any], wanted: str) -> dict[str, Any]:
        raise RuntimeError("boom")

    running = asyncio.create_task(server.run())
    try:
        while True:
            await CLOCK.sleep(0)
            if running.done():
                running.result()
            with contextlib.suppress(RuntimeError):
                assert server.port
                break
        yield Served(server, certificates, directory)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


def test_paths_are_those_of_controller_runtime() -> None:
    assert (validate_path(WIDGETS), mutate_path(WIDGETS)) == (VALIDATE, MUTATE)
    assert validate_path(Resource("", "v1", "pods", "Pod")) == "/validate--v1-pod"
    assert mutate_path(CRDS) == "/mutate-apiextensions-k8s-io-v1-customresourcedefinition"


async def test_reviews_are_answered_over_tls(served: Served) -> None:
    assert await served.post(VALIDATE, review(widget(size=1))) == (200, {"uid": "u-1", "allowed": True})
    status, response = await served.post(VALIDATE, review(widget(size=11)))
    assert (status, response["allowed"], response["status"]["message"]) == (200, False, "too big")
    status, response = await served.post(MUTATE, review(widget()))
    assert (status, response["patchType"]) == (200, "JSONPatch")


async def test_a_failing_handler_is_a_500_with_the_uid_and_without_its_words(served: Served) -> None:
    status, response = await served.post(VALIDATE, review(widget(size=-1)))
    assert status == 200
    assert response["uid"] == "u-1"
    assert response["allowed"] is False
    assert response["status"]["code"] == 500
    assert "hunter2" not in str(response)
    assert served.metric("controller_runtime_webhook_panics_total") == 1
    assert (await served.post(VALIDATE, review(widget(size=1))))[1]["allowed"], "and the server goes on"


async def test_bad_bodies(served: Served) -> None:
    assert await served.post(VALIDATE, b"") == (400, "the body is empty; an AdmissionReview is expected\n")
    status, text = await served.post(VALIDATE, review(widget()), headers={"Content-Type": "text/plain"})
    assert (status, "not application/json" in text) == (400, True)
    status, text = await served.post(VALIDATE, b"{}")
    assert (status, "AdmissionReview" in text) == (400, True)
    status, text = await served.post(VALIDATE, io.BytesIO(b" " * (7 * 1024 * 1024 + 1)))
    assert (status, "more than 7340032 bytes" in text) == (413, True)
    assert (await served.post("/else", b"{}"))[0] == 404


async def test_a_body_of_unknown_length_is_limited_too(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 600

    async with serving(tmp_path, max_body=2000) as served:
        assert (await served.post(VALIDATE, chunks()))[0] == 413


@pytest.mark.parametrize(("ours", "theirs"), [(10.0, "50ms"), (0.05, "10s")])
async def test_the_shorter_timeout_ends_a_slow_handler(tmp_path: Path, ours: float, theirs: str) -> None:
    """The API server says how long it waits; the handlers' own limit may be less."""
    async with serving(tmp_path, handler_timeout=ours) as served:
        status, response = await served.post(f"/slow?timeout={theirs}", review(widget()))
    assert (status, response["allowed"]) == (200, False)
    assert (response["status"]["code"], response["status"]["message"]) == (
        504,
        "the webhook did not decide within 0.05 s",
    )


async def test_decisions_are_counted(served: Served) -> None:
    decided = "kaito_webhook_decisions_total"
    for size in (1, 2, 11, -1):
        await served.post(VALIDATE, review(widget(size=size)))
    await served.post("/warn", review(widget()))
    found = {
        decision: served.metric(decided, webhook=VALIDATE, decision=decision)
        for decision in ("allowed", "warned", "refused", "failed")
    }
    assert found == {"allowed": 2, "warned": 0, "refused": 1, "failed": 1}
    assert served.metric(decided, webhook="/warn", decision="warned") == 1
    assert served.metric(decided, webhook="/convert", decision="failed") is None, "decides nothing"
    assert (served.metric("kaito_webhook_certificate_expiry_timestamp_seconds") or 0) > 1e9


async def test_metrics_begin_at_zero_and_count(served: Served) -> None:
    requests, flying = (
        "controller_runtime_webhook_requests_total",
        "controller_runtime_webhook_requests_in_flight",
    )
    for path in (VALIDATE, MUTATE, "/convert"):
        assert served.metric(requests, webhook=path, code="200") == 0
        assert served.metric(requests, webhook=path, code="500") == 0
        assert served.metric(flying, webhook=path) == 0
        assert served.metric("controller_runtime_webhook_latency_seconds_count", webhook=path) == 0
    assert served.metric("controller_runtime_webhook_panics_total") == 0
    assert served.metric("controller_runtime_conversion_webhook_panics_total") == 0
    assert served.metric("certwatcher_read_certificate_total") == 1
    assert served.metric("certwatcher_read_certificate_errors_total") == 0

    slow = asyncio.create_task(served.post("/slow", review(widget())))
    while served.metric(flying, webhook="/slow") != 1:
        await CLOCK.sleep(0)
    slow.cancel()
    await served.post(VALIDATE, review(widget(size=1)))
    await served.post(VALIDATE, b"")
    conversion = b'{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": '
    conversion += (
        b'{"uid": "1", "desiredAPIVersion": "example.com/v2", "objects": [{"apiVersion": "example.com/v1"}]}}'
    )
    assert (await served.post("/convert", conversion))[0] == 500
    assert served.metric(requests, webhook=VALIDATE, code="200") == 1
    assert served.metric(requests, webhook=VALIDATE, code="400") == 1
    assert served.metric("controller_runtime_webhook_latency_seconds_count", webhook=VALIDATE) == 2
    assert served.metric("controller_runtime_conversion_webhook_panics_total") == 1
    assert served.metric("controller_runtime_webhook_panics_total") == 0


async def test_a_renewed_certificate_is_served_at_the_next_handshake(served: Served) -> None:
    renewed = made()
    write_pair(served.directory, renewed)
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await served.post(VALIDATE, review(widget(size=1)))
    served.trusted = renewed.bundle
    assert (await served.post(VALIDATE, review(widget(size=1))))[0] == 200
    assert served.metric("certwatcher_read_certificate_total") == 2


async def test_a_broken_pair_is_counted_and_the_old_one_stays(served: Served) -> None:
    (served.directory / "tls.key").write_bytes(made().key)
    assert (await served.post(VALIDATE, review(widget(size=1))))[0] == 200
    await served.server.check()
    (served.directory / "tls.crt").write_bytes(b"half a certifi")
    assert (await served.post(VALIDATE, review(widget(size=1))))[0] == 200
    assert served.metric("certwatcher_read_certificate_errors_total") == 2
    assert (await served.post(VALIDATE, review(widget(size=1))))[0] == 200
    assert served.metric("certwatcher_read_certificate_total") == 3, (
        "the same broken files are not read again"
    )


async def test_files_are_looked_at_every_ten_seconds(virtual_clock: VirtualClock, tmp_path: Path) -> None:
    write_pair(tmp_path, made())
    metrics = WebhookMetrics()
    watcher = CertificateWatcher(tmp_path, metrics)
    watcher.open()
    running = asyncio.create_task(watcher.run(virtual_clock))
    write_pair(tmp_path, made())
    await virtual_clock.sleep(9.9)
    assert metrics.certificate_reads == 1
    await virtual_clock.sleep(0.2)
    assert metrics.certificate_reads == 2
    running.cancel()


async def test_without_a_certificate_it_does_not_start(tmp_path: Path) -> None:
    server = WebhookServer(clock=CLOCK, options=WebhookOptions(address="127.0.0.1:0", directory=tmp_path))
    with pytest.raises(CertificateError, match=r"tls.crt, .*tls.key not found"):
        await server.run()
    with pytest.raises(RuntimeError, match="not listening"):
        await server.check()


async def test_the_ready_check_dials_and_sees_an_expired_certificate(served: Served) -> None:
    await served.server.check()
    expired = made(days=10, age=20)
    write_pair(served.directory, expired)
    with pytest.raises(ssl.SSLError, match="certificate has expired"):
        await served.server.check()


async def test_client_certificates(tmp_path: Path) -> None:
    authority = made()
    (tmp_path / "clients.pem").write_bytes(authority.bundle)
    async with serving(tmp_path, client_ca=tmp_path / "clients.pem") as served:
        await served.server.check()
        with pytest.raises((aiohttp.ClientError, OSError)):
            await served.post(VALIDATE, review(widget(size=1)))
        write_pair(tmp_path, made())
        served.trusted = (tmp_path / "tls.crt").read_bytes()
        with pytest.raises((aiohttp.ClientError, OSError)):
            await served.post(VALIDATE, review(widget(size=1)))


def test_one_path_does_one_thing() -> None:
    server = WebhookServer(clock=CLOCK)
    server.validate(WIDGETS)(judge)
    with pytest.raises(ValueError, match="cannot both validate and mutate"):
        server.add(VALIDATE, judge, mutating=True)
    with pytest.raises(ValueError, match="begin with a slash"):
        server.add("validate", judge, mutating=False)
    server.convert(lambda obj, wanted: obj)
    with pytest.raises(ValueError, match="is taken"):
        server.convert(lambda obj, wanted: obj)


async def test_in_a_manager_it_is_ready_before_the_caches(tmp_path: Path) -> None:
    write_pair(tmp_path, made())
    clock = CLOCK
    manager = Manager(
        FakeApi(clock).client(), clock=clock, options=ManagerOptions(health_address="127.0.0.1:0")
    )
    server = WebhookServer(clock=clock, options=WebhookOptions(address="127.0.0.1:0", directory=tmp_path))
    server.validate(WIDGETS)(judge)
    server.add_to(manager)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    async with aiohttp.ClientSession() as session:
        for _ in range(1000):
            await clock.sleep(0)
            with contextlib.suppress(RuntimeError, aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{manager.health_port}/readyz/webhooks") as response:
                    if response.status == 200:
                        break
        else:
            pytest.fail("never ready")
    assert b"controller_runtime_webhook_requests_total" in generate_latest(manager.metrics.registry)
    stop.set()
    await running
