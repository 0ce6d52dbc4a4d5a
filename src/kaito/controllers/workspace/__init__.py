"""The workspace controller: from a Workspace to nodes, a workload that serves its model, and a status that says so."""

from kaito.controllers.workspace.config import (
    NodeClass,
    NodeProvisioner,
    OneMachine,
    WorkspaceConfig,
    parse_cloud,
)
from kaito.controllers.workspace.decide import decide
from kaito.controllers.workspace.model import Decision, Observed
from kaito.controllers.workspace.setup import setup

__all__ = [
    "Decision",
    "NodeClass",
    "NodeProvisioner",
    "Observed",
    "OneMachine",
    "WorkspaceConfig",
    "decide",
    "parse_cloud",
    "setup",
]
