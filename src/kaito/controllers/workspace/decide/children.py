"""Rendering a child and finding out whether it has to be written. Shared by everything that wants children."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kaito.api.labels import WORKSPACE_LABEL
from kaito.api.resources import WORKSPACES
from kaito.controllers.workspace.compare import difference, stamped
from kaito.controllers.workspace.model import Event, Object, Write, controller_uid, labels_of, metadata
from kaito.controllers.workspace.render import render
from kaito.runtime.owners import controller_reference
from kaito.runtime.resources import Resource

MESSAGE_LIMIT: Final = 256
"""Characters of a reason's text that come from elsewhere (a claim, a pod)."""


def cut(text: str) -> str:
    """Text from elsewhere, at most 256 characters and three dots."""
    return text if len(text) <= MESSAGE_LIMIT else text[:MESSAGE_LIMIT] + "..."


def manifest(template: str, workspace: Object, values: Mapping[str, Any]) -> Object:
    """A child's manifest, stamped with its hash."""
    meta = metadata(workspace)
    base = {
        "name": meta["name"],
        "namespace": meta["namespace"],
        "owner_references": [controller_reference(workspace, WORKSPACES)],
    }
    return stamped(render(template, {"workspace": base, **values}))


def write_if_needed(
    resource: Resource, desired: Object, live: Object | None, created: Event | None = None
) -> Write | None:
    """The write that makes `live` what is desired, or None. `created` is the event of a first write."""
    if live is None:
        return Write(resource, desired, event=created)
    return None if difference(desired, live) is None else Write(resource, desired)


def ours(child: Object, workspace: Object) -> bool:
    """Whether a child in the Workspace's namespace belongs to it.

    It is controlled by the Workspace; or it is controlled by nobody and carries our label, as after a restore from a
    backup that lost owner references.
    """
    controller = controller_uid(child)
    if controller is not None:
        return bool(controller == metadata(workspace)["uid"])
    return bool(labels_of(child).get(WORKSPACE_LABEL) == metadata(workspace)["name"])
