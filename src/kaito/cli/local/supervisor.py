"""Starts the processes of the local mode in order, watches them, and ends them.

Three processes, each behind nothing but a kubeconfig: the API server, the node (workload controllers, scheduler,
kubelet), the operator. A child says with one JSON line on its standard output that it serves; what it logs goes to a
file. All of them end when the lifeline closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito.cli.errors import CliError
from kaito.embedded.processes.lifeline import GRACE_SECONDS, Lifeline
from kaito.runtime.clock import Clock

READY_TIMEOUT_SECONDS = 60.0
"""How long a process may take from start to its ready line; generous for slow disks and cold caches."""


@dataclass(frozen=True)
class ProcessSpec:
    """One child: how it is called, what it runs, where it logs, what is added to its environment."""

    name: str
    arguments: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class ManagedProcess:
    """A started child and the facts of its ready line."""

    def __init__(self, spec: ProcessSpec, process: asyncio.subprocess.Process) -> None:
        self.spec = spec
        self.process = process
        self.facts: dict[str, Any] = {}

    def last_words(self, lines: int = 15) -> str:
        """The end of the child's log, for the message when it fails."""
        try:
            text = self.spec.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


class Supervisor:
    """Owns the children of one local mode. Not restartable: make a new one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lifeline = Lifeline()
        self._children: list[ManagedProcess] = []
        self._watchers: dict[asyncio.Task[int], ManagedProcess] = {}

    @property
    def pids(self) -> dict[str, int]:
        return {child.spec.name: child.process.pid for child in self._children}

    async def start(self, spec: ProcessSpec) -> ManagedProcess:
        """Starts a child and waits for its ready line.

        Raises:
            CliError: the child ended or said nothing in READY_TIMEOUT_SECONDS; with the end of its log.
        """
        with spec.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *spec.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                pass_fds=(self._lifeline.read_fd,),
                env={**os.environ, **spec.environment, **self._lifeline.environment()},
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which ends children in order
            )
        child = ManagedProcess(spec, process)
        self._children.append(child)
        self._watchers[asyncio.create_task(process.wait(), name=f"wait-{spec.name}")] = child
        assert process.stdout is not None
        line = b""
        try:
            async with self._clock.timeout(READY_TIMEOUT_SECONDS):
                line = await process.stdout.readline()
            child.facts = json.loads(line)
        except TimeoutError:
            raise CliError(
                self._failure(child, f"did not get ready in {READY_TIMEOUT_SECONDS:.0f} s")
            ) from None
        except ValueError:
            raise CliError(self._failure(child, "ended while starting")) from None
        return child

    def _failure(self, child: ManagedProcess, what: str) -> str:
        words = child.last_words()
        return f"The {child.spec.name} {what}. Its log is {child.spec.log}" + (
            f":\n{words}" if words else " (empty)."
        )

    async def wait(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set.

        Raises:
            CliError: a child ended by itself before that.
        """
        stopped = asyncio.create_task(stop.wait(), name="stop")
        done, _ = await asyncio.wait({stopped, *self._watchers}, return_when=asyncio.FIRST_COMPLETED)
        if stopped in done:
            return
        stopped.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopped
        child = self._watchers[next(task for task in self._watchers if task in done)]
        raise CliError(self._failure(child, f"ended with exit code {child.process.returncode}"))

    async def stop(self, on_stopping: Callable[[str], None] = lambda name: None) -> None:
        """Ends the children in reverse order of their start: the operator first, the API server last. Idempotent."""
        for child in reversed(self._children):
            if child.process.returncode is None:
                on_stopping(child.spec.name)
                with contextlib.suppress(ProcessLookupError):
                    child.process.terminate()
                try:
                    async with self._clock.timeout(GRACE_SECONDS + 2):
                        await child.process.wait()
                except TimeoutError:
                    child.process.kill()
                    await child.process.wait()
        self._lifeline.close()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for child in self._children:
            transport = getattr(child.process, "_transport", None)
            if transport is not None:
                transport.close()
