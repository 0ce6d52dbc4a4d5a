"""What an API server refuses before any controller sees it: the plan would be one for another Workspace."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from kaito.api import sentences
from kaito.api.workspace import WORKSPACE_CRD
from kaito.controllers.admission import Finding
from kaito.embedded.apiserver.schema.node import Node, prune

LONGEST_NAME: Final = 63
"""Characters of a Service's name, which a Workspace's is too."""
_NAME: Final = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")


def is_name(text: str) -> bool:
    """Whether a Workspace may have that name."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None


def not_accepted(workspace: Mapping[str, Any]) -> Iterator[Finding]:
    """An unknown version, a name that no Service can have, and the fields that a Workspace does not have."""
    version = str(workspace.get("apiVersion")).rpartition("/")[2]
    if version not in _schemas():
        names = " or ".join(f"{WORKSPACE_CRD.group}/{each}" for each in reversed(_schemas()))
        yield Finding("apiVersion", f"{workspace.get('apiVersion')} is not known; write {names}")
        return
    if not is_name(str(workspace["metadata"].get("name"))):
        yield Finding("metadata.name", sentences.WORKSPACE_NAME)
    unknown: list[str] = []
    schema = _schemas()[version]
    prune(schema, copy.deepcopy(dict(workspace)), "", unknown, root=True)
    for path in unknown:
        yield Finding(path, f"there is no such field{_meant(schema, path)}")


@cache
def _schemas() -> dict[str, Node]:
    """By version, the stored one last."""
    versions = WORKSPACE_CRD.manifest()["spec"]["versions"]
    return {each["name"]: Node(each["schema"]["openAPIV3Schema"]) for each in versions}


def _meant(schema: Node, path: str) -> str:
    """The nearest of the fields that may stand there."""
    *above, name = path.split(".")
    node: Node | None = schema
    for part in above:
        node = node.child(part.partition("[")[0]) if node is not None else None
        if node is not None and "[" in part:
            node = node.items
    known = {each.lower(): each for each in (node.properties if node is not None else ())}
    near = get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {known[near[0]]}?" if near else ""
