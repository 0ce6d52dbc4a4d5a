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
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads memory and processor time from /proc")
def test_a_few_workspaces_converge_and_have_a_floor() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "bench.converge", "--count=3", "--runs=1", "--backend=embedded"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode in (0, 1), found.stderr
    result = json.loads(found.stdout)
    (run,) = result["runs"]
    assert run["converge"]["children"] == {"Service": 3, "Deployment": 3}
    assert run["floor"] | {"seconds": 0, "written": 0} == {
        "seconds": 0,
        "written": 0,
        "objects": 6,
        "pods": 3,
    }
    assert result["median"]["ratio"] == round(run["converge"]["seconds"] / run["floor"]["seconds"], 3)
    assert result["versions"]["server"].endswith("+kaito-embedded")
    limits = {each["measure"]: each for each in result["limits"]}
    writes = limits["API writes of a Workspace until it is ready"]
    assert 0 < writes["measured"] <= writes["limit"], "the number of writes does not depend on the machine"
    assert {"POST", "PATCH"} <= run["converge"]["writes"].keys()
    assert run["converge"]["rss"] > 10
