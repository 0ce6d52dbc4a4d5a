"""docs/admission.md is the code: every rule stands in it, is kept where the page says so, and says that sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from admission.asking import ask, told, workspaces
from admission.cases import CASES, CATALOG, Case
from kaito.api.reasons import WORKSPACE_REASONS
from kaito.api.resources import WORKSPACES
from kaito.runtime.errors import Invalid
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.webhook.admission import Allow, Deny
from support.control_plane import ControlPlane

PAGE = (Path(__file__).parents[2] / "docs" / "admission.md").read_text()
KEPT = frozenset({"schema", "CEL", "webhook", "warning"})
ELSEWHERE = frozenset({"condition", "later", "not applicable"})
GO_KAITO = {*(f"W{number}" for number in range(1, 36)), *(f"U{number}" for number in range(1, 12))}


@dataclass(frozen=True)
class Row:
    where: str
    path: str
    sentence: str


def rows() -> Mapping[str, Row]:
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[WUK]\d+", cells[0]) and len(cells) == 5:
            assert cells[0] not in found, f"{cells[0]} is there twice"
            found[cells[0]] = Row(cells[2], cells[3].strip("`"), cells[4])
    return found


ROWS = rows()


def test_every_rule_has_a_line_and_every_kept_one_a_case() -> None:
    assert {rule for rule in ROWS if rule[0] in "WU"} == GO_KAITO
    assert {row.where for row in ROWS.values()} <= KEPT | ELSEWHERE
    assert set(CASES) == {rule for rule, row in ROWS.items() if row.where in KEPT}
    for rule, row in ROWS.items():
        assert row.sentence, f"{rule} says nothing"
        if row.where == "condition":
            assert row.sentence.partition(":")[0] in WORKSPACE_REASONS


async def put(world: ControlPlane, case: Case, body: Mapping[str, Any]) -> dict[str, str]:
    """Path to message of each cause with which the API server alone refuses; empty when it stores the object."""
    kind = {"apiVersion": WORKSPACES.api_version, "kind": WORKSPACES.kind}
    try:
        if case.before is None:
            made = await world.client.create(WORKSPACES, {**kind, **body})
        else:
            stored = await world.client.create(WORKSPACES, {**kind, **case.before})
            made = await world.client.update(
                WORKSPACES, {**kind, **body, "metadata": {**stored["metadata"], **body["metadata"]}}
            )
    except Invalid as error:
        found = {cause["field"]: cause["message"] for cause in error.details["causes"]}
        # The rules of the API server give metadata.name no path.
        return {("metadata.name" if "metadata.name" in text else path): text for path, text in found.items()}
    finally:
        for each in await world.client.list(WORKSPACES):
            await world.client.delete(WORKSPACES, each["metadata"]["name"], "default")
    assert made
    return {}


async def judged(world: ControlPlane, case: Case, body: dict[str, Any]) -> Allow | Deny:
    for name, text in case.config_maps.items():
        data = {"metadata": {"name": name, "namespace": "default"}, "data": {"inference_config.yaml": text}}
        await world.client.apply(CONFIGMAPS, data)
    return await ask(workspaces(world.client, CATALOG, case.config), body, case.before)


def says(row: Row, found: Mapping[str, str]) -> bool:
    # A path may go one step deeper than the table's, and schema errors quote values.
    text = "\n".join(sentence for path, sentence in found.items() if path.startswith(row.path))
    return bool(text) and all(part.strip("` ") in text for part in row.sentence.split("…"))


@pytest.mark.parametrize(
    ("rule", "case"),
    [(rule, case) for rule, cases in CASES.items() for case in cases],
    ids=lambda each: str(each)[:4],
)
async def test_a_rule_is_kept_where_the_page_says_so(world: ControlPlane, rule: str, case: Case) -> None:
    row = ROWS[rule]
    refused, passed = await put(world, case, case.wrong), await put(world, case, case.fine)
    wrong, fine = await judged(world, case, case.wrong), await judged(world, case, case.fine)
    assert passed == {}, "the neighbour is stored"
    assert not says(row, told(fine)), "and nothing of this rule is said of it"
    if row.where in ("schema", "CEL"):
        assert says(row, refused)
        return
    assert refused == {}, "CEL cannot know this"
    if row.where == "webhook":
        assert isinstance(wrong, Deny)
        assert (wrong.reason, wrong.code) == ("Invalid", 422)
    else:
        assert isinstance(wrong, Allow)
    assert says(row, told(wrong))


@pytest.mark.parametrize(
    "case",
    [case for rule, cases in CASES.items() for case in cases if ROWS[rule].where in ("webhook", "warning")],
    ids=lambda case: str(case.wrong)[-30:],
)
async def test_what_an_object_has_already_is_not_told_again(world: ControlPlane, case: Case) -> None:
    stored = case.wrong
    changed = {
        **stored,
        "metadata": {
            **stored["metadata"],
            "annotations": {**(stored["metadata"].get("annotations") or {}), "a": "b"},
        },
    }
    answer = await ask(workspaces(world.client, CATALOG, case.config), changed, stored)
    assert answer == Allow(warnings=[])
