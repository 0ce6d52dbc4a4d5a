"""The folder of a local mode: kubeconfig, logs, pods, and who is running it.

A running supervisor holds an exclusive lock on `lock`; the operating system frees it when the process ends, however it
ends, so there are no stale PID files to reason about.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.cli.errors import CliError
from kaito.embedded.processes.names import CONTEXT

DEFAULT_DIRECTORY = Path(".kaito")

__all__ = ["CONTEXT", "DEFAULT_DIRECTORY", "LocalDirectory", "RunningLock", "export_line"]


@dataclass(frozen=True)
class LocalDirectory:
    """Paths below the folder that a local mode keeps to."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    @property
    def downloads(self) -> Path:
        """Weights that were downloaded: all pods share them, and they outlive what runs."""
        return self.root / "weights"

    @property
    def state_file(self) -> Path:
        return self.root / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    def prepare(self) -> None:
        """Makes the folders; only the user may read them, since the kubeconfig holds a token.

        Raises:
            CliError: the folder cannot be made or written to.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
            self.logs.mkdir(exist_ok=True)
            self.pods.mkdir(exist_ok=True)
        except OSError as error:
            raise _unusable(self.root, error) from None

    def write_state(self, state: dict[str, Any]) -> None:
        partial = self.state_file.with_suffix(".part")
        partial.write_text(json.dumps(state, indent=2) + "\n")
        partial.replace(self.state_file)

    def read_state(self) -> dict[str, Any]:
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def is_running(self) -> bool:
        """True while a supervisor holds the lock."""
        try:
            fd = os.open(self.lock_file, os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _unusable(self.root, error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


def _unusable(root: Path, error: OSError) -> CliError:
    return CliError(
        f"The folder {root} cannot be used: {error.filename}: {error.strerror}. Go to a folder of your own, or name "
        "one with --dir."
    )


def export_line(kubeconfig: Path) -> str:
    """What a user types to point kubectl at a kubeconfig, whatever characters its path has."""
    return f"export KUBECONFIG={shlex.quote(str(kubeconfig.resolve()))}"


class RunningLock:
    """Held by the supervisor for as long as it runs."""

    def __init__(self, directory: LocalDirectory) -> None:
        try:
            self._fd = os.open(directory.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(directory.root, error) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            pid = directory.read_state().get("pid", "?")
            raise CliError(
                f"A local mode already runs in {directory.root} (process {pid}). Use it with "
                f"`{export_line(directory.kubeconfig)}`, end it with `kaito local down`, or give "
                "another folder with --dir."
            ) from None

    def release(self) -> None:
        os.close(self._fd)
