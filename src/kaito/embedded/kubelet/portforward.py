"""`kubectl port-forward`: connections to a pod's ports, many over one WebSocket.

kubectl sends SPDY/3.1 frames in WebSocket messages: per connection one `error` stream and one `data` stream with the
same request id. Older clients (the Python and JavaScript ones) name their ports in the URL and number channels: 2n
for the data and 2n+1 for the errors of the n-th port, each beginning with the port number.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import WSMsgType, web

from kaito.embedded.kubelet.spdy import FLAG_FIN, Codec, Frame, SpdyError, Type
from kaito.runtime.logs import get_logger

log = get_logger(__name__)

TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"
CHANNELS: Final = ("v4.channel.k8s.io", "portforward.k8s.io")
CHUNK: Final = 64 * 1024
BACKLOG: Final = 64
"""Frames that may wait for one connection before the others wait too."""
REFUSED_STREAM: Final = 3

Port = Callable[[int], int]
"""From a container port to a port of 127.0.0.1. Raises LookupError with a sentence."""


@dataclass(slots=True)
class _Connection:
    """One forwarded connection: its two streams and what waits to be written to the pod."""

    error_stream: int = 0
    data_stream: int = 0
    port: int = 0
    inbox: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(BACKLOG))
    task: asyncio.Task[None] | None = None


class Tunnel:
    """The SPDY connection inside one WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, port: Port) -> None:
        self._socket = socket
        self._port = port
        self._codec = Codec()
        self._connections: dict[str, _Connection] = {}
        self._by_stream: dict[int, _Connection] = {}

    async def run(self) -> None:
        """Until the client leaves."""
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    continue
                for frame in self._codec.feed(message.data):
                    if frame.type == Type.GOAWAY:
                        return
                    await self._handle(frame)
        except SpdyError as error:
            log.warning("port-forward: the client does not speak SPDY/3.1", cause=str(error))
        finally:
            tasks = [c.task for c in self._connections.values() if c.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, frame: Frame) -> None:
        match frame.type:
            case Type.SYN_STREAM:
                await self._open(frame)
            case Type.DATA:
                connection = self._by_stream.get(frame.stream)
                if connection is not None and connection.data_stream == frame.stream:
                    if frame.data:
                        await connection.inbox.put(frame.data)
                    if frame.fin:
                        await connection.inbox.put(None)
            case Type.RST_STREAM:
                connection = self._by_stream.get(frame.stream)
                if connection is not None and connection.task is not None:
                    connection.task.cancel()
            case Type.PING:
                await self._send(frame)

    async def _send(self, frame: Frame) -> None:
        # No await between encode and send: header compression needs frames to leave in the order of encoding.
        await self._socket.send_bytes(self._codec.encode(frame))

    async def _open(self, frame: Frame) -> None:
        kind, port = frame.headers.get("streamtype"), frame.headers.get("port", "")
        if kind not in ("error", "data") or not port.isdigit():
            await self._send(Frame(Type.RST_STREAM, frame.stream, value=REFUSED_STREAM))
            return
        request = frame.headers.get("requestid") or str(frame.stream - (kind == "data") * 2)
        connection = self._connections.setdefault(request, _Connection(port=int(port)))
        self._by_stream[frame.stream] = connection
        if kind == "error":
            connection.error_stream = frame.stream
        else:
            connection.data_stream = frame.stream
        await self._send(Frame(Type.SYN_REPLY, frame.stream))
        if connection.error_stream and connection.data_stream and connection.task is None:
            connection.task = asyncio.create_task(
                self._serve(request, connection), name=f"forward to port {port}"
            )

    async def _serve(self, request: str, connection: _Connection) -> None:
        problem = ""
        try:
            await self._relay(connection)
        except LookupError as error:
            problem = str(error.args[0])
        except OSError as error:
            problem = f"port {connection.port} of the pod: {error.strerror or error}"
        finally:
            self._connections.pop(request, None)
            for stream in (connection.data_stream, connection.error_stream):
                self._by_stream.pop(stream, None)
        with contextlib.suppress(ConnectionError):
            await self._send(Frame(Type.DATA, connection.data_stream, FLAG_FIN))
            await self._send(Frame(Type.DATA, connection.error_stream, FLAG_FIN, data=problem.encode()))

    async def _relay(self, connection: _Connection) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port(connection.port))
        sending = asyncio.create_task(_drain_inbox(connection.inbox, writer), name="forwarded input")
        try:
            while data := await reader.read(CHUNK):
                await self._send(Frame(Type.DATA, connection.data_stream, data=data))
        finally:
            sending.cancel()
            writer.close()
            await asyncio.gather(sending, return_exceptions=True)


async def _drain_inbox(inbox: asyncio.Queue[bytes | None], writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while (data := await inbox.get()) is not None:
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def serve(request: web.Request, port: Port) -> web.StreamResponse:
    """Answer one port-forward request."""
    socket = web.WebSocketResponse(protocols=(TUNNEL, *CHANNELS), compress=False, max_msg_size=0, timeout=5.0)
    await socket.prepare(request)
    if socket.ws_protocol == TUNNEL:
        await Tunnel(socket, port).run()
    else:
        ports = [
            int(text)
            for value in request.query.getall("ports", [])
            for text in value.split(",")
            if text.isdigit()
        ]
        await _serve_channels(socket, ports, port)
    return socket


async def _serve_channels(socket: web.WebSocketResponse, ports: list[int], port: Port) -> None:
    """The older form: one connection per port, opened at once."""
    writers: dict[int, asyncio.StreamWriter] = {}
    tasks: list[asyncio.Task[None]] = []
    for index, number in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await socket.send_bytes(bytes([channel]) + struct.pack("<H", number))
        try:
            reader, writers[2 * index] = await asyncio.open_connection("127.0.0.1", port(number))
        except (LookupError, OSError) as error:
            await socket.send_bytes(bytes([2 * index + 1]) + str(error.args[0]).encode())
            continue
        tasks.append(
            asyncio.create_task(_channel_output(socket, 2 * index, reader), name=f"forward to port {number}")
        )
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data and message.data[0] in writers:
                writer = writers[message.data[0]]
                writer.write(message.data[1:])
                await writer.drain()
    except OSError:
        return
    finally:
        for writer in writers.values():
            writer.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _channel_output(socket: web.WebSocketResponse, channel: int, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(CHUNK):
        await socket.send_bytes(bytes([channel]) + data)
    await socket.close()
