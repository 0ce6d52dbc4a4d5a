"""How backends are chosen, found and ended. What they do is tested by tests/integration."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from kaito.runtime.clock import LoopClock
from kaito.testing.backends import BackendError, Pool, binaries, chosen_name, programs, start
from kaito.testing.backends.binaries import ASSETS, Binaries
from kaito.testing.backends.programs import Programs
from kaito.testing.backends.real import RealBackend

SLEEP = [
    sys.executable,
    "-I",
    "-S",
    "-c",
    "import threading; print('up', flush=True); threading.Event().wait()",
]

PARENT = """
import json, sys
from pathlib import Path
from kaito.testing.backends.programs import Programs
programs = Programs(Path(sys.argv[1]))
for name in ("a", "b"):
    programs.start(name, sys.argv[2:], {})
print(json.dumps(programs.pids), flush=True)
sys.stdin.read()
"""


def lives(pid: int) -> bool:
    """Whether a process runs; on Linux one that nobody has waited for yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def ended(*pids: int) -> None:
    clock = LoopClock()
    deadline = clock.now() + 30
    while any(map(lives, pids)):
        assert clock.now() < deadline, f"{pids} did not end"
        await clock.sleep(0.02)


async def test_programs_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), *SLEEP, stdin=pipe, stdout=pipe
    )
    assert parent.stdout is not None
    pids = json.loads(await parent.stdout.readline())
    assert all(map(lives, pids.values()))
    parent.kill()
    await parent.communicate()
    await ended(*pids.values())


async def test_programs_are_ended_in_order_and_remember_their_words(tmp_path: Path) -> None:
    running = Programs(tmp_path)
    running.start("a", SLEEP, {})
    first = running.pids["a"]
    while "up" not in running.last_words():
        await LoopClock().sleep(0.02)
    running.start("a", SLEEP, {})
    assert running.pids["a"] != first, "a program that is started again is another process"
    assert not lives(first)
    assert running.runs("a")
    second = running.pids["a"]
    running.close()
    running.close()
    assert not running.runs("a")
    assert not lives(second)
    assert (tmp_path / "a.log").exists()


def test_a_free_port_is_a_port() -> None:
    assert 1024 <= programs.free_port() < 65536


def test_a_backend_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAITO_TEST_BACKEND", "kind")
    with pytest.raises(BackendError, match=r"KAITO_TEST_BACKEND=kind.*embedded or real"):
        chosen_name()
    with pytest.raises(BackendError, match="no such backend"):
        Pool(tmp_path, "other")
    monkeypatch.setenv("KAITO_TEST_BACKEND", "")
    assert chosen_name() == "embedded"


def test_programs_come_from_the_assets_folder_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    program.touch(mode=0o755)
    (tmp_path / "kwok").touch(mode=0o644)
    monkeypatch.setenv(ASSETS, str(tmp_path))
    monkeypatch.setattr(binaries, "_BUILD", tmp_path / "absent.sh")
    assert Binaries().find(["etcd"]) == {"etcd": program}
    with pytest.raises(BackendError, match=rf"no kwok .*{ASSETS}"):
        Binaries().find(["etcd", "kwok"])


def test_a_build_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "build.sh"
    script.write_text("#!/bin/sh\necho 'Go is not installed' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.delenv(ASSETS, raising=False)
    monkeypatch.setattr(binaries, "_BUILD", script)
    with pytest.raises(BackendError, match="Go is not installed"):
        Binaries().find(["etcd"])


async def test_a_program_that_ends_while_it_starts_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("etcd", "kube-apiserver"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name} has no licence\nexit 3\n")
        program.chmod(0o755)
    monkeypatch.setenv(ASSETS, str(tmp_path))
    backend = RealBackend(tmp_path / "data", LoopClock())
    with pytest.raises(BackendError, match=r"(?s)ended while it started.*etcd has no licence"):
        await backend.start(frozenset({"api"}))
    assert backend.pids == {}
    backend.close()


async def test_the_real_backend_has_no_processes(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="has no processes"):
        await RealBackend(tmp_path, LoopClock()).start(frozenset({"processes"}))


async def test_the_embedded_backend_runs_pods_as_processes(tmp_path: Path) -> None:
    async with start("embedded", frozenset({"processes"}), directory=tmp_path) as backend:
        assert backend.offers == {"api", "workloads", "processes"}
        assert backend.kubeconfig.stat().st_mode & 0o777 == 0o600
