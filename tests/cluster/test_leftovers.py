"""Whatever ends a run, nothing of it stays on the machine. That these runs are inside of another changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from cluster import cgroups
from cluster.enter import PREFIX
from kaito.runtime.clock import LoopClock

ENTER: Final = (sys.executable, "-m", "cluster.enter")
# A process that lives on when its parent is gone, a mount, and a line that says all is there.
BUSY: Final = "setsid sleep 1000 & mount -t tmpfs tmpfs /mnt; echo there; wait"


def environment(folder: Path) -> Mapping[str, str]:
    tests = str(Path(__file__).parents[1])
    return {
        **os.environ,
        "KAITO_CLUSTER_TMP": str(folder),
        "KAITO_CLUSTER_LOGS": str(folder / "kept"),
        "PYTHONPATH": tests,
    }


def enter(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*ENTER, *command],
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def sleepers() -> int:
    """Processes of `BUSY` that still run."""
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return sum(line == b"sleep\0" + b"1000\0" for line in lines)


async def busy(run: subprocess.Popen[str]) -> None:
    """Returns when everything of `BUSY` runs."""
    assert run.stdout is not None
    assert run.stdout.readline() == "there\n"
    clock = LoopClock()
    async with clock.timeout(30):
        while sleepers() != 1:
            await clock.sleep(0.05)


def runs(folder: Path) -> list[Path]:
    return list(folder.glob(f"{PREFIX}*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_run_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    run = enter(tmp_path, "sh", "-c", BUSY)
    await busy(run)
    (folder,) = runs(tmp_path)
    assert folder.name in cgroups.names(PREFIX)
    # Ctrl-C goes to the whole group, SIGTERM to the process that was started.
    (os.killpg if number is signal.SIGINT else os.kill)(run.pid, number)
    run.communicate()
    assert run.returncode != 0
    assert sleepers() == 0
    assert folder.name not in cgroups.names(PREFIX)
    assert runs(tmp_path) == []


async def test_what_a_killed_run_leaves_the_next_one_removes(tmp_path: Path) -> None:
    run = enter(tmp_path, "sh", "-c", BUSY)
    await busy(run)
    (folder,) = runs(tmp_path)
    run.kill()
    run.communicate()
    assert runs(tmp_path) == [folder]
    after = enter(tmp_path, "true")
    _, said = after.communicate()
    assert after.returncode == 0
    assert said == f"removing what a killed run has left: {folder}\n"
    assert sleepers() == 0
    assert folder.name not in cgroups.names(PREFIX)
    assert runs(tmp_path) == []


def test_a_run_beside_another_leaves_it_alone(tmp_path: Path) -> None:
    first = enter(tmp_path, "sh", "-c", "echo there; exec sleep 1000")
    assert first.stdout is not None
    assert first.stdout.readline() == "there\n"
    second = enter(tmp_path, "true")
    assert second.communicate() == ("", "")
    assert len(runs(tmp_path)) == 1
    first.terminate()
    first.communicate()
    assert runs(tmp_path) == []


def test_the_exit_status_is_the_commands(tmp_path: Path) -> None:
    run = enter(tmp_path, "sh", "-c", "ip -brief address | cut -d' ' -f1; exit 7")
    out, _ = run.communicate()
    assert run.returncode == 7
    assert out.split() == ["lo", "kaito0"]
