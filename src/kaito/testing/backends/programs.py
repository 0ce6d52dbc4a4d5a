"""The programs of a real control plane: started in sessions of their own, logged to files, ended by process id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from kaito.testing.backends import guard

_WORDS: Final = 20
"""Lines of each log that a failure shows."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now; whoever takes it first has it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Programs:
    """The running programs by name, and the guard that ends them if this process cannot. Close it when done."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in self._running.items()}

    def runs(self, name: str) -> bool:
        """Whether a program was started and has not ended."""
        process = self._running.get(name)
        return process is not None and process.poll() is None

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts a program; what it says is added to `NAME.log`. Only `environment` reaches it."""
        self._end(name)
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is for whoever started us; it ends these in order
            )
        self._running[name] = process
        self._tell(f"+{process.pid}")

    def kill(self, name: str) -> None:
        """Ends a program at once, as a crash would; harmless when it does not run."""
        self._end(name)

    def close(self) -> None:
        """Ends everything, the last started first. Idempotent."""
        for name in reversed(list(self._running)):
            self._end(name)
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

    def last_words(self) -> str:
        """The ends of all logs."""
        parts = []
        for log in sorted(self._logs.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-_WORDS:]
            parts.append("\n".join([f"== {log}", *lines]))
        return "\n".join(parts)

    def _end(self, name: str) -> None:
        process = self._running.pop(name, None)
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        process.wait()
        self._tell(f"-{process.pid}")

    def _tell(self, line: str) -> None:
        if self._guard is None:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__],
                stdin=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", "")},
                start_new_session=True,
            )
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # killed by somebody; nothing here depends on it
            self._guard.stdin.write(line.encode() + b"\n")
            self._guard.stdin.flush()
