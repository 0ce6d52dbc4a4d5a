"""Scripted weather."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from kaito.runtime.errors import TransportError
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock, json_response
from kaito.runtime.transport import Request, Response, StreamedResponse

GET = Request("GET", "/x", headers={"Content-Type": "a"})


async def three_chunks() -> AsyncGenerator[bytes, None]:
    for part in (b"1", b"2", b"3"):
        yield part


async def handler(_: Request) -> Response:
    return StreamedResponse(200, three_chunks(), {"X-Test": "yes"})


async def read(response: Response) -> list[bytes]:
    seen: list[bytes] = []
    try:
        async for chunk in response.chunks():
            seen.append(chunk)  # noqa: PERF401 - what came before an error counts
    finally:
        seen.append(b"|")
        await response.close()
        LAST[:] = seen
    return seen


LAST: list[bytes] = []


async def test_answers_are_buffered_or_streamed(virtual_clock: VirtualClock) -> None:
    transport = MemoryTransport(handler, virtual_clock)
    response = await transport.send(GET)
    assert (response.status, response.headers["x-test"], await response.read()) == (200, "yes", b"123")
    stream = await transport.send(GET, stream=True)
    assert transport.open_streams == 1
    assert await read(stream) == [b"1", b"2", b"3", b"|"]
    assert transport.open_streams == 0
    assert GET.header("content-type") == "a"
    assert GET.header("other", "none") == "none"


async def test_faults_in_their_order(virtual_clock: VirtualClock) -> None:
    script = FaultScript()
    script.add(Fault(refuse="connection refused"), times=2)
    script.add(
        Fault(delay=3, answer=lambda: json_response({"kind": "Status"}, 429)),
        matches=lambda r: r.path == "/x",
    )
    script.add(Fault(refuse="never"), matches=lambda r: r.path == "/y")
    transport = MemoryTransport(handler, virtual_clock, script)
    for _ in range(2):
        with pytest.raises(TransportError, match="GET /x: connection refused"):
            await transport.send(GET)
    assert (await transport.send(GET)).status == 429
    assert virtual_clock.now() == 3
    assert (await transport.send(GET)).status == 200


async def test_a_stream_breaks_or_falls_silent(virtual_clock: VirtualClock) -> None:
    script = FaultScript()
    script.add(Fault(break_after=2))
    script.add(Fault(stall_after=1))
    script.add(Fault(break_after=0))
    transport = MemoryTransport(handler, virtual_clock, script)
    with pytest.raises(TransportError, match="reset in mid-stream"):
        await read(await transport.send(GET, stream=True))
    assert LAST == [b"1", b"2", b"|"]
    with pytest.raises(TimeoutError):
        async with virtual_clock.timeout(75):
            await read(await transport.send(GET, stream=True))
    assert (LAST, virtual_clock.now()) == ([b"1", b"|"], 75)
    with pytest.raises(TransportError):
        await transport.send(GET)


async def test_closing_ends_the_streams(virtual_clock: VirtualClock) -> None:
    transport = MemoryTransport(handler, virtual_clock)
    response = await transport.send(GET, stream=True)
    await anext(response.chunks())
    await transport.close()
    assert transport.open_streams == 0
    assert [chunk async for chunk in response.chunks()] == []
    with pytest.raises(TransportError, match="closed"):
        await transport.send(GET)


async def test_a_bug_in_the_handler_is_not_weather(virtual_clock: VirtualClock) -> None:
    server = ScriptedServer(virtual_clock, [Exchange("POST", "/y")])
    transport = MemoryTransport(server.handle, virtual_clock)
    with pytest.raises(AssertionError, match="request 1 at t=0, GET /x: method GET, expected POST"):
        await transport.send(GET)
    with pytest.raises(AssertionError):
        server.assert_done()
