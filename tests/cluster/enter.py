"""Runs a command in namespaces of its own, where the cluster can be brought up: `python -m cluster.enter COMMAND…`.

The command has its own network (a loopback and a bridge that nothing leaves), processes and mounts. When it ends,
however it ends, the kernel ends every process in there and with them the mounts, the network and its iptables rules;
what the kernel keeps, control groups and the folder, is removed here. A run that was killed together with this process
leaves those two behind: the next run finds them by their lock, which nobody holds any more, and removes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from cluster import cgroups
from cluster.prerequisites import Missing, check

PREFIX: Final = "kaito-cluster-"
FOLDER: Final = "KAITO_CLUSTER_FOLDER"
"""Environment variable with the folder of this run; set inside only, so its presence says that one is inside."""
LOGS: Final = "KAITO_CLUSTER_LOGS"
"""Environment variable with the folder in which `logs` is kept, anew for each run; default: `build/e2e`."""
_REMOVE_ATTEMPTS: Final = 100
_LOCK: Final = "lock"


def main(command: Sequence[str]) -> int:
    """Runs the command and returns its exit status; 2 where this machine lacks something."""
    try:
        check()
    except Missing as problem:
        print(problem, file=sys.stderr)
        return 2
    parent = Path(os.environ.get("KAITO_CLUSTER_TMP") or tempfile.gettempdir())
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cgroups.make(folder.name)
        try:
            return _run(command, folder)
        finally:
            clear(folder)


def _run(command: Sequence[str], folder: Path) -> int:
    kept = Path(os.environ.get(LOGS) or "build/e2e").resolve()
    shutil.rmtree(kept / "logs", ignore_errors=True)
    (kept / "logs").mkdir(parents=True)
    init = Path(__file__).with_name("init.py")
    inside = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *(
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ),
            *("--", sys.executable, "-I", "-S", str(init), str(folder), *command),
        ],
        env={**os.environ, FOLDER: str(folder), LOGS: str(kept)},
    )

    def end(number: int, _: FrameType | None) -> None:
        inside.kill()  # and the kernel everything inside

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    # Ctrl-C reaches the command as well, which ends in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = inside.wait()
    return status if status >= 0 else 128 - status


def sweep(parent: Path) -> None:
    """Removes what killed runs have left."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print(f"removing what a killed run has left: {folder}", file=sys.stderr)
            clear(folder)


def clear(folder: Path) -> None:
    """Removes control groups and folder of a run whose namespaces are gone or going."""
    waiting = signal.SIGRTMIN  # nobody sends it; only a way to wait without being woken
    for _ in range(_REMOVE_ATTEMPTS):
        cgroups.kill(folder.name)
        if cgroups.remove(folder.name):
            break
        signal.sigtimedwait({waiting}, 0.1)
    else:
        print(f"processes still hold the control groups {folder.name}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
