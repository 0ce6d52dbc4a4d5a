"""What a user gets from the two wheels, in an empty environment outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.local_mode import REPOSITORY

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def run(*arguments: str | Path, cwd: Path, timeout: float = 300) -> str:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "KUBECONFIG")},
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both wheels, built from the working tree."""
    dist = tmp_path_factory.mktemp("dist")
    for source in (REPOSITORY / "presets", REPOSITORY):
        run(
            sys.executable,
            "-m",
            "build",
            "--quiet",
            "--wheel",
            "--no-isolation",
            "--outdir",
            dist,
            source,
            cwd=dist,
        )
    return dist


def make_environment(folder: Path, wheels: Path, requirement: str) -> Path:
    uv = Path(sys.executable).with_name("uv")
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
    constraints = REPOSITORY / "constraints.txt"
    python = folder / "venv/bin/python"
    run(uv, "pip", "install", "--quiet", "--python", python, "--find-links", wheels, "-c", constraints, requirement,
        cwd=folder)  # fmt: skip
    return folder / "venv/bin"


def test_wheels_bring_the_local_mode_to_an_answer(wheels: Path, tmp_path: Path) -> None:
    commands = make_environment(tmp_path, wheels, "kaito[local]")
    told = run(commands / "kaito", "demo", cwd=tmp_path)
    assert "The capital of France is Paris." in told
    assert str(REPOSITORY) not in told


def test_the_base_alone_is_the_runtime(wheels: Path, tmp_path: Path) -> None:
    commands = make_environment(tmp_path, wheels, "kaito")
    loaded = run(
        commands / "python",
        "-c",
        "import sys, kaito.runtime; print(*sorted({name.partition('.')[0] for name in sys.modules}))",
        cwd=tmp_path,
    ).split()
    assert not {"pydantic", "jinja2", "typer", "rich", "azure", "cel", "cryptography"} & set(loaded)


def test_the_catalogue_travels_in_the_wheel(wheels: Path, tmp_path: Path) -> None:
    commands = make_environment(tmp_path, wheels, "kaito[operator]")
    code = (
        "from kaito.catalog import load_catalog; print(load_catalog().preset('phi-3-mini-4k-instruct').name)"
    )
    assert run(commands / "python", "-c", code, cwd=tmp_path).strip() == "phi-3-mini-4k-instruct"
