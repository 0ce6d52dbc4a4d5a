"""The parts of the local mode that need no cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kaito.catalog import load_catalog
from kaito.cli.errors import CliError
from kaito.cli.example_files import examples_directory
from kaito.cli.kubectl import Kubectl, find_kubectl
from kaito.cli.local.images import image_map_json, image_map_options, image_table, parse_image_map
from kaito.cli.local.state import LocalDirectory, RunningLock
from kaito.cli.local.supervisor import ProcessSpec, Supervisor
from kaito.cli.terminal import LineReader
from kaito.embedded.processes.lifeline import Lifeline
from kaito.runtime.clock import LoopClock


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    folder = tmp_path / "layout"
    folder.mkdir()
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text("{}")
    return folder


def test_an_image_option_maps_a_reference_to_a_layout(layout: Path) -> None:
    mapped = parse_image_map([f"registry.example.com/a:1=oci:{layout}"])
    assert mapped == {"registry.example.com/a:1": layout}
    assert image_map_options(mapped) == [f"--image=registry.example.com/a:1=oci:{layout}"]
    assert image_map_json(mapped) == f'{{"registry.example.com/a:1": "oci:{layout}"}}'


@pytest.mark.parametrize("option", ["a:1", "a:1=/tmp", "=oci:/tmp", "a:1=oci:/no/such/folder"])
def test_a_wrong_image_option_is_refused_with_a_sentence(option: str) -> None:
    with pytest.raises(CliError, match="--image"):
        parse_image_map([option])


def test_an_image_with_weights_is_refused_with_what_to_do_instead() -> None:
    table = image_table(load_catalog(), {}, {})
    assert table.find("localhost/kaito/kaito-mistral-7b:0.2.0") is None
    said = "leave presetOptions.image out, and a model's weights are downloaded; it knows only: */kaito-"
    assert said in table.refusal()


def test_only_one_local_mode_per_folder_and_the_lock_ends_with_its_holder(tmp_path: Path) -> None:
    directory = LocalDirectory(tmp_path / "k")
    directory.prepare()
    assert not directory.is_running()
    lock = RunningLock(directory)
    assert directory.is_running()
    with pytest.raises(CliError, match="already runs"):
        RunningLock(directory)
    lock.release()
    assert not directory.is_running()


def test_the_folder_is_the_users_alone(tmp_path: Path) -> None:
    directory = LocalDirectory(tmp_path / "k")
    directory.prepare()
    assert directory.root.stat().st_mode & 0o077 == 0


def test_broken_state_reads_as_none(tmp_path: Path) -> None:
    directory = LocalDirectory(tmp_path)
    directory.state_file.write_text("{")
    assert directory.read_state() == {}


def test_examples_are_found() -> None:
    assert (examples_directory() / "inference/kaito_workspace_phi_3.yaml").is_file()


async def test_lines_come_one_by_one_and_the_last_needs_no_newline() -> None:
    read, write = os.pipe()
    try:
        os.write(write, b"one\ntwo\r\nthr")
        reader = LineReader(read)
        assert [await reader.line(), await reader.line()] == ["one", "two"]
        os.write(write, b"ee")
        os.close(write)
        assert [await reader.line(), await reader.line()] == ["three", None]
    finally:
        os.close(read)


async def test_lines_of_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a\nb\n")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        reader = LineReader(fd)
        assert [await reader.line() for _ in range(3)] == ["a", "b", None]
    finally:
        os.close(fd)


CHILD = """
import sys, threading
from kaito.embedded.processes.lifeline import end_with_parent, report_ready
end_with_parent()
report_ready(colour="green")
threading.Event().wait(60)
"""


@pytest.mark.processes
def test_a_child_ends_when_the_lifeline_closes() -> None:
    lifeline = Lifeline()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        pass_fds=(lifeline.read_fd,),
        env={**os.environ, **lifeline.environment()},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b'{"ready": true, "colour": "green"}\n'
        lifeline.close()
        assert child.wait(timeout=20) != 0


@pytest.mark.processes
async def test_the_supervisor_reports_a_child_that_fails_to_start_with_its_last_words(tmp_path: Path) -> None:
    supervisor = Supervisor(LoopClock())
    spec = ProcessSpec("thing", ["-c", "raise SystemExit('out of cheese')"], tmp_path / "thing.log")
    with pytest.raises(CliError, match=r"thing ended while starting.*\n.*out of cheese"):
        await supervisor.start(spec)
    await supervisor.stop()


@pytest.mark.processes
async def test_the_supervisor_starts_children_with_their_facts_and_ends_them(tmp_path: Path) -> None:
    supervisor = Supervisor(LoopClock())
    child = await supervisor.start(ProcessSpec("thing", ["-c", CHILD], tmp_path / "thing.log"))
    assert child.facts == {"ready": True, "colour": "green"}
    ended: list[str] = []
    await supervisor.stop(ended.append)
    assert ended == ["thing"]
    assert child.process.returncode is not None


def test_the_users_own_kubectl_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "kubectl"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_kubectl() == own


@pytest.mark.kubectl
async def test_without_one_the_wheels_kubectl_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_kubectl() == Path(sys.executable).with_name("kubectl")
    kubectl = Kubectl(tmp_path / "kubeconfig", cache=tmp_path / "cache")
    assert "Client Version: v1." in await kubectl.run("version", "--client")
    with pytest.raises(CliError, match="kubectl config use-context nowhere failed"):
        await kubectl.run("config", "use-context", "nowhere")
