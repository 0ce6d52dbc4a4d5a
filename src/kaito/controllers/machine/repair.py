"""Node repair: a claim whose Node stays sick is deleted, and its owner makes another.

Lent Nodes are their owner's to mend: another one could be no better, and giving one back while it is sick hides it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

from kaito.api import labels
from kaito.api.conditions import find_condition, is_true
from kaito.controllers.machine import health
from kaito.controllers.machine.nodes import is_lent, provider_key
from kaito.controllers.machine.reconciler import PROVIDER_INDEX
from kaito.controllers.machine.shapes import ClaimShape
from kaito.controllers.machine.surroundings import Surroundings
from kaito.provisioner.errors import CloudError
from kaito.runtime.errors import Conflict, Invalid, NotFound
from kaito.runtime.logs import get_logger
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import ObjectKey
from kaito.runtime.result import Result

BLOCKED_RETRY: Final = 300.0
"""Seconds until a repair that was held back is looked at again (Karpenter)."""
BLOCKED_EVENT: Final = 900.0
"""Seconds between two events about one Node whose repair is held back (Karpenter)."""
LEAST_WAIT: Final = 10.0
"""Seconds between two questions whether the cluster runs."""

log = get_logger(__name__)


class NodeRepair:
    """Reconciles Nodes. blocked: names of sick Nodes whose replacement is held back, with when that was told."""

    def __init__(self, around: Surroundings) -> None:
        self.blocked: dict[str, float] = {}
        self._client = around.client
        self._recorder = around.recorder
        self._clock = around.clock
        self._claims = around.claims
        self._nodes = around.nodes
        self._running = around.running
        self._metrics = around.metrics

    async def reconcile(self, key: ObjectKey) -> Result | None:
        """One look at one Node."""
        cached = self._nodes.lister.get(key.name)
        node = None if cached is None else cached.decode()
        sick = None if node is None else health.sickness(node)
        if node is None or sick is None or (found := self._claim_of(node)) is None:
            self.blocked.pop(key.name, None)
            return None
        shape, claim = found
        left = (sick.due - self._clock.wall()).total_seconds()
        if left > 0:
            return Result(requeue_after=left)
        pool = health.pool_of(node, [each.decode() for each in self._nodes.lister.list()])
        if why := health.too_many(pool):
            self._hold_back(key.name, claim, why)
            return Result(requeue_after=BLOCKED_RETRY)
        self.blocked.pop(key.name, None)
        try:
            await self._running.check()
        except CloudError as error:
            return Result(requeue_after=max(LEAST_WAIT, error.retry_after))
        if (grace := self._running.grace_left) > 0:
            return Result(requeue_after=grace)
        return await self._replace(shape, claim, node, sick)

    def _claim_of(self, node: Mapping[str, Any]) -> tuple[ClaimShape, dict[str, Any]] | None:
        """The claim that the Node was made for; None for those of others, lent, unregistered or leaving ones."""
        provider_id = (node.get("spec") or {}).get("providerID")
        if not provider_id or node["metadata"].get("deletionTimestamp"):
            return None
        for shape, informer in self._claims.items():
            for cached in informer.lister.by_index(PROVIDER_INDEX, provider_key(provider_id)):
                claim = cached.decode()
                conditions = (claim.get("status") or {}).get("conditions")
                if (
                    shape.is_ours(cached.meta, claim)
                    and cached.meta.deletion_timestamp is None
                    and is_true(conditions, shape.registered)
                    and not is_lent(claim)
                ):
                    return shape, claim
        return None

    def _hold_back(self, node: str, claim: Mapping[str, Any], why: str) -> None:
        told = self.blocked.get(node)
        if told is None or self._clock.now() - told >= BLOCKED_EVENT:
            self.blocked[node] = self._clock.now()
            self._recorder.event(claim, "Warning", "NodeRepairBlocked", f"Node {node} is not replaced: {why}")

    async def _replace(
        self, shape: ClaimShape, claim: dict[str, Any], node: Mapping[str, Any], sick: health.Sickness
    ) -> Result | None:
        """Pods get no time: their kubelet has said nothing for too long. The deadline says so to the drain."""
        metadata = claim["metadata"]
        try:
            await self._set_deadline(shape, claim)
            message = f"its Node {node['metadata']['name']} is not healthy: {sick}; it is replaced"
            self._recorder.event(claim, "Warning", "NodeUnhealthy", message)
            await self._client.delete(shape.resource, metadata["name"], uid=metadata["uid"])
        except NotFound:
            return None
        except Conflict:
            return Result(requeue_after=0)
        self._metrics.claims(shape).gave_up("NodeUnhealthy")
        return None

    async def _set_deadline(self, shape: ClaimShape, claim: dict[str, Any]) -> None:
        patch = health.termination_patch(claim, self._clock.wall())
        if patch is None:
            return
        try:
            await self._client.patch(shape.resource, claim["metadata"]["name"], patch=patch)
        except Invalid:
            # A claim of older days, which may be deleted and not changed: its pods have a minute past their grace.
            log.info("a claim takes no deadline", claim=claim["metadata"]["name"])


def repair_facts(node: CachedObject) -> Hashable:
    """What of a Node can change the decision; heartbeats cannot."""
    return node.cached_view(_read_facts)


def _read_facts(node: CachedObject) -> Hashable:
    tree = node.decode()
    metadata, status = tree["metadata"], tree.get("status") or {}
    found = metadata.get("labels") or {}
    watched = [find_condition(status.get("conditions"), each.type) or {} for each in health.POLICIES]
    return (
        (tree.get("spec") or {}).get("providerID"),
        metadata.get("deletionTimestamp"),
        *(found.get(label) for label in (labels.NODEPOOL_LABEL, labels.REGISTERED_LABEL)),
        *((each.get("status"), each.get("lastTransitionTime")) for each in watched),
    )
