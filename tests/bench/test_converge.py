"""The convergence bench works from end to end on a handful of Workspaces; its limits are for the bench to judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.processes
@pytest.mark.slow
def test_a_few_workspaces_converge_and_have_a_floor(tmp_path: Path) -> None:
    children = tmp_path / "children.json"
    found = subprocess.run(
        [sys.executable, "-m", "bench.converge", "--count=3", f"--children={children}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode in (0, 1), found.stderr
    result = json.loads(found.stdout)
    assert result["converge"]["children"] == {"Machine": 3, "Node": 3, "Service": 3, "Deployment": 3}
    assert result["floor"]["pods"] == 3
    assert result["ratio"] == round(result["converge"]["seconds"] / result["floor"]["seconds"], 2)
    assert result["versions"]["server"]
    made = json.loads(children.read_text(encoding="utf-8"))
    assert len(made) == 12
    assert all("uid" not in child["metadata"] and "status" not in child for child in made)
