"""The HTTP proxy of the containers, over real sockets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from kaito.embedded.kubelet.proxy import HttpProxy, Upstream, parse_head
from kaito.embedded.kubelet.resolve import Destination, Elsewhere, Here, Refused
from kaito.runtime.clock import LoopClock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def site(handler: Handler) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def proxy(
    resolve: Callable[[str, int, str], Destination], upstream: Upstream | None = None
) -> AsyncIterator[HttpProxy]:
    made = HttpProxy(resolve, LoopClock(), upstream)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "path": request.path_qs,
            "host": request.host,
            "body": (await request.read()).decode(),
            "headers": {key.lower(): value for key, value in request.headers.items()},
        }
    )


async def test_a_cluster_address_becomes_a_local_port() -> None:
    asked = []
    async with site(echo) as port:

        def resolve(host: str, number: int, namespace: str) -> Destination:
            asked.append((host, number, namespace))
            return Here(port)

        async with proxy(resolve) as made, aiohttp.ClientSession() as session:
            async with session.post("http://10.96.0.5/chat?a=b", data="q", proxy=made.url("team")) as answer:
                said = await answer.json()
            async with session.get("http://web:8080", proxy=made.url("team")) as answer:
                assert answer.status == 200
    assert asked == [("10.96.0.5", 80, "team"), ("web", 8080, "team")]
    assert (said["path"], said["host"], said["body"]) == ("/chat?a=b", "10.96.0.5", "q")
    assert "proxy-authorization" not in said["headers"]


async def test_refusals_are_sentences() -> None:
    async with (
        proxy(lambda *_: Refused(503, "no endpoints available for Service a/b")) as made,
        aiohttp.ClientSession() as session,
        session.get("http://b/", proxy=made.url("a")) as answer,
    ):
        assert (answer.status, await answer.text()) == (503, "no endpoints available for Service a/b\n")


async def test_nothing_listens() -> None:
    async with site(echo) as port:
        pass
    async with (
        proxy(lambda *_: Here(port)) as made,
        aiohttp.ClientSession() as session,
        session.get("http://b/", proxy=made.url("a")) as answer,
    ):
        assert answer.status == 502
        assert "cannot connect to the process behind b" in await answer.text()


@pytest.mark.parametrize("password", ["", "wrong", None], ids=["empty", "wrong", "another namespace's"])
async def test_only_pods_may_use_it(password: str | None) -> None:
    async with proxy(lambda *_: Here(1)) as made, aiohttp.ClientSession() as session:
        if password is None:
            password = urlsplit(made.url("other")).password
        url = f"http://default:{password}@127.0.0.1:{made.port}"
        async with session.get("http://b/", proxy=url) as answer:
            assert answer.status == 407
        async with session.get(f"http://127.0.0.1:{made.port}/") as answer:
            assert answer.status == 407, "a browser that was lured here gets nothing"


async def test_bodies_stream_both_ways() -> None:
    """Each side waits for the other's piece before it sends its next one."""

    async def talk(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece, _ in request.content.iter_chunks():
            await response.write(b"got " + piece)
        await response.write_eof()
        return response

    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def say() -> AsyncIterator[bytes]:
        for word in (b"one", b"two", b"three"):
            yield word
            assert await heard.get() == b"got " + word

    async with (
        site(talk) as port,
        proxy(lambda *_: Here(port)) as made,
        aiohttp.ClientSession() as session,
        session.post("http://x/", data=say(), proxy=made.url("a")) as answer,
    ):
        async for piece in answer.content.iter_any():
            await heard.put(piece)


async def test_connect_tunnels() -> None:
    async with site(echo) as port, proxy(lambda host, number, _: Elsewhere("127.0.0.1", port)) as made:
        parts = urlsplit(made.url("a"))
        credential = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        head = f"CONNECT example.com:443 HTTP/1.1\r\nProxy-Authorization: Basic {credential}\r\n\r\n"
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for number in range(2):  # more than one request goes through a tunnel
            writer.write(f"GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            answer = await reader.readuntil(b"}}")
            assert f'"path": "/{number}"'.encode() in answer
        writer.close()
        await writer.wait_closed()


async def test_an_upstream_proxy_is_used_for_the_world_only() -> None:
    seen = []

    async def upstream(request: web.Request) -> web.Response:
        seen.append((request.raw_path, request.headers.get("Proxy-Authorization")))
        return web.Response(text="from upstream")

    async with site(upstream) as up, site(echo) as port:

        def resolve(host: str, number: int, namespace: str) -> Destination:
            return Here(port) if host == "svc" else Elsewhere(host, number)

        async with (
            proxy(resolve, Upstream.of(f"http://me:p%40ss@127.0.0.1:{up}")) as made,
            aiohttp.ClientSession() as session,
        ):
            async with session.get("http://example.com/x", proxy=made.url("a")) as answer:
                assert await answer.text() == "from upstream"
            async with session.get("http://svc/", proxy=made.url("a")) as answer:
                assert (await answer.json())["path"] == "/"
    assert seen == [("http://example.com/x", "Basic " + base64.b64encode(b"me:p@ss").decode())]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_what_is_not_http(request_bytes: bytes, status: bytes) -> None:
    async with proxy(lambda *_: Here(1)) as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(request_bytes)
        assert (await reader.readline()).split()[1] == status
        writer.close()


def test_heads() -> None:
    assert parse_head(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX:  y \r\n\r\n") == (
        "GET",
        "http://a/",
        "HTTP/1.1",
        [("Host", "a"), ("X", "y")],
    )
    with pytest.raises(ValueError, match="must look like http://host:port"):
        Upstream.of("")
