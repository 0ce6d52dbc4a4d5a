"""One program, started through the shim: its streams, its end, and the lifeline that ties it to the kubelet.

The kubelet's end of the shim's control socket is never inherited by anybody, so when the kubelet dies, however it
dies, the socket closes and the shim kills the program and its descendants.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import struct
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kaito.runtime.clock import Clock

SHIM: Final = str(Path(__file__).with_name("shim.py"))
STDOUT: Final = 1
STDERR: Final = 2
READ_SIZE: Final = 65536
DRAIN_LIMIT: Final = 2.0
"""Seconds to wait for the end of the output after the program has ended."""
STDIN_BUFFER: Final = 1 << 20

OnOutput = Callable[[int, bytes], None]


class StartFailed(Exception):
    """The program could not be started; the text is for the user."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run. `env` is the whole environment; with `tty` the streams are one pseudo-terminal."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    stdin: bool = False
    tty: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """How it ended. `code` is 128 + signal number when a signal ended it, as container engines report it."""

    code: int
    signal: int = 0


class _Output:
    """Reads one descriptor whenever there is something, until its end."""

    def __init__(self, fd: int, stream: int, sink: OnOutput) -> None:
        os.set_blocking(fd, False)
        self._fd, self._stream, self._sink = fd, stream, sink
        self._loop = asyncio.get_running_loop()
        self._paused = True
        self.ended = asyncio.Event()
        self.resume()

    def _read(self) -> bool:
        """One read; False when nothing is there now, or ever."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the terminal's other side has been closed
            data = b""
        if not data:
            self.close()
            return False
        self._sink(self._stream, data)
        return True

    def pause(self) -> None:
        if not self._paused and not self.ended.is_set():
            self._loop.remove_reader(self._fd)
        self._paused = True

    def resume(self) -> None:
        if self._paused and not self.ended.is_set():
            self._loop.add_reader(self._fd, self._read)
        self._paused = False

    def drain(self) -> None:
        """Read what is there already."""
        while not self.ended.is_set() and self._read():
            pass

    def close(self) -> None:
        if self.ended.is_set():
            return
        if not self._paused:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self.ended.set()


class _Input(asyncio.BaseProtocol):
    """The write side of stdin with back-pressure."""

    def __init__(self) -> None:
        self._writable = asyncio.Event()
        self._writable.set()
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        transport.set_write_buffer_limits(STDIN_BUFFER)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._writable.set()

    async def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
            await self._writable.wait()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Process:
    """A running program. Make one with `start`; always `await wait()` or `await kill()` it."""

    def __init__(self, spec: ProcessSpec, clock: Clock) -> None:
        self.spec = spec
        self.pid = 0
        self._clock = clock
        self._outputs: list[_Output] = []
        self._input: _Input | None = None
        self._terminal: int | None = None
        self._slave: int | None = None
        self._shim: asyncio.subprocess.Process | None = None
        self._control: asyncio.StreamWriter | None = None
        self._ending: asyncio.Task[Exit] | None = None

    @classmethod
    async def start(cls, spec: ProcessSpec, on_output: OnOutput, clock: Clock) -> Process:
        """Start it. `on_output(STDOUT | STDERR, data)` is called from the loop. Raises StartFailed."""
        process = cls(spec, clock)
        ours, theirs = socket.socketpair()
        given: list[int] = []
        try:
            fds = await process._open_streams(on_output, given)
            words = [str(theirs.fileno()), *map(str, fds), str(int(spec.tty)), "--", *spec.argv]
            with theirs:
                process._shim = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", SHIM, *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=fds[2],
                    cwd=spec.cwd,
                    env=dict(spec.env),
                    pass_fds=(theirs.fileno(), *{fd for fd in fds if fd >= 0}),
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            process._close_streams()
            ours.close()
            raise StartFailed(f"cannot start a process: {error.strerror or error}") from error
        except BaseException:
            process._close_streams()
            ours.close()
            raise
        finally:
            theirs.close()
            for fd in given:
                os.close(fd)
        reader, process._control = await asyncio.open_connection(sock=ours)
        try:
            first = json.loads(await reader.readline() or b'{"failed": "the starter of programs broke off"}')
        except BaseException:
            process._control.close()
            process._close_streams()
            assert process._shim is not None
            await process._shim.wait()  # it ends with its control socket
            raise
        process.pid = int(first.get("pid", 0))
        process._ending = asyncio.create_task(process._end(reader), name=f"end of process {process.pid}")
        if "failed" in first:
            await process.wait()
            raise StartFailed(first["failed"])
        return process

    async def _open_streams(self, on_output: OnOutput, given: list[int]) -> list[int]:
        """Open our ends; the descriptors for the shim, also put into `given` so that they get closed."""
        loop = asyncio.get_running_loop()
        if self.spec.tty:
            master, slave = pty.openpty()
            # Our copy of the slave keeps the last output in the terminal until it has been read.
            self._terminal, self._slave = master, slave
            self._outputs = [_Output(master, STDOUT, on_output)]
            _, self._input = await loop.connect_write_pipe(_Input, os.fdopen(os.dup(master), "wb", 0))
            return [slave, slave, slave]
        fds = [-1]
        if self.spec.stdin:
            reader, writer = os.pipe()
            given.append(reader)
            fds[0] = reader
            _, self._input = await loop.connect_write_pipe(_Input, os.fdopen(writer, "wb", 0))
        for stream in (STDOUT, STDERR):
            reader, writer = os.pipe()
            given.append(writer)
            fds.append(writer)
            self._outputs.append(_Output(reader, stream, on_output))
        return fds

    async def _end(self, reader: asyncio.StreamReader) -> Exit:
        """Wait for the end, then for the last output."""
        assert self._shim is not None
        assert self._control is not None
        try:
            line = await reader.readline()
        except OSError:
            line = b""
        if not line and self.pid:
            self._send(signal.SIGKILL)  # the shim was killed: nobody else looks after its program
        said = json.loads(line or b'{"signal": 9}')
        number = int(said.get("signal", 0))
        if self._slave is not None:
            for output in self._outputs:
                output.drain()
        else:
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(DRAIN_LIMIT):
                    for output in self._outputs:
                        output.resume()
                        await output.ended.wait()
        self._control.close()
        self._close_streams()
        await self._shim.wait()
        return Exit(128 + number if number else int(said.get("code", 0)), number)

    def _close_streams(self) -> None:
        for output in self._outputs:
            output.close()
        if self._input is not None:
            self._input.abort()
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None
        self._terminal = None

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    @property
    def ended(self) -> bool:
        return self._ending is None or self._ending.done()

    def signal(self, number: int) -> None:
        """Send a signal to the program's process group."""
        if not self.ended:
            self._send(number)

    async def wait(self) -> Exit:
        """How it ended, once its output has been read. Cancelling this does not end the program."""
        assert self._ending is not None
        return await asyncio.shield(self._ending)

    async def stop(self, grace: float) -> Exit:
        """SIGTERM, `grace` seconds, SIGKILL."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(grace):
                return await self.wait()
        return await self.kill()

    async def kill(self) -> Exit:
        """SIGKILL to it and its descendants (closing the lifeline sees to those)."""
        self.signal(signal.SIGKILL)
        return await self.wait()

    async def write(self, data: bytes) -> None:
        """Give it input; waits while it does not read. Without effect once stdin is closed."""
        if self._input is not None:
            await self._input.write(data)

    async def close_input(self) -> None:
        """End of input. On a terminal that is the end-of-file character."""
        if self._input is None:
            return
        if self.spec.tty:
            await self._input.write(b"\x04")
        else:
            self._input.close()

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size in characters."""
        if self._terminal is not None and self._slave is not None:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def pause(self) -> None:
        """Stop reading output, so that the program feels a slow reader."""
        for output in self._outputs:
            output.pause()

    def resume(self) -> None:
        for output in self._outputs:
            output.resume()
