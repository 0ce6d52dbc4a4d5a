"""Garbage collection, both ways: instances without a claim end, claims without an instance are given up.

Every two minutes, as Karpenter does it. The cloud is asked only if it can hold what no Node shows, or where something
looks left over; the API server is asked only before an instance is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kaito.api.conditions import is_true
from kaito.api.labels import CLAIM_UID_ANNOTATION, TERMINATION_FINALIZER
from kaito.controllers.machine import garbage
from kaito.controllers.machine.nodes import provider_key
from kaito.controllers.machine.reconciler import PROVIDER_INDEX
from kaito.controllers.machine.shapes import SHAPES, ClaimShape
from kaito.controllers.machine.surroundings import Surroundings
from kaito.provisioner.cloud import Instance, InstanceRef
from kaito.provisioner.errors import CloudError, InstanceNotFound, InstancePending
from kaito.runtime.clock import parse_time
from kaito.runtime.errors import ApiError, NotFound, TransportError
from kaito.runtime.finalizers import FinalizerError, remove_finalizer
from kaito.runtime.logs import get_logger
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import NODES

PERIOD: Final = 120.0
"""Seconds between two looks (Karpenter)."""

log = get_logger(__name__)


class GarbageCollector:
    """Looks, every `PERIOD`; runs on the leader only.

    hidden: as `CloudProvider.hidden`. leaked: instances without a claim at the last look. ended: instances that were
    ended for it, each counted once.
    """

    def __init__(self, around: Surroundings, *, hidden: bool) -> None:
        self.leaked = 0
        self.ended = 0
        self._client = around.client
        self._cloud = around.cloud
        self._recorder = around.recorder
        self._clock = around.clock
        self._claims = around.claims
        self._nodes = around.nodes
        self._running = around.running
        self._metrics = around.metrics
        self._hidden = hidden
        self._asked: set[str] = set()
        self._orphans: frozenset[str] = frozenset()
        self._called = asyncio.Event()
        self._problem = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._pause()
            try:
                await self.look()
                self._problem = ""
            except (ApiError, TransportError, FinalizerError, CloudError) as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    log.warning("garbage is not collected; tried again every two minutes", cause=str(error))

    async def _pause(self) -> None:
        try:
            async with self._clock.timeout(PERIOD):
                await self._called.wait()
        except TimeoutError:
            pass
        self._called.clear()

    def wake(self, claim: str) -> None:
        """The provider asks for this claim: where it is gone, only this one can answer for its instance."""
        if claim in self._orphans:
            self._called.set()

    async def look(self) -> None:
        """One look, and what follows from it. Raises `CloudError` where the cloud cannot be asked, and what a client
        raises."""
        uids = self._claim_uids()
        lost = self._may_be_lost()
        strays = [
            node for node in self._nodes.lister.list() if garbage.left_behind(node.meta, uids, self._claims)
        ]
        if not (self._hidden or lost or strays or self._is_lent_to_nobody(uids)):
            self.leaked, self._orphans = 0, frozenset()
            return
        instances = await self._cloud.list()
        orphans = garbage.orphans(instances, self._claim_uids(), self._clock.wall())
        lost = [(shape, claim) for shape, claim in lost if not garbage.has_instance(claim, instances)]
        self.leaked, self._orphans = len(orphans), frozenset(each.claim_name for each in orphans)
        self._asked &= {each.claim_uid for each in orphans}
        if not (orphans or lost or strays):
            return
        await self._running.check()
        await self._end(orphans)
        for shape, claim in lost:
            await self._give_up(shape, claim)
        for node in strays:
            await self._release(node, instances)

    # -- what the caches show ---------------------------------------------------------------------------------

    def _claim_uids(self) -> set[str]:
        return {claim.meta.uid for informer in self._claims.values() for claim in informer.lister.list()}

    def _may_be_lost(self) -> list[tuple[ClaimShape, dict[str, Any]]]:
        """Claims of which no Node is Ready although one was."""
        found = []
        for shape, informer in self._claims.items():
            for cached in informer.lister.list():
                provider_id = cached.cached_view(_VIEWS[shape.resource])
                if provider_id and shape.is_ours(cached.meta, claim := cached.decode()):
                    nodes = self._nodes.lister.by_index(PROVIDER_INDEX, provider_id)
                    if not any(node.cached_view(_is_ready) for node in nodes):
                        found.append((shape, claim))
        return found

    def _is_lent_to_nobody(self, uids: set[str]) -> bool:
        lent = (node.cached_view(_lent_to) for node in self._nodes.lister.list())
        return any(uid and uid not in uids for uid in lent)

    # -- what is done about it --------------------------------------------------------------------------------

    async def _end(self, orphans: Sequence[Instance]) -> None:
        for instance in orphans:
            if await self._has_claim(instance):
                self.leaked -= 1
                continue
            try:
                await self._cloud.delete(instance.ref)
            except InstanceNotFound:
                pass
            except InstancePending:
                continue
            except CloudError as error:
                log.warning(
                    "an instance without a claim cannot be ended",
                    instance=str(instance.ref),
                    cause=str(error),
                )
                continue
            if instance.claim_uid not in self._asked:
                self._asked.add(instance.claim_uid)
                self.ended += 1
                log.warning("an instance whose claim is gone is ended", instance=str(instance.ref))

    async def _has_claim(self, instance: Instance) -> bool:
        """What the API server itself says: a cache may be behind, and machines are not made again."""
        for shape in SHAPES:
            try:
                found = await self._client.list(
                    shape.resource, field_selector=f"metadata.name={instance.claim_name}"
                )
            except NotFound:
                continue  # this kind is not installed
            if any(each["metadata"]["uid"] == instance.claim_uid for each in found):
                return True
        return False

    async def _give_up(self, shape: ClaimShape, claim: dict[str, Any]) -> None:
        metadata = claim["metadata"]
        ref_id = claim["status"]["providerID"]
        try:
            await self._cloud.get(_ref(claim))
            return  # the list was behind
        except InstanceNotFound:
            pass
        message = f"its instance {ref_id} is gone, and no Node of it is Ready"
        self._recorder.event(claim, "Warning", "InstanceGone", message)
        self._metrics.claims(shape).gave_up("InstanceGone")
        await self._client.delete(shape.resource, metadata["name"], uid=metadata["uid"])

    async def _release(self, node: CachedObject, instances: Sequence[Instance]) -> None:
        """A Node whose claim is gone goes as soon as its instance is gone as well."""
        uid = garbage.left_behind(node.meta, self._claim_uids(), self._claims)
        provider_id = provider_key(str((node.decode().get("spec") or {}).get("providerID") or ""))
        if not uid or any(
            each.claim_uid == uid or (provider_id and provider_key(each.provider_id) == provider_id)
            for each in instances
        ):
            return
        log.warning("a Node whose claim and instance are gone is released", node=node.meta.name)
        await remove_finalizer(self._client, NODES, node, TERMINATION_FINALIZER)
        await self._client.delete(NODES, node.meta.name, uid=node.meta.uid)


def _ref(claim: Mapping[str, Any]) -> InstanceRef:
    metadata = claim["metadata"]
    created = parse_time(metadata["creationTimestamp"])
    return InstanceRef(claim["status"]["providerID"], metadata["name"], metadata["uid"], created)


def _is_ready(node: CachedObject) -> bool:
    return is_true((node.decode().get("status") or {}).get("conditions"), "Ready")


def _lent_to(node: CachedObject) -> str:
    annotations = node.decode()["metadata"].get("annotations") or {}
    return str(annotations.get(CLAIM_UID_ANNOTATION) or "")


def _kept_id(shape: ClaimShape) -> Callable[[CachedObject], str]:
    def view(cached: CachedObject) -> str:
        """The id of the instance that the claim lives by; "" where it lives by none."""
        claim = cached.decode()
        return provider_key(claim["status"]["providerID"]) if garbage.is_kept(shape, claim) else ""

    return view


_VIEWS: Final = {shape.resource: _kept_id(shape) for shape in SHAPES}
"""Functions that stay the same: what they say of an object is remembered under them."""
