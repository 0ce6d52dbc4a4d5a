"""The provisioner's bench works from end to end on a few claims; its limits are for the bench to judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.claims import beyond_polling
from kaito.provisioner.testing import ArmRequest, Recorded

ROOT = Path(__file__).parents[2]


def recorded(call: str, pool: str = "") -> Recorded:
    return Recorded(ArmRequest(call, "GET", "/", {}, {}, None, pool), 200)


def test_looks_at_a_pool_count_as_polling_once_its_put_was_sent() -> None:
    first, listing, put = recorded("get_pool", "a"), recorded("list_pools"), recorded("put_pool", "a")
    looks = [recorded("get_pool", "a"), recorded("operation", "a"), recorded("list_pools")]
    other = recorded("get_pool", "b")
    assert beyond_polling([first, listing, put, *looks, other]) == [first, listing, put, other]


@pytest.mark.slow
def test_a_few_claims_take_as_long_as_one_operation_or_as_all_of_them() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "bench.provisioner", "--count=3", "--runs=1", "--no-processes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode in (0, 1), found.stderr
    result = json.loads(found.stdout)
    parallel, exclusive = result["runs"]["parallel"][0], result["runs"]["exclusive"][0]
    assert 300 <= parallel["seconds"] < 400
    assert 900 <= exclusive["seconds"] < 1100
    assert parallel["requests to Azure"]["put_pool"] == 3 + parallel["refused"]
    assert exclusive["refused"] >= 1
    assert {each["measure"] for each in result["limits"]} >= {
        "parallel: time beside one operation",
        "exclusive: refused PUTs per finished operation",
    }


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads memory and processor time from /proc")
def test_a_process_that_does_not_provision_loads_nothing_of_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import provisioner_processes

    monkeypatch.setattr(provisioner_processes, "OPERATION", 1.0)
    monkeypatch.setattr(provisioner_processes, "SETTLE", 0.1)
    provisioner, operator = provisioner_processes.provisioner(2), provisioner_processes.operator()
    assert operator["azure modules"] == 0
    assert provisioner["azure modules"] > 50
    assert provisioner["rss with claims"] > operator["rss idle"] > 0
    assert provisioner["requests to Azure"] > 2
