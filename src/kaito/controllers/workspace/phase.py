"""The phase of a Workspace's life, from its stored object and status alone. Pure.

Deleting comes first, whatever the conditions say. A Workspace that merely starts is pending; one that stays as it is
until a person changes something is an error. The words are the Go KAITO's; it counted starting Workspaces as errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from kaito.api.conditions import find_condition, is_true
from kaito.api.reasons import is_stuck
from kaito.controllers.workspace.decide.status import (
    INFERENCE_READY,
    PROBLEM_CONDITIONS,
    RESOURCE_READY,
    WORKSPACE_READY,
    WORKSPACE_SUCCEEDED,
)
from kaito.runtime.clock import parse_time

Object = Mapping[str, Any]


class Phase(StrEnum):
    """Label values of `kaito_workspace_count`."""

    SUCCEEDED = "succeeded"
    ERROR = "error"
    PENDING = "pending"
    DELETING = "deleting"


def phase(metadata: Object, status: Object) -> Phase:
    """The phase of a Workspace with this metadata and status."""
    if metadata.get("deletionTimestamp"):
        return Phase.DELETING
    found = status.get("conditions") or ()
    # WorkspaceSucceeded alone is what a Workspace of the Go KAITO has before this controller has seen it.
    if is_true(found, WORKSPACE_READY) or is_true(found, WORKSPACE_SUCCEEDED):
        return Phase.SUCCEEDED
    if any(each.get("type") in PROBLEM_CONDITIONS and each.get("status") == "True" for each in found):
        return Phase.ERROR
    for type in (RESOURCE_READY, INFERENCE_READY):
        condition = find_condition(found, type)
        if condition is not None and condition.get("status") == "False":
            # What comes after the first thing that is not ready only follows from it.
            return Phase.ERROR if _stuck(condition, status) else Phase.PENDING
    return Phase.PENDING


def _stuck(condition: Object, status: Object) -> bool:
    if is_stuck(str(condition.get("reason") or "")):
        return True
    return condition.get("type") == RESOURCE_READY and any(
        node.get("state") == "Failed" for node in status.get("nodes") or ()
    )


def entered(metadata: Object, status: Object) -> datetime:
    """When the Workspace came into its phase, as far as the object tells: for one that is seen for the first time."""
    if metadata.get("deletionTimestamp"):
        return parse_time(metadata["deletionTimestamp"])
    condition = find_condition(status.get("conditions"), WORKSPACE_READY)
    if condition is None:
        condition = find_condition(status.get("conditions"), WORKSPACE_SUCCEEDED)
    since = (condition or {}).get("lastTransitionTime")
    return parse_time(since or metadata["creationTimestamp"])
