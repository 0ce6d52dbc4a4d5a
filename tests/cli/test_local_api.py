"""`kaito local up --only api`: a Kubernetes API for hand work, with one's own custom resources."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaito.cli.errors import CliError
from kaito.cli.local.commands import check_up_options, read_crds
from kaito.cli.local.state import LocalDirectory
from kaito.cli.main import app
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import NODES, Resource

GREETINGS = Resource("sample.kaito.sh", "v1", "greetings", "Greeting")
SAMPLE = Path(__file__).parents[2] / "examples" / "sample_operator"


def start(root: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """The command and what it prints until it serves."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kaito.cli", "local", "up", "--only=api", f"--dir={root}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    told = ""
    while "Ctrl-C ends it" not in told:
        line = process.stdout.readline()
        if not line:
            break
        told += line
    return process, told


def end(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return errors


@pytest.mark.processes
async def test_it_serves_custom_resources_and_says_what_is_not_there(tmp_path: Path) -> None:
    root = tmp_path / "it is"
    process, told = start(root, f"--crds={SAMPLE}")
    try:
        kubeconfig = LocalDirectory(root).kubeconfig
        assert f"kubeconfig: {kubeconfig.resolve()}\n" in told
        assert "Workspace, Adapter, Machine, NodeClaim, Greeting" in told
        for absent in ("nodes and kubelets", "workload controllers", "scheduler", "operator"):
            assert f"\n  {absent} " in told
        assert "stand-in" not in told
        connection = Connection.from_kubeconfig(kubeconfig)
        client = Client(connection.transport, clock=LoopClock())
        body = {
            "apiVersion": "sample.kaito.sh/v1",
            "kind": "Greeting",
            "metadata": {"name": "hello", "namespace": "default"},
            "spec": {"who": "you"},
        }
        await client.create(GREETINGS, body)
        assert len(await client.list(GREETINGS)) == 1
        assert await client.list(NODES) == []
        with pytest.raises(NotFound):
            await client.list(Resource("sample.kaito.sh", "v2", "greetings", "Greeting"))
        await connection.close()
    finally:
        errors = end(process)
    assert errors == ""


@pytest.mark.processes
def test_a_definition_that_the_server_refuses_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "crd.yaml").write_text("kind: CustomResourceDefinition\nmetadata: {name: xs.example.com}\n")
    process, told = start(tmp_path / "k", f"--crds={tmp_path / 'crd.yaml'}")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Ctrl-C" not in told
    assert errors.startswith("kaito: --crds: xs.example.com: "), errors
    assert not LocalDirectory(tmp_path / "k").is_running()


def test_a_path_without_definitions_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"--crds .*absent: No such file"):
        read_crds([tmp_path / "absent"])
    assert [crd["metadata"]["name"] for crd in read_crds([SAMPLE])] == ["greetings.sample.kaito.sh"]


def test_real_weights_are_for_nobody_there() -> None:
    check_up_options("stand-in", [], "api", "machine")
    with pytest.raises(CliError, match="nothing runs there"):
        check_up_options("real", [], "api", "machine")


def test_the_help_says_what_it_is_for() -> None:
    told = CliRunner().invoke(app, ["local", "up", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert told.exit_code == 0
    for words in ("--only", "--crds", "only the API server", "nothing runs"):
        assert words in told.output, told.output
