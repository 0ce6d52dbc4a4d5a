"""Rendering a child and finding out whether it has to be written. Shared by everything that wants children."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from kaito.api.labels import DESIRED_HASH_ANNOTATION, WORKSPACE_LABEL
from kaito.api.resources import WORKSPACES
from kaito.controllers.workspace.compare import difference, stamped
from kaito.controllers.workspace.model import (
    Event,
    Object,
    Write,
    annotations_of,
    controller_uid,
    labels_of,
    metadata,
)
from kaito.controllers.workspace.render import render
from kaito.runtime.owners import controller_reference
from kaito.runtime.resources import Resource

REMEMBERED: Final = 1024
"""Children whose spec is known to be in sync, so that it need not be compared again until it changes."""
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
    return None if _in_sync(desired, live) else Write(resource, desired)


_known: OrderedDict[tuple[str, str, int], None] = OrderedDict()
"""A memo and nothing else: a hash of what was rendered, the live child's uid, and the generation at which its spec held
all of it. Metadata has no generation and is compared every time."""


def _in_sync(desired: Object, live: Object) -> bool:
    meta = metadata(live)
    if difference(desired["metadata"], meta) is not None:
        return False
    key = (
        annotations_of(desired)[DESIRED_HASH_ANNOTATION],
        str(meta.get("uid")),
        int(meta.get("generation") or 0),
    )
    if key in _known:
        _known.move_to_end(key)
        return True
    if difference(desired, live) is not None:
        return False
    if key[2]:  # kinds without generations (Services) tell nothing by it
        _known[key] = None
        if len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return True


def ours(child: Object, workspace: Object) -> bool:
    """Whether a child in the Workspace's namespace belongs to it.

    It is controlled by the Workspace; or it is controlled by nobody and carries our label, as after a restore from a
    backup that lost owner references.
    """
    controller = controller_uid(child)
    if controller is not None:
        return bool(controller == metadata(workspace)["uid"])
    return bool(labels_of(child).get(WORKSPACE_LABEL) == metadata(workspace)["name"])
