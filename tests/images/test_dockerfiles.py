"""The Dockerfiles: what the pods call is there, what only the build needed is not, and both tools can read them."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))
INSTALLING = [path for path in DOCKERFILES if path.parent.name != "preset"]
RUNTIMES = [path for path in INSTALLING if path.parent.name.startswith("runtime-")]
COMMON = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN", "USER", "WORKDIR"}
"""What docker without BuildKit and buildah both know."""

Instruction = tuple[str, str]


def instructions(path: Path) -> list[Instruction]:
    """The Dockerfile's instructions, continuation lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(keyword, " ".join(rest[0].split())) for keyword, *rest in found]


def final_stage(path: Path) -> list[Instruction]:
    every = instructions(path)
    last = max(index for index, (keyword, _) in enumerate(every) if keyword == "FROM")
    return every[last:]


def value(path: Path, keyword: str) -> str:
    (found,) = [rest for each, rest in final_stage(path) if each == keyword]
    return found


def identity(path: Path) -> str:
    return path.parent.name


def test_there_is_one_for_each_image() -> None:
    assert [identity(path) for path in DOCKERFILES] == [
        "operator",
        "preset",
        "puller",
        "runtime-mistralrs",
        "runtime-transformers",
        "runtime-vllm",
    ]


@pytest.mark.parametrize("path", DOCKERFILES, ids=identity)
def test_only_instructions_that_both_tools_know(path: Path) -> None:
    assert {keyword for keyword, _ in instructions(path)} <= COMMON
    text = path.read_text()
    assert "--mount" not in text
    assert "<<" not in text
    assert "# syntax" not in text


@pytest.mark.parametrize("path", INSTALLING, ids=identity)
def test_every_stage_stands_on_the_base_that_the_caller_names(path: Path) -> None:
    every = instructions(path)
    assert every[0] == ("ARG", "BASE=docker.io/library/python:3.12-slim")
    assert [rest.split()[0] for keyword, rest in every if keyword == "FROM"] == ["${BASE}", "${BASE}"]


@pytest.mark.parametrize("path", INSTALLING, ids=identity)
def test_nothing_is_installed_where_it_would_stay(path: Path) -> None:
    runs = [rest for keyword, rest in final_stage(path) if keyword == "RUN"]
    assert len(runs) == 1
    assert runs[0].startswith("rm -rf /usr/local/lib/python3*/site-packages/*")
    copies = [rest for keyword, rest in final_stage(path) if keyword == "COPY"]
    assert copies == ["--from=build /opt/kaito /opt/kaito", "sbom.cdx.json /usr/share/kaito/sbom.cdx.json"]
    for keyword, rest in instructions(path):
        assert keyword != "RUN" or not re.search(r"\b(apt|apt-get|curl|wget|git)\b", rest), rest


@pytest.mark.parametrize("path", INSTALLING, ids=identity)
def test_runs_as_nobody_in_particular_and_writes_only_below_tmp(path: Path) -> None:
    assert value(path, "USER") == "65532:65532"  # a number, so that runAsNonRoot can be checked
    environment = dict(pair.split("=", 1) for pair in shlex.split(value(path, "ENV")))
    assert environment["HOME"] == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["PATH"].startswith("/opt/kaito/bin:")


def test_a_preset_image_changes_nothing_but_the_weights() -> None:
    path = ROOT / "images" / "preset" / "Dockerfile"
    assert {keyword for keyword, _ in final_stage(path)} == {"FROM", "ARG", "LABEL", "COPY"}
    from kaito.controllers.workspace.decide.arguments import WEIGHTS_DIRECTORY

    assert value(path, "COPY") == f"weights {WEIGHTS_DIRECTORY}"


@pytest.mark.parametrize(
    ("image", "command", "project"),
    [
        ("operator", "kaito", "pyproject.toml"),
        ("puller", "kaito-pull", "presets/pyproject.toml"),
        ("runtime-mistralrs", "kaito-serve", "presets/pyproject.toml"),
        ("runtime-transformers", "kaito-serve", "presets/pyproject.toml"),
        ("runtime-vllm", "kaito-serve", "presets/pyproject.toml"),
    ],
)
def test_the_entry_point_is_a_command_of_the_installed_package(
    image: str, command: str, project: str
) -> None:
    assert json.loads(value(ROOT / "images" / image / "Dockerfile", "ENTRYPOINT")) == [command]
    scripts = tomllib.loads((ROOT / project).read_text())["project"]["scripts"]
    assert command in scripts


@pytest.mark.parametrize("path", RUNTIMES, ids=identity)
def test_the_serving_images_say_their_engine(path: Path) -> None:
    environment = value(path, "ENV")
    assert f"KAITO_ENGINE={identity(path).removeprefix('runtime-')}" in shlex.split(environment)


@pytest.mark.parametrize("path", INSTALLING, ids=identity)
def test_the_labels_name_the_bill_of_materials(path: Path) -> None:
    labels = dict(pair.split("=", 1) for pair in shlex.split(value(path, "LABEL")))
    assert labels["sh.kaito.sbom"] == "/usr/share/kaito/sbom.cdx.json"
    assert labels["sh.kaito.sbom.sha256"] == "${SBOM_SHA256}"
    assert labels["org.opencontainers.image.title"] == f"kaito/{identity(path)}"
