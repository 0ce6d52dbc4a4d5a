"""docs/provisioner-faults.md: every row names tests that exist, and no fault that was promised is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from hack.alerts.files import alerts
from kaito.api.reasons import GIVEN_UP, REASONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "provisioner-faults.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| what is wrong", "|---"))
]
PROMISED = (
    "no instance type",
    "no storage",
    "a name that no agent pool can have",
    "a pool of yours has the claim's name",
    "no credential",
    "credentials have expired (401)",
    "(403)",
    "(404)",
    "409",
    "412",
    "429",
    "5xx",
    "it fails",
    "somebody cancels it",
    "it never ends",
    "404 while it is polled",
    "half deleted",
    "somebody deletes the Node",
    "in the portal",
    "clocks disagree",
    "it loses its lease during a launch",
)


@cache
def known_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return {each.name for each in functions if each.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    _, _, _, shown = row
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", shown)
    assert named, "a row that nothing shows is a claim"
    for file, test in named:
        assert (ROOT / "tests" / file).is_file(), file
        assert test in known_in(ROOT / "tests" / file), f"{file} has no {test}"


@pytest.mark.parametrize("fault", PROMISED)
def test_no_fault_is_left_out(fault: str) -> None:
    assert any(fault in row[0] for row in ROWS)


def test_reasons_and_alerts_are_called_what_they_are() -> None:
    told = " ".join(row[2] for row in ROWS)
    assert {*re.findall(r"\bKaito[A-Z]\w+", told)} <= {alert.name for alert in alerts()}
    words = {*re.findall(r"`([A-Z][a-zA-Z]+)`", told)}
    assert words
    assert words - {*REASONS, *GIVEN_UP, "Drained"} == set()
