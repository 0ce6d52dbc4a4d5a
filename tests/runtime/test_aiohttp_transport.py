"""The transport over real sockets on loopback: order and counts, never durations."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from kaito.runtime.aiohttp_transport import AioHttpTransport, Authentication
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.errors import TransportError
from kaito.runtime.informer import Informer
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.selection import Selection
from kaito.runtime.testing import watch_line
from kaito.runtime.transport import Request
from runtime.sockets import make_certificates, serving

CLOCK = LoopClock()


async def test_a_request_arrives_as_it_was_meant() -> None:
    seen: list[tuple[str, str, str, bytes, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(
            (
                request.method,
                request.raw_path,
                request.query_string,
                await request.read(),
                request.headers.get("X-A"),
            )
        )
        return web.json_response({"ok": True}, status=201, headers={"X-B": "c"})

    async with serving(handler) as url:
        transport = AioHttpTransport(url + "/", clock=CLOCK)
        query = (("labelSelector", "a=b,c in (d)"), ("continue", "x+/="))
        response = await transport.send(
            Request("PATCH", "/api/v1/x%2Fy", query, {"X-A": "1"}, b"{}"), timeout=10
        )
        assert (response.status, response.headers["x-b"], await response.read()) == (
            201,
            "c",
            b'{"ok": true}',
        )
        await transport.close()
        with pytest.raises(TransportError, match="has been closed"):
            await transport.send(Request("GET", "/"))
    method, path, _, body, header = seen[0]
    assert (method, path.split("?")[0], body, header) == ("PATCH", "/api/v1/x%2Fy", b"{}", "1")
    assert parse_qsl(seen[0][2]) == list(query)


async def test_large_bodies_are_sent_whole() -> None:
    sizes: list[tuple[int, int | None]] = []

    async def handler(request: web.Request) -> web.Response:
        arrived = sum([len(chunk) async for chunk in request.content.iter_any()])
        sizes.append((arrived, request.content_length))
        return web.json_response({})

    async with serving(handler) as url:
        transport = AioHttpTransport(url, clock=CLOCK)
        for size in (3, 1 << 19, (1 << 19) + 1, 3 << 20):
            await transport.send(Request("POST", "/", (), {}, b"x" * size), timeout=30)
        await transport.close()
    assert sizes == [(size, size) for size in (3, 1 << 19, (1 << 19) + 1, 3 << 20)]


async def test_streams_arrive_in_pieces_and_may_be_left_early() -> None:
    left = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await response.write(b"one")
            await asyncio.Event().wait()
        finally:
            left.set()
        return response

    async with serving(handler) as url:
        transport = AioHttpTransport(url, clock=CLOCK)
        response = await transport.send(Request("GET", "/watch"), timeout=10, stream=True)
        chunks = response.chunks()
        assert await anext(chunks) == b"one"
        await response.close()
        await response.close()
        async with CLOCK.timeout(10):
            await left.wait()
        await transport.close()


async def test_a_connection_cut_in_mid_stream_is_an_error() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with serving(handler) as url:
        transport = AioHttpTransport(url, clock=CLOCK)
        response = await transport.send(Request("GET", "/watch"), timeout=10, stream=True)
        with pytest.raises(TransportError, match="connection lost"):
            [chunk async for chunk in response.chunks()]
        await response.close()
        await transport.close()


async def test_nobody_listening_is_an_error_with_the_address() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(handler) as url:
        pass
    transport = AioHttpTransport(url, clock=CLOCK)
    with pytest.raises(TransportError) as caught:
        await transport.send(Request("GET", "/x"), timeout=10)
    assert str(caught.value) == f"GET {url}/x: cannot connect: connection refused"
    await transport.close()


async def test_an_answer_that_never_comes_is_given_up() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(handler) as url:
        transport = AioHttpTransport(url, clock=CLOCK)
        with pytest.raises(TransportError, match=r"no answer within 0.05 s"):
            await transport.send(Request("GET", "/x"), timeout=0.05)
        await transport.close()


class _Rotating:
    """Gives a new token after each refusal."""

    def __init__(self) -> None:
        self.number = 1

    async def current(self) -> Authentication:
        return Authentication(f"Bearer token-{self.number}")

    def rejected(self) -> None:
        self.number += 1


async def test_credentials_are_sent_and_learn_of_a_refusal() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers["Authorization"] == "Bearer token-2" else 401)

    async with serving(handler) as url:
        transport = AioHttpTransport(url, clock=CLOCK, credentials=_Rotating())
        statuses = [(await transport.send(Request("GET", "/x"), timeout=10)).status for _ in range(3)]
        await transport.close()
    assert statuses == [401, 200, 200]
    assert "secret" not in repr(Authentication("Bearer secret"))


async def test_tls_checks_the_server_and_shows_a_client_certificate(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "a", host="api.cluster.example")
    strangers = make_certificates(tmp_path / "b", host="api.cluster.example")

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peercert")
        return web.json_response(peer["subject"][0][0][1])

    context = certificates.client_context()
    context.load_cert_chain(certificates.client, certificates.client_key)
    async with serving(handler, certificates.server_context(ask_client=True)) as url:
        right = AioHttpTransport(url, clock=CLOCK, ssl_context=context, server_hostname="api.cluster.example")
        answer = await right.send(Request("GET", "/x"), timeout=10)
        assert await answer.read() == b'"somebody"'
        await right.close()
        wrong_name = AioHttpTransport(url, clock=CLOCK, ssl_context=context)
        with pytest.raises(TransportError, match="certificate verify failed"):
            await wrong_name.send(Request("GET", "/x"), timeout=10)
        await wrong_name.close()
        other_ca = strangers.client_context()
        wrong_ca = AioHttpTransport(
            url, clock=CLOCK, ssl_context=other_ca, server_hostname="api.cluster.example"
        )
        with pytest.raises(TransportError, match="certificate verify failed"):
            await wrong_ca.send(Request("GET", "/x"), timeout=10)
        await wrong_ca.close()


async def test_an_explicit_proxy_is_used_and_the_environment_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxy(request: web.Request) -> web.Response:
        return web.Response(text=f"proxied {request.raw_path}")

    async def server(_: web.Request) -> web.Response:
        return web.Response(text="direct")

    async with serving(proxy) as proxy_url, serving(server) as url:
        monkeypatch.setenv("http_proxy", proxy_url)
        for explicit, expected in ((None, "direct"), (proxy_url, f"proxied {url}/x")):
            transport = AioHttpTransport(url, clock=CLOCK, proxy=explicit)
            response = await transport.send(Request("GET", "/x"), timeout=10)
            assert (await response.read()).decode() == expected
            await transport.close()


async def test_an_informer_survives_restarts_and_large_events() -> None:
    """Three connections: the first watch breaks off, the second ends, the third brings a 5 MiB object."""
    watches = 0
    large = "x" * (5 << 20)

    def config_map(name: str, version: int, **data: str) -> dict[str, object]:
        return {
            "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version)},
            "data": data,
        }

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal watches
        assert request.headers["Accept-Encoding"] == "identity"
        if request.query.get("watch") != "1":
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [config_map("a", 1)]})
        watches += 1
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(watch_line("ADDED", config_map(f"b{watches}", watches + 1)))
        if watches == 1:
            assert request.transport is not None
            request.transport.abort()
        if watches == 3:
            await response.write(watch_line("ADDED", config_map("large", 9, blob=large)))
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return response

    async with serving(handler) as url:
        client = Client(AioHttpTransport(url, clock=CLOCK), clock=CLOCK)
        informer = Informer(client, Selection(CONFIGMAPS), options=ReflectorOptions(watch_list=False))
        running = asyncio.ensure_future(informer.run())
        assert await informer.wait_seen("9", timeout=20)
        assert sorted(obj.key.name for obj in informer.lister.list()) == ["a", "b1", "b2", "b3", "large"]
        found = informer.lister.get("large", "ns")
        assert found is not None
        assert found.decode()["data"]["blob"] == large
        assert informer.stats.lists == 1
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await client.transport.close()


async def test_closing_the_transport_ends_streams_that_are_being_read(tmp_path: Path) -> None:
    hold = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await hold.wait()
        return response

    certificates = make_certificates(tmp_path)
    async with serving(silent, certificates.server_context()) as url:
        transport = AioHttpTransport(url, ssl_context=certificates.client_context())
        response = await transport.send(Request("GET", "/"), stream=True)
        reading = asyncio.ensure_future(anext(response.chunks()))
        await LoopClock().sleep(0)
        await transport.close()
        with pytest.raises(TransportError, match="mid-stream"):
            await reading
