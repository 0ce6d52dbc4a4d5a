"""Notices another KAITO that is installed while this one runs.

This one goes on: to stop would leave the Workspaces to whichever of the two its owner happened not to look at. It says
so, once for each Deployment, in its log and in an event on that Deployment. The operator watches Deployments anyway,
so this costs no request.
"""

from __future__ import annotations

from kaito.api.labels import WORKSPACE_LABEL
from kaito.cli.beside.rules import GUIDE, Installation, deployment_conflict
from kaito.controllers.workspace.slim import slim_child
from kaito.runtime.events import EventRecorder
from kaito.runtime.logs import get_logger
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import DEPLOYMENTS

log = get_logger(__name__)


def watch_newcomers(manager: Manager, mine: Installation) -> None:
    """Has the manager tell of Deployments that must not run beside `mine`."""
    recorder = EventRecorder(manager.client, "kaito-operator", manager.clock)
    manager.add(recorder)
    manager.cache.informer(DEPLOYMENTS, transform=slim_child).add_handler(_Newcomers(mine, recorder))


class _Newcomers:
    def __init__(self, mine: Installation, recorder: EventRecorder) -> None:
        self._mine = mine
        self._recorder = recorder
        self._told: set[str] = set()

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self._see(obj)

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self._see(new)

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self._told.discard(obj.meta.uid)

    def _see(self, obj: CachedObject) -> None:
        if WORKSPACE_LABEL in obj.meta.labels:
            return  # a Workspace's own, of which there are many
        deployment = obj.decode()
        conflict = deployment_conflict(self._mine, deployment)
        if conflict is None:
            self._told.discard(obj.meta.uid)
        elif obj.meta.uid not in self._told:
            self._told.add(obj.meta.uid)
            log.warning(
                "another operator works on the same objects", found=conflict.what, remedy=conflict.remedy
            )
            text = f"{conflict}. Until then both write the same objects. See {GUIDE}"
            self._recorder.event(deployment, "Warning", "AnotherOperator", text)
