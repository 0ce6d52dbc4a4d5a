"""Probes and metrics over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from kaito.runtime.health import HttpServer, Probe, metrics_routes, probe_routes, split_address


def broken() -> None:
    raise RuntimeError("the password is hunter2")


async def slow_but_fine() -> None:
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)


@pytest.fixture
async def base() -> AsyncIterator[str]:
    live, ready = Probe("healthz"), Probe("readyz")
    live.add("disk", slow_but_fine)
    ready.add("caches", broken)
    registry = CollectorRegistry()
    Counter("demo_requests", "Requests", registry=registry).inc(3)
    server = HttpServer("127.0.0.1:0", [*probe_routes(live, ready), *metrics_routes(registry)])
    await server.start()
    yield f"http://127.0.0.1:{server.port}"
    await server.stop()


@pytest.mark.conforms("controller-runtime manager healthz and readyz")
@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/healthz", 200, "ok"),
        ("/healthz?verbose", 200, "[+]ping ok\n[+]disk ok\nhealthz check passed\n"),
        ("/healthz/disk", 200, "ok"),
        ("/healthz/nope", 404, "healthz has no check named 'nope'\n"),
        ("/readyz", 500, "[+]ping ok\n[-]caches failed: reason withheld\nreadyz check failed\n"),
        ("/readyz?exclude=caches", 200, "ok"),
        ("/readyz/ping", 200, "ok"),
        ("/elsewhere", 404, "404: Not Found"),
    ],
)
async def test_probes(base: str, path: str, status: int, text: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(base + path) as response:
        assert (response.status, await response.text()) == (status, text)


async def test_metrics_are_served(base: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(base + "/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        assert "demo_requests_total 3.0" in await response.text()


@pytest.mark.conforms("controller-runtime manager should error when a port is in use")
async def test_a_taken_port_is_an_error_and_leaves_nothing_behind(base: str) -> None:
    server = HttpServer(base.removeprefix("http://"), [])
    with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:\d+: address already in use; end what"):
        await server.start()
    with pytest.raises(RuntimeError, match="not listening"):
        _ = server.port
    await server.stop()


def test_check_names_are_unique() -> None:
    probe = Probe("healthz")
    with pytest.raises(ValueError, match="already has a check named 'ping'"):
        probe.add("ping", lambda: None)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), (":8080", (None, 8080)), ("[::1]:0", ("::1", 0))],
)
def test_addresses(address: str, parts: tuple[str | None, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["localhost", "8080", "a:b", "1.2.3.4:99999"])
def test_bad_addresses_say_what_to_write(address: str) -> None:
    with pytest.raises(ValueError, match=r"write for example 127\.0\.0\.1:8080"):
        split_address(address)
