"""The admission webhook of Workspaces: what CEL in the CRD cannot know, asked before the object is stored."""

from __future__ import annotations

from collections.abc import Mapping

from kaito.catalog.models import CatalogSource
from kaito.controllers.admission import Admission
from kaito.controllers.workspace.admission.config_map import ConfigMaps
from kaito.controllers.workspace.admission.rules import judge
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.runtime.client import Client

__all__ = ["BLOCKS", "judge", "workspace_admission"]

BLOCKS = ("resource", "inference", "tuning")
"""What a user writes of a Workspace, metadata aside."""


def workspace_admission(
    client: Client, catalog: CatalogSource, config: WorkspaceConfig, images: Mapping[str, object]
) -> Admission:
    """The handler. `images` are references that the operator was told the meaning of."""
    return Admission(
        BLOCKS,
        lambda workspace: judge(workspace, catalog.current, config, images),
        ConfigMaps(client, catalog).look_up,
    )
