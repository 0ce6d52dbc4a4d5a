"""More connections than the server keeps, and clients that send slowly or nothing."""

from __future__ import annotations

import asyncio
import json
import resource

import httpx
import pytest

from kaito_presets.server import connections, errors
from presets.test_engine_interface import MESSAGES, ScriptedEngine, served

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def silent(client: httpx.AsyncClient, count: int) -> list[Stream]:
    """Connections that say nothing."""
    url = httpx.URL(client.base_url)
    return [await asyncio.open_connection(url.host, url.port) for _ in range(count)]


def close(streams: list[Stream]) -> None:
    for _, writer in streams:
        writer.close()


async def get(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """On a connection of its own."""
    async with httpx.AsyncClient(base_url=client.base_url, timeout=20) as fresh:
        return await fresh.get(path)


async def ask(client: httpx.AsyncClient, path: str = "/chat") -> httpx.Response:
    body = {"prompt": "x"} if path == "/chat" else MESSAGES
    async with httpx.AsyncClient(base_url=client.base_url, timeout=20) as fresh:
        return await fresh.post(path, json=body)


async def room_again(client: httpx.AsyncClient) -> None:
    """Until a request is answered; each asks on a new connection."""
    while (answer := await ask(client)).status_code != 200:
        assert answer.status_code == 503


async def test_those_that_say_nothing_make_room_for_those_that_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "QUIET_SECONDS", 0.0)
    async with served(ScriptedEngine(["a"]), connections=4) as client:
        streams = await silent(client, 40)
        assert (await ask(client)).json() == {"Result": "a"}
        for reader, _ in streams[:30]:  # the oldest were closed, without a word
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                continue
        close(streams)


async def test_where_all_are_new_one_too_many_is_told_to_come_later_and_probes_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "QUIET_SECONDS", 1000.0)
    async with served(ScriptedEngine(["a"]), connections=4) as client:
        streams = await silent(client, 4)
        refused = await ask(client)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["detail"].startswith("Too many connections: 4 are open.")
        error = (await ask(client, "/v1/chat/completions")).json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "too_many_connections")
        for path in sorted(connections.PROBES):
            assert (await get(client, path)).status_code == 200
        close(streams)
        for reader, _ in streams:
            await reader.read()
        await room_again(client)


async def test_far_too_many_are_closed_and_nothing_is_kept_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "QUIET_SECONDS", 1000.0)
    async with served(ScriptedEngine(["a"]), connections=4) as client:
        streams = await silent(client, 30)
        for reader, _ in streams[10:]:
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                continue
        close(streams)
        await room_again(client)


async def test_dozens_of_connections_at_once_are_answered_or_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "QUIET_SECONDS", 1000.0)
    async with served(ScriptedEngine(["a"]), connections=20) as client:
        answers = await asyncio.gather(*(ask(client) for _ in range(60)), return_exceptions=True)
        codes = {answer.status_code for answer in answers if isinstance(answer, httpx.Response)}
        assert codes <= {200, 503}
        assert 200 in codes
        await room_again(client)


async def test_a_head_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT_SECONDS", 0.2)
    async with served(ScriptedEngine(["a"], endless=True)) as client:
        ((reader, writer),) = await silent(client, 1)
        writer.write(b"POST /chat HTTP/1.1\r\nHost: x\r\n")
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(httpx.ReadTimeout):  # an answer may take as long as it wants
            await client.post("/chat", json={"prompt": "x"}, timeout=1.0)


async def test_a_body_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "BODY_SECONDS", 0.2)
    async with served(ScriptedEngine(["a"])) as client:
        ((reader, writer),) = await silent(client, 1)
        head = (
            "POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        )
        writer.write(head.encode() + b'{"prompt": ')
        head, body = (await reader.readuntil(b"\r\n\r\n")).decode(), await reader.readuntil(b"}")
        assert head.startswith("HTTP/1.1 408 ")
        assert json.loads(body) == {"detail": "The body did not arrive within 0.2 s."}
        writer.close()
        assert (await ask(client)).status_code == 200


def test_the_bound_fits_the_files_that_the_process_may_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))

    def limits(soft: int, hard: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
        return connections.room()

    assert limits(1024, 1_000_000) == connections.MOST
    assert asked == [(2 * connections.MOST + connections.SPARE_FILES, 1_000_000)]
    assert limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY) == connections.MOST
    assert not caplog.records
    assert limits(1024, 1024) == 384
    assert caplog.messages == ["This process may open 1024 files, so it keeps 384 connections, not 2048."]
