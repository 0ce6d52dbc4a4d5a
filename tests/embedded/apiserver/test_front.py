"""The HTTPS face: who gets in, what the kubeconfig holds, how the server starts and stops."""

from __future__ import annotations

import io
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import CONFIGMAPS, NAMESPACES
from support.apiserver import Api

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def session(server: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that trusts the server's authority and sends its token."""
    context = ssl.create_default_context(cadata=server.ca.decode())
    headers = {"Authorization": f"Bearer {server.options.token}"}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(
        server.url, connector=connector, headers=headers, trust_env=False
    ) as session:
        yield session


async def test_the_certificate_is_good_for_its_names(server: ApiServer) -> None:
    context = ssl.create_default_context(cadata=server.ca.decode())
    port = server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession(connector=connector, trust_env=False) as session,
            session.get(f"https://{host}:{port}/healthz") as answer,
        ):
            assert (answer.status, await answer.text()) == (200, "ok")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic dXNlcjpwYXNz"])
async def test_without_the_token_nobody_gets_in(
    server: ApiServer, session: aiohttp.ClientSession, header: str
) -> None:
    for method, path in (
        ("GET", MAPS),
        ("GET", "/"),
        ("POST", MAPS),
        ("GET", f"{MAPS}?watch=1"),
        ("GET", "/version"),
    ):
        async with session.request(method, path, headers={"Authorization": header}) as answer:
            assert answer.status == 401
            assert (await answer.json())["reason"] == "Unauthorized"


async def test_health_needs_no_token(session: aiohttp.ClientSession) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        async with session.get(path, headers={"Authorization": ""}) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:443", "127.0.0.1.evil.example", "[::1]"])
async def test_a_foreign_host_header_is_refused(session: aiohttp.ClientSession, host: str) -> None:
    async with session.get(MAPS, headers={"Host": host}) as answer:
        assert answer.status == 403
        assert "does not answer to the Host" in (await answer.json())["message"]


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_what_a_browser_form_can_send_is_refused(session: aiohttp.ClientSession, media: str) -> None:
    async with session.post(
        MAPS, data=b'{"metadata":{"name":"a"}}', headers={"Content-Type": media}
    ) as answer:
        assert answer.status == 415
        assert (await answer.json())["reason"] == "UnsupportedMediaType"


async def test_a_body_that_is_too_large(session: aiohttp.ClientSession) -> None:
    body = io.BytesIO(b" " * (3 * 1024 * 1024 + 2048))
    async with session.post(MAPS, data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 413


async def test_several_warnings_are_several_header_lines(session: aiohttp.ClientSession) -> None:
    body: dict[str, Any] = {"metadata": {"name": "a"}, "one": 1, "two": 2}
    async with session.post(MAPS, json=body) as answer:
        assert answer.status == 201
        assert answer.headers.getall("Warning") == [
            '299 - "unknown field \\"one\\""',
            '299 - "unknown field \\"two\\""',
        ]


async def test_a_watch_over_the_wire_ends_with_the_server(
    server: ApiServer, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{MAPS}?watch=1") as watch:
        async with session.post(MAPS, json={"metadata": {"name": "a"}}) as answer:
            assert answer.status == 201
        assert b'"name":"a"' in await watch.content.readline()
        assert server.api.watcher.open_watches == 1
        await server.stop()
        assert await watch.content.read() == b""
    assert server.api.watcher.open_watches == 0


async def test_a_watcher_that_goes_away_is_forgotten(
    server: ApiServer, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{MAPS}?watch=1") as watch:
        assert server.api.watcher.open_watches == 1
        watch.close()
    clock = LoopClock()
    async with clock.timeout(10):
        while server.api.watcher.open_watches:
            await clock.sleep(0.01)


async def test_the_kubeconfig_is_private_and_works(server: ApiServer, tmp_path: Path) -> None:
    path = tmp_path / "dir" / "kubeconfig"
    server.write_kubeconfig(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server.write_kubeconfig(path)
    assert [each.name for each in path.parent.iterdir()] == ["kubeconfig"]
    connection = Connection.from_kubeconfig(path)
    try:
        client = Client(connection.transport, clock=LoopClock())
        names = [each["metadata"]["name"] for each in await client.list(NAMESPACES)]
        assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
    finally:
        await connection.close()


async def test_tokens_are_random_and_compared_whole() -> None:
    first, second = ApiServerOptions(), ApiServerOptions()
    assert first.token != second.token
    assert len(first.token) >= 32
    assert "token" not in repr(ApiServer(first))


async def test_only_loopback() -> None:
    for host in ("0.0.0.0", "10.0.0.1"):
        with pytest.raises(ValueError, match="loopback"):
            ApiServerOptions(host=host)


async def test_a_port_that_is_taken_fails_and_leaves_nothing(server: ApiServer) -> None:
    second = ApiServer(ApiServerOptions(port=int(server.url.rpartition(":")[2])))
    with pytest.raises(OSError, match=r"(?i)address already in use"):
        await second.start()
    await second.stop()


async def test_the_client_of_the_runtime_without_sockets(api: Api) -> None:
    transport = MemoryTransport(api.server.handle, api.clock)
    client = Client(transport, clock=api.clock, field_manager="tester")
    for index in range(5):
        await client.create(CONFIGMAPS, {"metadata": {"name": f"m{index}", "namespace": "default"}})
    assert len(await client.list(CONFIGMAPS, "default", limit=2)) == 5
    applied = await client.apply(
        CONFIGMAPS,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "m0", "namespace": "default"},
            "data": {"k": "v"},
        },
    )
    assert applied["data"] == {"k": "v"}
    await transport.close()
