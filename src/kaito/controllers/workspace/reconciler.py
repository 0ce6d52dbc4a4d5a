"""One pass over one Workspace: observe, decide, act."""

from __future__ import annotations

from typing import Final

from kaito.catalog import Catalog
from kaito.controllers.workspace.act import Actor, Pass
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide import decide
from kaito.controllers.workspace.decide.deletion import orphans
from kaito.controllers.workspace.observe import Observer
from kaito.runtime.clock import Clock
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.result import Result

CATCH_UP: Final = 5.0
"""Seconds that a pass waits for a cache to show the previous pass's writes; after that it goes on, which is safe: every
write can be repeated."""


class WorkspaceReconciler:
    """The reconcile function of the workspace controller."""

    def __init__(
        self, observer: Observer, actor: Actor, catalog: Catalog, config: WorkspaceConfig, clock: Clock
    ) -> None:
        self._observer = observer
        self._actor = actor
        self._catalog = catalog
        self._config = config
        self._clock = clock
        self._written: dict[ObjectKey, dict[Resource, str]] = {}
        self._uids: dict[ObjectKey, str] = {}

    async def reconcile(self, key: ObjectKey) -> Result | None:
        """Bring the Workspace one step nearer to what it asks for."""
        await self._catch_up(key)
        workspace = self._observer.workspace(key)
        if workspace is None:
            self._actor.forget(self._uids.pop(key, ""))
            await self._end_orphans(key)
            return None
        if self._uids.get(key) not in (None, workspace.meta.uid):
            self._actor.forget(self._uids[key])  # made anew under the same name
        self._uids[key] = workspace.meta.uid
        observed = self._observer.observe(workspace)
        decision = decide(observed, self._catalog, self._config, self._clock.wall())
        done = Pass()
        try:
            return await self._actor.act(workspace, observed.workspace, decision, done)
        finally:
            if done.written:
                self._written[key] = done.written

    async def _end_orphans(self, key: ObjectKey) -> None:
        resource = self._config.node_provisioner.claims
        if resource is not None:
            await self._actor.end_orphans(key, orphans(self._observer.claims_of(key), resource))

    async def _catch_up(self, key: ObjectKey) -> None:
        """Read one's own writes: wait until the caches contain what the last pass wrote."""
        for resource, version in self._written.pop(key, {}).items():
            informer = self._observer.informer(resource)
            if informer is not None and not informer.has_seen(version):
                await informer.wait_seen(version, CATCH_UP)
