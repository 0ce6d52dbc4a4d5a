"""What matters of nodes that are there already, small enough to keep for thousands of them.

With `--node-provisioner=byo` many Workspaces often share one pool of nodes: each asks the same question of the same
nodes again and again. So a node is read once for each of its versions, nodes with one set of labels are gathered once
for all Workspaces that want them, and such a group remembers its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from kaito.api.conditions import is_true
from kaito.api.labels import GPU_RESOURCE
from kaito.runtime.objects import CachedObject

T = TypeVar("T")
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node; the times of its heartbeats are left out."""

    name: str
    labels: Mapping[str, str]
    ready: bool
    leaving: bool
    cordoned: bool
    taints: tuple[Mapping[str, Any], ...]
    gpus: int
    """GPUs that it offers to pods."""


def gpu_capacity(node: Object) -> int:
    """GPUs that a node offers to pods."""
    status = node.get("status") or {}
    value = (status.get("allocatable") or status.get("capacity") or {}).get(GPU_RESOURCE, "0")
    text = str(value)
    return int(text) if text.isdecimal() else 0


def facts_of(node: Object) -> NodeFacts:
    """The facts of a decoded Node."""
    metadata, spec = node["metadata"], node.get("spec") or {}
    return NodeFacts(
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        ready=is_true((node.get("status") or {}).get("conditions") or (), "Ready"),
        leaving=bool(metadata.get("deletionTimestamp")),
        cordoned=bool(spec.get("unschedulable")),
        taints=tuple(spec.get("taints") or ()),
        gpus=gpu_capacity(node),
    )


def read_facts(node: CachedObject) -> NodeFacts:
    """The facts of a cached Node, read once for each version of it."""
    return node.cached_view(_read)


def _read(node: CachedObject) -> NodeFacts:
    tree = node.decode()
    tree["metadata"]["labels"] = node.meta.labels  # the cache's own: they are kept anyway
    return facts_of(tree)


class ExistingNodes:
    """The nodes with one set of labels, at one moment, by name. Never changes, but remembers what was asked of it."""

    def __init__(self, nodes: Iterable[NodeFacts] = ()) -> None:
        self.nodes: tuple[NodeFacts, ...] = tuple(sorted(nodes, key=lambda node: node.name))
        self._answers: dict[Hashable, Any] = {}

    def answer(self, question: Hashable, find: Callable[[tuple[NodeFacts, ...]], T]) -> T:
        """`find(nodes)`, which must depend on the question alone; found once for each question."""
        if question not in self._answers:
            self._answers[question] = find(self.nodes)
        return cast(T, self._answers[question])
