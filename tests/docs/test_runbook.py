"""The runbook has a section for every alert and a line for every reason, and none for what is not there any more."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hack.alerts.files import alerts
from hack.families import PAGE, page
from kaito.api.reasons import (
    ADAPTER_REASONS,
    CLAIM_REASONS,
    CLOUD_REASONS,
    GIVEN_UP,
    REASONS,
    VERDICTS,
    WORKSPACE_REASONS,
    Course,
    is_stuck,
    known,
)
from kaito.provisioner.errors import CloudError

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^#).*\n?)*)", RUNBOOK, re.MULTILINE))
TABLES = {
    "Reasons of Workspaces": set(WORKSPACE_REASONS),
    "Reasons of Adapters": set(ADAPTER_REASONS),
    "Reasons of adapters in a Workspace": set(VERDICTS),
    "Reasons of Machines and NodeClaims": {*CLAIM_REASONS, *GIVEN_UP},
}
CODE = ("controllers", "provisioner", "catalog", "api/adapter.py")
"""Below src/kaito: where reasons are given."""
WORDS_OF_CLOUDS = ("provisioner/aks", "provisioner/testing", "catalog/hub/settings.py")
"""Below src/kaito: full of a cloud's own words, and giving reasons only by kaito.provisioner.errors; or of models'."""
WORD = re.compile(r"([A-Z][a-z]+){2,}|[A-Z]{2,}[a-z][A-Za-z]+|workspace[A-Z][A-Za-z]+")

NOT_REASONS = {
    # types of conditions
    *(
        "InferenceReady",
        "InstanceTerminating",
        "VolumesDetached",
        "JobStarted",
        "NodeClaimReady",
        "PodScheduled",
        "ResourceReady",
    ),
    *("MachineInitialized", "MachineLaunched", "MachineRegistered"),
    *("WorkspaceDeleting", "WorkspaceReady", "WorkspaceSucceeded"),
    # reasons of events only
    *("NodePoolCreated", "NodePoolScaled"),
    *("CatalogRefused", "CatalogUsed"),
    *("InstanceTypeRetired", "NodeClaimCreated", "StandInWeights", "WorkloadCreated", "WorkloadReplaced"),
    *("FailedDraining", "NodeRepairBlocked", "WeightsNotChecked", "WorkspaceNotReady"),
    # what containers and the scheduler say, which is summed up in a reason of ours
    *("CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull"),
    *("ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName", "PostStartHookError"),
    "OOMKilled",
    *("PreCreateHookError", "PreStartHookError", "RegistryUnavailable", "RunContainerError"),
    # why an adapter does not fit, within the message of AdapterDoesNotFit
    *("BaseModelMismatch", "InvalidRank", "TargetModulesMismatch", "UnsupportedDtype"),
    # kinds, values and causes of the API
    *("AKSNodeClass", "DoesNotExist", "NotIn"),
    *("ClusterIP", "DeleteOptions", "FieldValueInvalid", "FieldValueNotSupported", "FieldValueRequired"),
    *("FieldValueDuplicate", "FieldValueForbidden", "FieldValueTypeInvalid", "LoadBalancer", "NodeClaim"),
    *("NodeClassReady", "NodePool", "StaticCapacity", "ValidationSucceeded"),
    *("NoExecute", "NoSchedule", "NotReady", "PreferNoSchedule", "ReplicaSet", "StatefulSet"),
    *("ConfigMap", "DaemonSet", "PodDisruptionBudget", "ReadWriteOnce", "VolumeAttachment"),
    *("OnRootMismatch", "RuntimeDefault", "ScheduleAnyway"),
    # beginnings of the Go KAITO's reasons, which are kept as they are
    "WorkspaceTuningJobStatus",
    # classes of models
    *("LlamaForCausalLM", "MistralForCausalLM"),
    # of libraries
    "CSafeLoader",
    # of the hub
    "RepoNotFound",
}
"""Words in the code that look like reasons and are none."""


def strings() -> dict[str, set[str]]:
    """Every string in the code that gives reasons, by its text: the files it is in. Names in __all__ are left out."""
    found: dict[str, set[str]] = {}
    for place in CODE:
        path = ROOT / "src" / "kaito" / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if any(file.is_relative_to(ROOT / "src" / "kaito" / cloud) for cloud in WORDS_OF_CLOUDS):
                continue
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and [ast.unparse(each) for each in node.targets] == [
                    "__all__"
                ]:
                    continue
                for each in ast.walk(node):
                    if isinstance(each, ast.Constant) and isinstance(each.value, str):
                        found.setdefault(each.value, set()).add(str(file.relative_to(ROOT)))
    return found


STRINGS = strings()
LISTED = {*REASONS, *VERDICTS, *GIVEN_UP}


def lines(section: str) -> list[list[str]]:
    """The cells of the table in a section."""
    rows = [
        line.strip("| ").split(" | ") for line in SECTIONS[section].splitlines() if line.startswith("| `")
    ]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    names = {name for name in SECTIONS if name.startswith("Kaito")}
    assert names == {alert.name for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_a_section_says_how_grave_it_is_where_to_look_and_what_to_do(alert: object) -> None:
    section = SECTIONS[alert.name]  # type: ignore[attr-defined]
    assert section.startswith(f"**{alert.severity.capitalize()}.**")  # type: ignore[attr-defined]
    assert "- Look" in section
    assert "- Do" in section or "Look and do" in section


@pytest.mark.parametrize("section", TABLES)
def test_every_reason_has_one_line_and_no_line_is_left_over(section: str) -> None:
    rows = lines(section)
    names = [row[0].strip("`") for row in rows]
    assert sorted(names) == sorted(TABLES[section])
    for row in rows:
        assert len(row) == 4, row
        assert all(row), row


def test_every_reason_in_the_code_is_listed() -> None:
    """A word that looks like a reason is one, and then it is in kaito.api.reasons, or it is named above."""
    unknown = {
        word: sorted(files)
        for word, files in STRINGS.items()
        if WORD.fullmatch(word) and word not in LISTED and word not in NOT_REASONS
    }
    assert not unknown, (
        "list them in kaito.api.reasons and docs/runbook.md, or in NOT_REASONS if they are none"
    )


def test_every_listed_reason_is_in_the_code() -> None:
    assert not sorted(LISTED - set(STRINGS))


def test_errors_of_clouds_are_listed() -> None:
    classes = [CloudError]
    for cls in classes:
        classes += cls.__subclasses__()
    ours = [cls for cls in classes if cls.__module__.startswith("kaito.")]
    assert len(ours) > 8
    assert {cls.reason for cls in ours} <= set(CLOUD_REASONS)
    for cls in ours:
        if cls.terminal:
            assert is_stuck(cls.reason), f"{cls.reason} never passes by itself"


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in SECTIONS}
    wanted = set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK))
    assert wanted
    assert wanted <= anchors


def test_labels() -> None:
    assert known("NodeNotReady") == "NodeNotReady"
    assert known("somebody's text") == "other"
    assert not is_stuck("somebody's text")
    assert set(REASONS.values()) == set(Course)


def test_the_table_of_metrics_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_links_to_other_pages_lead_somewhere() -> None:
    for name in ("runbook.md", "monitoring.md", "metrics.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        links = re.findall(r"\]\(([\w./-]+\.md)(?:#[^)]*)?\)", text)
        assert links
        for link in links:
            assert (ROOT / "docs" / link).exists(), f"{name}: {link}"
        for path in re.findall(r"\b((?:manifests|hack)/[\w./-]*\w)", text):
            assert (ROOT / path).exists(), f"{name}: {path}"
