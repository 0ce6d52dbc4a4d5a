"""Starting and ending: the demo, Ctrl-C, and what `kill -9` leaves behind (nothing)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pexpect
import pytest

from support.local_mode import EXAMPLES, KAITO, pause, start_local_mode, stop_local_mode

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def processes_of(root: Path) -> dict[int, str]:
    """Live processes whose command line or environment names the folder of the local mode."""
    listed = subprocess.run(
        ["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    mine = {os.getpid(), os.getppid()}
    found = {}
    for line in listed.splitlines():
        pid, _, arguments = line.strip().partition(" ")
        if str(root) in arguments and int(pid) not in mine:
            found[int(pid)] = arguments
    return found


def wait_until_gone(root: Path, seconds: float = 25) -> dict[int, str]:
    deadline = time.perf_counter() + seconds
    while (left := processes_of(root)) and time.perf_counter() < deadline:
        pause(0.2)
    return left


@pytest.mark.parametrize("victim", ["supervisor", "node", "api-server"])
def test_kill_9_leaves_no_process(tmp_path: Path, victim: str) -> None:
    root = tmp_path / ".kaito"
    mode = start_local_mode(root)
    try:
        mode.kubectl("apply", "-f", str(EXAMPLES / "inference/kaito_workspace_phi_3.yaml"))
        mode.wait_ready("workspace-phi-3-mini")
        running = processes_of(root)
        assert any("kaito_presets" in arguments or "shim" in arguments for arguments in running.values()), (
            running
        )
        status = mode.kaito("local", "status", f"--dir={root}").stdout
        pids = {"supervisor": mode.process.pid}
        for line in status.splitlines():
            if line.startswith("process"):
                name, pid = line.split()[1], line.split("(")[1].split(")")[0]
                pids[name] = int(pid)
        os.kill(pids[victim], signal.SIGKILL)
        assert wait_until_gone(root) == {}
    finally:
        stop_local_mode(mode)
    if victim != "supervisor":
        assert mode.process.returncode == 1
        assert f"The {victim} ended with exit code -9" in mode.output.read_text()


def test_demo_without_a_terminal_tells_the_story_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(KAITO), "demo"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    assert "workspace.kaito.sh/workspace-phi-3-mini created" in told
    assert told.count("The capital of France is Paris.") >= 2
    with_adapter = next(line for line in told.splitlines() if line.strip().startswith("with the adapter:"))
    assert "Paris" in with_adapter
    assert "The capital of France is Paris." not in with_adapter
    assert wait_until_gone(tmp_path) == {}


def test_demo_on_a_terminal_takes_questions_until_ctrl_c(tmp_path: Path) -> None:
    demo = pexpect.spawn(
        str(KAITO), ["demo"], cwd=str(tmp_path), encoding="utf-8", timeout=180, dimensions=(50, 200)
    )
    try:
        demo.expect_exact("In a second window:")
        demo.expect_exact("> ")
        demo.sendline("What is the capital of Italy?")
        demo.expect_exact("The capital of Italy is Rome.")
        demo.expect_exact("> ")
        demo.sendintr()
        demo.expect_exact("Everything that the demo started has ended.")
        demo.expect(pexpect.EOF)
    finally:
        demo.close(force=True)
    assert demo.exitstatus == 0
    assert wait_until_gone(tmp_path) == {}


def test_local_down_ends_a_running_mode(tmp_path: Path) -> None:
    root = tmp_path / ".kaito"
    mode = start_local_mode(root, "--only=api")
    assert mode.kubectl("get", "crd", "workspaces.kaito.sh", "-o", "name").stdout.strip() != ""
    down = mode.kaito("local", "down", f"--dir={root}")
    assert down.returncode == 0, down.stderr
    assert mode.process.wait(timeout=10) == 0
    assert mode.kaito("local", "status", f"--dir={root}").returncode == 3
