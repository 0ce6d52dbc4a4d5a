"""Asks the questions of probes and lifecycle hooks, at the times the state machine says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from kaito.embedded.kubelet.allocation import named_port
from kaito.embedded.kubelet.containers import ContainerRun
from kaito.embedded.kubelet.probes import ProbeKind, ProbeSpec, ProbeState, advance, first_look
from kaito.embedded.kubelet.processes import StartFailed
from kaito.runtime.clock import Clock

MESSAGE_LIMIT: Final = 10 * 1024
"""Bytes of a probe's output that go into events and messages."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe saw; `message` explains a failure."""

    ok: bool
    message: str = ""


Ask = Callable[[ProbeSpec], Awaitable[Answer]]
Report = Callable[[ProbeSpec, ProbeState, Answer], None]


async def watch(container: Mapping[str, Any], ask: Ask, report: Report, clock: Clock) -> None:
    """Run all probes of a container that has just started, until cancelled.

    `report` is called after each answer, with the state it leads to. Liveness and readiness wait for the startup
    probe; their initial delays count from the container's start.
    """
    started_at = clock.now()
    startup = ProbeSpec.of(ProbeKind.STARTUP, container)
    if startup is not None and not await _until_decided(startup, ask, report, clock, started_at):
        return
    allowed_at = clock.now()
    async with asyncio.TaskGroup() as group:
        for kind in (ProbeKind.LIVENESS, ProbeKind.READINESS):
            spec = ProbeSpec.of(kind, container)
            if spec is not None:
                group.create_task(
                    _forever(spec, ask, report, clock, first_look(spec, started_at, allowed_at))
                )


async def _until_decided(spec: ProbeSpec, ask: Ask, report: Report, clock: Clock, started_at: float) -> bool:
    """Run the startup probe to its verdict."""
    state = ProbeState()
    next_at = first_look(spec, started_at, started_at)
    while True:
        await clock.sleep(next_at - clock.now())
        answer = await ask(spec)
        state = advance(spec, state, answer.ok)
        report(spec, state, answer)
        if state.passing is not None:
            return state.passing
        next_at = max(next_at + spec.period, clock.now())


async def _forever(spec: ProbeSpec, ask: Ask, report: Report, clock: Clock, next_at: float) -> None:
    state = ProbeState()
    while True:
        await clock.sleep(next_at - clock.now())
        answer = await ask(spec)
        state = advance(spec, state, answer.ok)
        report(spec, state, answer)
        next_at = max(next_at + spec.period, clock.now())


class Asker:
    """Carries out the actions of probes and hooks against one container."""

    def __init__(
        self,
        container: Mapping[str, Any],
        run: ContainerRun,
        address: str,
        ports: Mapping[int, int],
        session: aiohttp.ClientSession,
        clock: Clock,
    ) -> None:
        """`address` is the pod's virtual one, for messages; `ports` says where its ports really are."""
        self._container = container
        self._run = run
        self._address = address
        self._ports = ports
        self._session = session
        self._clock = clock

    async def probe(self, spec: ProbeSpec) -> Answer:
        """One question, bounded by the probe's timeout."""
        return await self.act(spec.handler, spec.timeout)

    async def act(self, handler: Mapping[str, Any], timeout: float | None) -> Answer:
        """Carry out an `exec`, `httpGet`, `tcpSocket` or `sleep` action."""
        try:
            async with self._clock.timeout(timeout):
                if "httpGet" in handler:
                    return await self._http(handler["httpGet"])
                if "tcpSocket" in handler:
                    return await self._tcp(handler["tcpSocket"])
                if "exec" in handler:
                    return await self._exec(handler["exec"])
                if "sleep" in handler:
                    await self._clock.sleep(float(handler["sleep"].get("seconds") or 0))
                    return Answer(True)
        except TimeoutError:
            return Answer(False, f"context deadline exceeded: no answer within {timeout:g} s")
        except _Unanswerable as error:
            return Answer(False, str(error))
        return Answer(False, "this kind of probe is not implemented here; use httpGet, tcpSocket or exec")

    def _port(self, port: int | str) -> tuple[int, int]:
        """The container port meant, and the port of 127.0.0.1 that stands for it."""
        number = named_port([dict(self._container)], port)
        host_port = self._ports.get(number) if number is not None else None
        if number is None or host_port is None:
            raise _Unanswerable(
                f"port {port} is not among the container's ports; on this node only declared ports are reachable"
            )
        return number, host_port

    async def _http(self, action: Mapping[str, Any]) -> Answer:
        scheme = str(action.get("scheme") or "HTTP").lower()
        path = str(action.get("path") or "/")
        number, port = self._port(action.get("port", ""))
        path = "/" + path.lstrip("/")
        url = f"{scheme}://127.0.0.1:{port}{path}"
        headers = {"User-Agent": "kube-probe/1.34", "Accept": "*/*"}
        headers |= {h["name"]: str(h.get("value", "")) for h in action.get("httpHeaders") or ()}
        try:
            async with self._session.get(url, headers=headers, ssl=_no_check(scheme)) as response:
                body = await response.content.read(MESSAGE_LIMIT)
                if 200 <= response.status < 400:
                    return Answer(True)
                said = body.decode("utf-8", "replace").strip()
                text = f"HTTP probe failed with statuscode: {response.status}"
                return Answer(False, f"{text}: {said[:200]}" if said else text)
        except (aiohttp.ClientError, OSError) as error:
            return Answer(False, f'Get "{scheme}://{self._address}:{number}{path}": {_reason(error)}')

    async def _tcp(self, action: Mapping[str, Any]) -> Answer:
        number, port = self._port(action.get("port", ""))
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            return Answer(False, f"dial tcp {self._address}:{number}: {_reason(error)}")
        writer.close()
        return Answer(True)

    async def _exec(self, action: Mapping[str, Any]) -> Answer:
        output = bytearray()
        words = [str(word) for word in action.get("command") or ()]
        try:
            process = await self._run.exec(
                words, stdin=False, tty=False, on_output=lambda _, data: output.extend(data)
            )
        except StartFailed as error:
            return Answer(False, str(error))
        try:
            exit_ = await process.wait()
        finally:
            if not process.ended:
                await process.kill()
            self._run.execs.discard(process)
        said = bytes(output[:MESSAGE_LIMIT]).decode("utf-8", "replace").strip()
        return Answer(exit_.code == 0, said or f"command exited with code {exit_.code}")


def _reason(error: Exception) -> str:
    """Why a connection failed, without the addresses of this machine (which change with each start)."""
    if isinstance(error, ConnectionRefusedError) or (
        isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError)
    ):
        return "connection refused"
    return str(error) or type(error).__name__


class _Unanswerable(Exception):
    """The question cannot even be put."""


def _no_check(scheme: str) -> ssl.SSLContext | bool:
    """Probes do not check certificates, as in a real kubelet."""
    return scheme != "https"
