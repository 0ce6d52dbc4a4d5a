"""The two tools are called in words they understand, and their failures are sentences."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hack.images import build, engine
from hack.images.engine import BuildError, Engine, build_command, on_this_machine

FAKE = r"""#!/bin/sh
echo "$0 $*" | tr "\n" " " >>"$(dirname "$0")/calls"; echo >>"$(dirname "$0")/calls"
for word in "$@"; do
    case $word in
    --iidfile=*) echo "sha256:0123" >"${word#--iidfile=}" ;;
    --digestfile=*) printf 'sha256:4567' >"${word#--digestfile=}" ;;
    esac
done
case "$*" in
*broken*) echo "no space left" >&2; exit 3 ;;
*RepoDigests*) echo "r.example/kaito/x@sha256:4567 other@sha256:89" ;;
*"run "*) echo '{"python": "3.12.11", "machine": "x86_64", "dpkg": ""}' ;;
from*|"from"*) echo working-container ;;
esac
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH whose buildah and docker write down how they are called."""
    for name in ("buildah", "docker"):
        script = tmp_path / name
        script.write_text(FAKE)
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def calls(tools: Path) -> list[str]:
    return [line.removeprefix(f"{tools}/") for line in (tools / "calls").read_text().splitlines()]


def test_buildah_builds_without_daemon_network_and_times(tmp_path: Path) -> None:
    command = build_command("buildah", tmp_path, "r/x:1", {"BASE": "b", "A": "1"}, 17, tmp_path / "id")
    assert command[:2] == ["buildah", "bud"]
    assert {"--isolation=chroot", "--timestamp=17", "--no-cache", "--pull=false", "--tag=r/x:1"} <= set(
        command
    )
    assert command.index("--build-arg=A=1") < command.index("--build-arg=BASE=b")
    assert command[-1] == str(tmp_path)


def test_docker_builds_without_network(tmp_path: Path) -> None:
    command = build_command("docker", tmp_path, "r/x:1", {"BASE": "b"}, 17, tmp_path / "id")
    assert command[:2] == ["docker", "build"]
    assert {"--network=none", "--no-cache", "--build-arg=SOURCE_DATE_EPOCH=17", "--build-arg=BASE=b"} <= set(
        command
    )
    assert not any(word.startswith(("--isolation", "--timestamp")) for word in command)


@pytest.mark.parametrize("tool", ["buildah", "docker"])
def test_both_tools_probe_build_and_push(tools: Path, tmp_path: Path, tool: str) -> None:
    found = Engine.find(tool)
    base = found.probe("debian:x")
    assert (base.python, base.machine, base.dpkg) == ("3.12.11", "x86_64", "")
    built = found.build(tmp_path, "localhost:5000/kaito/x:1", {}, 17)
    assert built.id == "sha256:0123"
    assert found.push(built.name) == "sha256:4567"
    assert all(call.startswith(f"{tool} ") for call in calls(tools))
    if tool == "buildah":
        assert any("push" in call and "--tls-verify=false" in call for call in calls(tools))


def test_without_a_name_the_first_tool_there_is(tools: Path) -> None:
    assert Engine.find("").tool == "buildah"
    (tools / "buildah").unlink()
    if engine.shutil.which("buildah") is None:
        assert Engine.find("").tool == "docker"
    else:  # this machine has a real one
        assert Engine.find("").tool == "buildah"


def test_missing_and_unknown_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="buildah is not installed"):
        Engine.find("buildah")
    with pytest.raises(BuildError, match="buildah or docker is not installed"):
        Engine.find("")
    with pytest.raises(BuildError, match="TOOL=podman: write buildah or docker"):
        Engine.find("podman")


def test_a_failing_build_shows_the_tool_s_words(
    tools: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BuildError, match="buildah bud failed with exit code 3"):
        Engine("buildah").build(tmp_path, "r/broken:1", {}, 17)
    assert "no space left" in capsys.readouterr().err


def test_a_base_that_is_not_there_comes_with_advice(tools: Path) -> None:
    for tool in ("buildah", "docker"):
        with pytest.raises(
            BuildError, match=r"base image broken:1 cannot be .* BASE=\$\(hack/images/debian-base"
        ):
            Engine(tool).probe("broken:1")  # type: ignore[arg-type]


def test_only_registries_on_this_machine_are_spoken_to_without_certificates() -> None:
    assert on_this_machine("localhost:5000/kaito/x:1")
    assert on_this_machine("127.0.0.1:5000/x:1")
    assert not on_this_machine("localhost.example.com:5000/x:1")
    assert not on_this_machine("registry.example.com/localhost:5000/x")


def test_the_command_says_what_it_built(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "own_wheels", lambda epoch, folder: None)  # a preset image has none
    out = tmp_path / "out"
    arguments = [
        "phi-3-mini-4k-instruct",
        "--registry=r.example/kaito",
        "--push",
        "--tool=docker",
        f"--out={out}",
    ]
    assert build.main(arguments) == 0
    name = "r.example/kaito/kaito-phi-3-mini-4k-instruct"
    tags = ["0.2.0-mistralrs", "0.2.0-vllm", "0.2.0-transformers", "0.2.0-transformers-torch2.10"]
    said = f"{name}:{tags[0]} sha256:0123 pushed as sha256:4567\n  also {', '.join(tags[1:])}\n"
    assert capsys.readouterr().out == said
    record = json.loads((out / "kaito-phi-3-mini-4k-instruct.json").read_text())
    names = [f"{name}:{tag}" for tag in tags]
    assert record == {"name": names[0], "names": names, "id": "sha256:0123", "digest": "sha256:4567"}
    done = calls(tools)
    for each in names[1:]:
        assert f"docker tag {names[0]} {each}" in [call.strip() for call in done]
        assert any("push" in call and call.strip().endswith(each) for call in done)
    (call,) = [call for call in calls(tools) if call.startswith("docker build ")]
    assert "--build-arg=RUNTIME=r.example/kaito/runtime-mistralrs:0.1.0" in call


def test_weights_that_only_their_owner_may_read_are_readable_in_the_image(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "own_wheels", lambda epoch, folder: None)
    weights = tmp_path / "weights"
    weights.mkdir(mode=0o700)
    for name, mode in (("config.json", 0o600), ("model.safetensors", 0o644)):
        (weights / name).write_text("{}")
        (weights / name).chmod(mode)
    modes = tmp_path / "modes"
    look = tmp_path / "look.py"  # what the build would find in its context
    look.write_text(
        "import os, sys\n"
        "for name in ('.', 'config.json', 'model.safetensors'):\n"
        "    found = os.stat(f'{sys.argv[1]}/weights/{name}')\n"
        "    print(oct(found.st_mode & 0o777), found.st_nlink)\n"
    )
    seen = f'case "$1" in bud) for last; do :; done; {sys.executable} {look} "$last" >{modes} ;; esac'
    (tools / "buildah").write_text(f"{FAKE}\n{seen}\n")
    arguments = [
        "mistral-7b-instruct",
        "--runtime=transformers",
        f"--weights={weights}",
        "--tool=buildah",
        f"--out={tmp_path / 'out'}",
    ]
    assert build.main(arguments) == 0
    found = [line.split() for line in modes.read_text().splitlines()]
    assert [mode for mode, _ in found] == ["0o755", "0o644", "0o644"]
    assert [links for _, links in found[1:]] == ["1", "2"]  # what is readable is linked, not copied
    assert (weights / "config.json").stat().st_mode & 0o777 == 0o600


def test_a_wrong_epoch_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BuildError, match="write seconds since 1970"):
        build.source_epoch()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "17")
    assert build.source_epoch() == 17
