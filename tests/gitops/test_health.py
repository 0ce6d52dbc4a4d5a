"""Argo CD's health of the statuses that our controllers write: recorded, judged in Lua, and held to the conditions.

KAITO_UPDATE_GOLDEN=1 records the statuses anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml

from gitops.lua import health
from gitops.worlds import DEGRADED, HEALTHY, PROGRESSING, conditions_of, worlds
from hack.argocd.files import checks
from kaito.api.reasons import ADAPTER_REASONS, CLAIM_REASONS, WORKSPACE_REASONS, Course, is_stuck
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE

RECORDED = Path(__file__).parent / "recorded"
CHECKS = {name.partition("_")[2]: script for name, script in checks().items()}
WORLDS = {world.name: world for world in worlds()}
RECORDS = {path.stem: path for path in sorted(RECORDED.glob("*.yaml"))}
VERDICTS = {Course.DONE: PROGRESSING, Course.WAITS: PROGRESSING, Course.STUCK: DEGRADED}
"""Health while a condition is False for a reason of that kind."""


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(RECORDS[name].read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_what_is_recorded_is_what_the_controllers_write(name: str) -> None:
    obj = WORLDS[name].obj
    kept = {key: obj[key] for key in ("apiVersion", "kind", "metadata", "status") if key in obj}
    text = yaml.safe_dump({"health": WORLDS[name].health, "object": kept}, sort_keys=False, width=110)
    path = RECORDED / f"{name}.yaml"
    if os.environ.get("KAITO_UPDATE_GOLDEN"):
        RECORDED.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def test_nothing_is_recorded_that_no_world_makes() -> None:
    assert set(RECORDS) == set(WORLDS)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_the_health_of_a_recorded_status(name: str) -> None:
    record = recorded(name)
    status, message = health(CHECKS[record["object"]["kind"]], record["object"])
    assert status == record["health"], message
    assert message


@pytest.mark.parametrize("name", [name for name in sorted(RECORDS) if name.startswith("workspace")])
def test_health_and_conditions_agree(name: str) -> None:
    """Healthy exactly when WorkspaceReady is True; Degraded exactly when a reason wants a person."""
    obj = recorded(name)["object"]
    status, message = health(CHECKS["Workspace"], obj)
    generation = obj["metadata"]["generation"]
    if "deletionTimestamp" in obj["metadata"]:
        assert status == PROGRESSING
        assert message.startswith("being deleted; waits for")
        return
    current = [each for each in conditions_of(obj) if each.get("observedGeneration") == generation]
    ready = [each["status"] for each in current if each["type"] == "WorkspaceReady"]
    assert (status == HEALTHY) == (ready == ["True"])
    stuck = [each for each in current if each["status"] == "False" and is_stuck(each["reason"])]
    assert (status == DEGRADED) == bool(stuck)
    if stuck:  # and the sentence is the condition's
        assert any(message == f"{each['reason']}: {each['message']}" for each in stuck)


def test_flux_waits_for_the_same() -> None:
    """The expression of the guide is true for exactly the Workspaces that are Healthy."""
    guide = (Path(__file__).parents[2] / "docs" / "gitops.md").read_text(encoding="utf-8")
    documents = yaml.safe_load_all(guide.split("```yaml\n")[1].split("```")[0])
    (models,) = [each["spec"] for each in documents if each["metadata"]["name"] == "models"]
    expression = models["healthCheckExprs"][0]["current"]
    for name in RECORDS:
        obj = recorded(name)["object"]
        if obj["kind"] == "Workspace":
            names = {"status": obj.get("status") or {}, "metadata": obj["metadata"]}
            healthy = health(CHECKS["Workspace"], obj)[0] == HEALTHY
            assert cel.evaluate(expression, names) is healthy, name


@pytest.mark.parametrize(("reason", "course"), sorted({**CLAIM_REASONS, **WORKSPACE_REASONS}.items()))
def test_every_reason_of_a_workspace_has_its_health(reason: str, course: Course) -> None:
    for condition in ("NodeClaimReady", "ResourceReady", "InferenceReady", "WorkspaceReady"):
        found = health(CHECKS["Workspace"], given("Workspace", condition, reason))
        assert found[0] == VERDICTS[course], condition


@pytest.mark.parametrize(("reason", "course"), sorted(ADAPTER_REASONS.items()))
def test_every_reason_of_an_adapter_has_its_health(reason: str, course: Course) -> None:
    assert health(CHECKS["Adapter"], given("Adapter", "Ready", reason))[0] == VERDICTS[course]


@pytest.mark.parametrize("shape", [MACHINE_SHAPE, NODECLAIM_SHAPE], ids=lambda shape: shape.resource.kind)
@pytest.mark.parametrize(("reason", "course"), sorted(CLAIM_REASONS.items()))
def test_every_reason_of_a_claim_has_its_health(shape: Any, reason: str, course: Course) -> None:
    for status in ("False", "Unknown"):
        obj = given(shape.resource.kind, shape.launched, reason, status)
        assert health(CHECKS[shape.resource.kind], obj)[0] == VERDICTS[course]


def given(kind: str, type: str, reason: str, status: str = "False") -> dict[str, Any]:
    """An object with one condition that is not True."""
    condition = {"type": type, "status": status, "reason": reason, "message": "m", "observedGeneration": 1}
    return {"kind": kind, "metadata": {"name": "x", "generation": 1}, "status": {"conditions": [condition]}}


@pytest.mark.parametrize("kind", sorted(CHECKS))
@pytest.mark.parametrize("status", [None, {}, {"conditions": None}, {"conditions": []}], ids=str)
def test_without_a_status_it_is_on_its_way(kind: str, status: Any) -> None:
    obj = {"kind": kind, "metadata": {"name": "x"}, **({} if status is None else {"status": status})}
    assert health(CHECKS[kind], obj)[0] == PROGRESSING


def test_reasons_of_other_provisioners_do_not_alarm() -> None:
    obj = given("NodeClaim", "Launched", "SomethingNew")
    assert health(CHECKS["NodeClaim"], obj) == (PROGRESSING, "SomethingNew: m")


@pytest.mark.parametrize("found", [HEALTHY, PROGRESSING, DEGRADED, "Suspended", "Missing"])
def test_an_application_is_as_well_as_argo_cd_says(found: str) -> None:
    obj = {"metadata": {"name": "x"}, "status": {"health": {"status": found, "message": "m"}}}
    assert health(CHECKS["Application"], obj) == (found, "m")
