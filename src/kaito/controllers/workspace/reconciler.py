"""One pass over one Workspace: observe, decide, act."""

from __future__ import annotations

from kaito.api.resources import NODEPOOLS
from kaito.catalog.models import CatalogSource
from kaito.controllers.workspace.act import Actor, Pass
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide import decide
from kaito.controllers.workspace.decide.deletion import orphans
from kaito.controllers.workspace.metrics import WorkspaceMetrics
from kaito.controllers.workspace.needs import Resolver
from kaito.controllers.workspace.observe import Observer
from kaito.runtime.clock import Clock
from kaito.runtime.resources import ObjectKey
from kaito.runtime.result import Result


class WorkspaceReconciler:
    """The reconcile function of the workspace controller."""

    def __init__(
        self,
        observer: Observer,
        actor: Actor,
        catalog: CatalogSource,
        config: WorkspaceConfig,
        clock: Clock,
        metrics: WorkspaceMetrics,
        resolver: Resolver,
    ) -> None:
        self._observer = observer
        self._actor = actor
        self._catalog = catalog
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._resolver = resolver
        self._uids: dict[ObjectKey, str] = {}

    async def reconcile(self, key: ObjectKey) -> Result | None:
        """Bring the Workspace one step nearer to what it asks for."""
        workspace = self._observer.workspace(key)
        if workspace is None:
            self._actor.forget(self._uids.pop(key, ""))
            self._metrics.gone(key)
            self._resolver.want(key, ())
            await self._end_orphans(key)
            return None
        if self._uids.get(key) not in (None, workspace.meta.uid):
            self._actor.forget(self._uids[key])  # made anew under the same name
        self._uids[key] = workspace.meta.uid
        observed = self._observer.observe(workspace, self._resolver.answers(key))
        decision = decide(observed, self._catalog.current, self._config, self._clock.wall())
        self._resolver.want(key, decision.needs)
        done = Pass()
        try:
            return await self._actor.act(workspace, observed.workspace, decision, done)
        finally:
            status = done.status if done.status is not None else observed.workspace.get("status") or {}
            self._metrics.saw(key, observed.workspace, status, observed.nodes)

    async def _end_orphans(self, key: ObjectKey) -> None:
        resource = self._config.node_provisioner.claims
        if resource is None:
            return
        ends = orphans(self._observer.claims_of(key), resource)
        if (pool := self._observer.pool_of(key)) is not None:
            ends = (*ends, *orphans([pool], NODEPOOLS))
        await self._actor.end_orphans(key, ends)
