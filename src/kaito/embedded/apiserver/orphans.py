"""Pods whose node is gone: nobody is left to end them, so the server removes them.

Kubernetes' pod garbage collector does this in the controller manager, on a period and after forty seconds of doubt,
because its caches lag. Here the store is the truth, and the delay is only for a node that is made anew at once.
"""

from __future__ import annotations

from typing import Final

from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.deletion import Deleter
from kaito.embedded.apiserver.store import DELETED, Collection, Event, Key

QUARANTINE: Final = 5.0
"""Seconds a node must have been missing."""

_PODS: Final = "pods"
_NODES: Final = "nodes"


class OrphanedPods:
    """Removes pods bound to nodes that do not exist."""

    def __init__(self, core: Core, deleter: Deleter) -> None:
        self._core = core
        self._deleter = deleter
        self._suspected: set[str] = set()
        core.store.on_commit(self._committed)

    def _committed(self, collection: Collection, event: Event) -> None:
        if collection.name == _NODES and event.type == DELETED:
            self._suspect(event.record.key.name)
        elif collection.name == _PODS and event.type != DELETED:
            node = (event.record.obj.get("spec") or {}).get("nodeName")
            if node and self._is_missing(node):
                self._suspect(node)

    def _is_missing(self, node: str) -> bool:
        return self._core.store.collection(_NODES).get(Key("", node)) is None

    def _suspect(self, node: str) -> None:
        if node not in self._suspected:
            self._suspected.add(node)
            self._core.clock.call_later(QUARANTINE, self._judge, node)

    def _judge(self, node: str) -> None:
        self._suspected.discard(node)
        if not self._is_missing(node):
            return
        served = self._core.registry.builtin(_PODS)
        for record in list(served.collection.select(None)):
            if (record.obj.get("spec") or {}).get("nodeName") == node:
                self._deleter.begin(served, record, "Background", 0)
