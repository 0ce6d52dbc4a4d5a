"""Starting the local mode: what stops it before anything runs, and Ctrl-C while it starts."""

from __future__ import annotations

import asyncio
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kaito.cli.errors import CliError
from kaito.cli.local.cluster import LocalCluster, Progress
from kaito.cli.local.commands import check_up_options, print_environment, start
from kaito.cli.local.state import LocalDirectory, RunningLock
from kaito.runtime.clock import LoopClock


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("real", [], "operator", "machine"), "--only"),
        (("fake", [], None, "machine"), "--weights fake"),
        (("stand-in", ["phi-3"], None, "machine"), "--weights=real"),
        (("stand-in", [], None, "fleet"), "nodeclaim"),
        (("stand-in", [], None, "karpenter"), "no Karpenter runs in the local mode"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_starts(
    options: tuple[str, list[str], str | None, str], word: str
) -> None:
    with pytest.raises(CliError, match=word):
        check_up_options(*options)


@pytest.mark.parametrize("name", ["machine", "nodeclaim", "azure-gpu-provisioner", "byo"])
def test_every_node_provisioner_there_is_may_be_named(name: str) -> None:
    check_up_options("stand-in", [], None, name)


def test_a_folder_that_cannot_be_used_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        directory = LocalDirectory(root)
        with pytest.raises(CliError, match=r"cannot be used.*--dir"):
            directory.prepare()
        with pytest.raises(CliError, match=r"cannot be used.*--dir"):
            RunningLock(directory)
        assert not directory.is_running()
        assert directory.read_state() == {}


def test_what_is_to_be_typed_works_for_any_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    directory = LocalDirectory(tmp_path / "it's a folder")
    print_environment(directory)
    export, alias = capsys.readouterr().out.splitlines()
    assert shlex.split(export) == ["export", f"KUBECONFIG={directory.kubeconfig}"]
    kubectl = Path(sys.executable).with_name("kubectl")
    assert shlex.split(alias) == ["alias", f"kubectl={kubectl}"]


class NeverReady(LocalCluster):
    """A cluster whose parts never get ready."""

    cleaned = False

    async def start(self, progress: Progress = lambda part, detail, seconds: None) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned = True


async def test_a_stop_while_starting_ends_the_start(tmp_path: Path) -> None:
    cluster = NeverReady(LocalDirectory(tmp_path), LoopClock())
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    with pytest.raises(CliError, match="nothing is left") as raised:
        await start(cluster, stop, lambda part, detail, seconds: None)
    assert raised.value.code == 130
    assert cluster.cleaned


@pytest.mark.processes
def test_ctrl_c_while_starting_leaves_no_process(tmp_path: Path) -> None:
    root = tmp_path / "k"
    process = subprocess.Popen(
        [sys.executable, "-m", "kaito.cli", "local", "up", f"--dir={root}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = ""
        while "API server" not in line:
            line = process.stdout.readline()
            assert line, process.communicate()
        port = int(line.split()[2].rpartition(":")[2])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == "kaito: Stopped while starting; nothing is left running.\n"
    assert "export" not in out
    assert not LocalDirectory(root).is_running()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.processes
def test_ctrl_c_while_the_command_loads_ends_it_quietly(tmp_path: Path) -> None:
    code = (
        "import builtins, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored below a shell's background job
        "load = builtins.__import__\n"
        "def impatient(name, *rest, **more):\n"
        "    if name == 'kaito.cli.main':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return load(name, *rest, **more)\n"
        "builtins.__import__ = impatient\n"
        "from kaito.cli.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
