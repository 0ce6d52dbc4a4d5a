"""Control groups of one cluster: made before it starts, and gone with everything in them when it ends.

Version 1 has one tree per controller, version 2 one for all; either way the cluster has one group in each tree, and
every process that it starts stays below.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_CONTROLLERS: Final = (
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd", "hugetlb", "net_cls",
    "net_prio", "perf_event", "rdma", "misc",
)  # fmt: skip


def trees() -> list[Path]:
    """The roots of all trees that are mounted here."""
    if (ROOT / "cgroup.controllers").is_file():
        return [ROOT]
    mounted = [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]
    return sorted(path for path in mounted if path.name in {*_CONTROLLERS, "unified"})


def make(name: str) -> None:
    """Makes the group `name` in each tree."""
    for tree in trees():
        group = tree / name
        group.mkdir(exist_ok=True)
        if (tree / "cgroup.controllers").is_file() and tree == ROOT:
            wanted = " ".join(f"+{each}" for each in (tree / "cgroup.controllers").read_text().split())
            (tree / "cgroup.subtree_control").write_text(wanted)
        for key in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 gives a new group no processors; nothing can run in it then.
            if (group / key).is_file() and tree != ROOT:
                (group / key).write_text((tree / key).read_text())


def names(prefix: str) -> set[str]:
    """Groups directly below a root whose name begins with `prefix`."""
    return {path.name for tree in trees() for path in tree.glob(f"{prefix}*") if path.is_dir()}


def processes(name: str) -> set[int]:
    """Process ids of everything in the group, in any tree."""
    found: set[int] = set()
    for group in _groups(name):
        with contextlib.suppress(OSError):
            found.update(int(line) for line in (group / "cgroup.procs").read_text().split())
    return found - {0}


def kill(name: str) -> None:
    """Ends every process in the group."""
    for pid in processes(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove(name: str) -> bool:
    """Removes the group from each tree; False where a process still holds one."""
    done = True
    for group in _groups(name):
        try:
            group.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            done = False
    return done


def _groups(name: str) -> Iterator[Path]:
    """All groups of that name and below, the deepest first."""
    for tree in trees():
        for folder, _, _ in os.walk(tree / name, topdown=False):
            yield Path(folder)
