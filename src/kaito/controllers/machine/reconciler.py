"""The machine reconciler: reads caches, asks `decide`, does one step after the other, writes the status once.

The only file of this controller that does I/O. It serves Machine and NodeClaim alike; what differs is in `shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from kaito.api.labels import TERMINATION_FINALIZER
from kaito.api.reasons import CLAIM_REASONS, Course
from kaito.controllers.machine.decide import (
    CheckInstance,
    CheckRunning,
    Decision,
    DeleteClaim,
    Launch,
    Limits,
    Observed,
    PatchClaim,
    PatchNode,
    ReleaseClaim,
    ReleaseNode,
    Step,
    Terminate,
    Warned,
    decide,
)
from kaito.controllers.machine.decide.drain_steps import (
    DeletePods,
    DrainStep,
    Evict,
    LookAtPods,
    LookAtVolumes,
    NoteDeadline,
    PodsOnNode,
)
from kaito.controllers.machine.drain_watch import DrainWatch
from kaito.controllers.machine.memory import ClaimMemory
from kaito.controllers.machine.metrics import ClaimMetrics
from kaito.controllers.machine.nodes import provider_key
from kaito.controllers.machine.running import RunningCluster
from kaito.controllers.machine.shapes import ClaimShape
from kaito.provisioner.cloud import CloudProvider, InstanceRef
from kaito.provisioner.errors import CloudError, InstanceNotFound, InstancePending
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, parse_time
from kaito.runtime.errors import Conflict, Invalid, NotFound
from kaito.runtime.events import EventRecorder
from kaito.runtime.finalizers import remove_finalizer
from kaito.runtime.informer import Informer
from kaito.runtime.logs import get_logger
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import NODES, ObjectKey
from kaito.runtime.result import Result

log = get_logger(__name__)

PROVIDER_INDEX: Final = "provider-id"
"""Claims and Nodes by `provider_key` of their id."""
CLAIM_INDEX: Final = "claim"
"""Nodes by the claim that a label of the cloud names."""
_STEP_LIMIT: Final = 32
"""Steps of one pass; a live claim takes at most four, one on its way out two for each of its Nodes and three more."""


class ClaimGone(Exception):
    """The claim went away in the middle of a pass."""


class MachineReconciler:
    """Reconciles the claims of one shape against one cloud."""

    def __init__(
        self,
        shape: ClaimShape,
        client: Client,
        provider: CloudProvider,
        recorder: EventRecorder,
        clock: Clock,
        *,
        claims: Informer,
        nodes: Informer,
        limits: Limits,
        metrics: ClaimMetrics,
        drains: DrainWatch,
        running: RunningCluster,
    ) -> None:
        self._shape = shape
        self._client = client
        self._provider = provider
        self._recorder = recorder
        self._clock = clock
        self._claims = claims
        self._nodes = nodes
        self._limits = limits
        self._metrics = metrics
        self._drains = drains
        self._running = running
        self.enqueue: Callable[[ObjectKey], object] = self.wake
        """Asks for another pass: the controller's, once there is one."""
        self._memory = ClaimMemory(clock, self._joined)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        """One pass over one claim."""
        self._memory.begin(key)
        cached = self._claims.lister.get(key.name)
        if cached is None:
            self._memory.forget(key)
            self._metrics.gone(key.name)
            self._drains.forget(self.owner(key))
            return None
        claim = cached.decode()
        if not self._shape.is_ours(cached.meta, claim):
            return None
        try:
            return await _Pass(self, cached, self._observe(cached, claim)).run()
        except ClaimGone:
            return None
        except Conflict:
            return Result(requeue_after=0)

    def wake(self, key: ObjectKey) -> None:
        """The provider has news of this claim: it may be asked at once, also when a pass is just under way."""
        self._memory.wake(key)

    def _observe(self, cached: CachedObject, claim: dict[str, Any]) -> Observed:
        provider_id = (claim.get("status") or {}).get("providerID")
        found = self._nodes.lister.by_index(PROVIDER_INDEX, provider_key(provider_id)) if provider_id else []
        ended = self._memory.is_ended(cached)
        return Observed(
            self._shape,
            claim,
            tuple(node.decode() for node in found),
            instance="absent" if ended else None,
            hold=self._memory.hold_left(cached),
            drained=self._drains.is_done(self.owner(cached.key), cached.meta.uid),
            ended=ended,
            missing=self._memory.missing_for(cached, bool(found)),
        )

    def log_trouble(self, cached: CachedObject, warning: Warned) -> None:
        """Each reason once for each claim: a warning if somebody has to mend it. What waits is told on the claim."""
        course = CLAIM_REASONS.get(warning.reason)
        if course is Course.WAITS or self._memory.is_logged(cached, warning.reason):
            return
        if course is Course.STUCK:
            log.warning("a claim is in trouble", reason=warning.reason, why=warning.message)
        else:
            log.info("a claim is given up or held up", reason=warning.reason, why=warning.message)

    def owner(self, key: ObjectKey) -> tuple[str, str]:
        """Who a claim is among claims of all kinds."""
        return self._shape.resource.kind, key.name

    def _joined(self, claim: str) -> frozenset[str]:
        """Ids of the Nodes that the cloud's label gives to the claim of that name."""
        found = (node.decode() for node in self._nodes.lister.by_index(CLAIM_INDEX, claim))
        return frozenset(
            node["spec"]["providerID"] for node in found if (node.get("spec") or {}).get("providerID")
        )


class _Pass:
    """One pass: the world as it was observed, replaced step by step by what the steps returned."""

    def __init__(self, owner: MachineReconciler, cached: CachedObject, observed: Observed) -> None:
        self._owner = owner
        self._client = owner._client
        self._provider = owner._provider
        self._resource = owner._shape.resource
        self._memory = owner._memory
        self._cached = cached
        self._observed = observed

    async def run(self) -> Result | None:
        decision = await self._steps()
        if self._observed.asked:
            for_node = isinstance(self._observed.launch, InstancePending)
            self._memory.hold(self._cached, decision.requeue_after, for_node=for_node)
        await self._write_status(decision)
        status = self._observed.claim.get("status") or {} if decision.status is None else decision.status
        self._owner._metrics.saw(self._observed.claim, status)
        if decision.warning is not None:
            self._warn(decision.warning)
        return None if decision.requeue_after is None else Result(requeue_after=decision.requeue_after)

    async def _steps(self) -> Decision:
        for _ in range(_STEP_LIMIT):
            decision = decide(self._observed, self._owner._clock.wall(), self._owner._limits)
            if decision.step is None:
                return decision
            if decision.warning is not None:
                self._warn(decision.warning)
                if isinstance(decision.step, DeleteClaim):
                    self._owner._metrics.gave_up(decision.warning.reason)
            await self._perform(decision.step)
        raise RuntimeError(
            f"{self._resource.kind} {self._cached.meta.name}: no end after {_STEP_LIMIT} steps"
        )

    async def _perform(self, step: Step) -> None:
        match step:
            case PatchClaim(patch):
                self._observed = replace(self._observed, claim=await self._patch_claim(patch))
            case Launch(spec):
                try:
                    self._observed = replace(self._observed, launch=await self._provider.create(spec))
                except CloudError as error:
                    self._owner._running.heard(error)
                    self._observed = replace(self._observed, launch=error)
            case PatchNode(name, patch):
                node = await self._client.patch(NODES, name, patch=patch)
                self._observed = replace(self._observed, nodes=_with_node(self._observed.nodes, node))
            case CheckInstance(provider_id):
                await self._check(provider_id)
            case CheckRunning():
                await self._check_running()
            case Terminate(provider_id):
                self._owner._drains.done(self._owner.owner(self._cached.key), self._cached.meta.uid)
                await self._terminate(provider_id)
            case ReleaseNode(node):
                await self._release_node(node)
            case DeleteClaim():
                await self._client.delete(self._resource, self._cached.meta.name, uid=self._cached.meta.uid)
                raise ClaimGone
            case ReleaseClaim():
                await remove_finalizer(self._client, self._resource, self._cached, TERMINATION_FINALIZER)
                raise ClaimGone
            case _:
                await self._drain(step)

    async def _drain(self, step: DrainStep) -> None:
        drains, key, observed = self._owner._drains, self._cached.key, self._observed
        owner, wake = self._owner.owner(key), partial(self._owner.enqueue, key)
        match step:
            case LookAtPods(node):
                self._saw_pods(node, drains.pods(node, owner, wake))
            case Evict(node, pods):
                self._saw_pods(node, await drains.evict(node, pods))
            case DeletePods(node, pods_and_seconds):
                self._saw_pods(node, await drains.delete(node, pods_and_seconds))
            case LookAtVolumes(node, staying):
                found = await drains.volumes(node, owner, wake, staying=staying)
                self._observed = replace(observed, volumes={**observed.volumes, node: found})
            case NoteDeadline(annotations):
                self._observed = replace(observed, claim=await self._annotate(annotations))

    def _saw_pods(self, node: str, pods: PodsOnNode) -> None:
        self._observed = replace(self._observed, pods={**self._observed.pods, node: pods})

    async def _annotate(self, annotations: Mapping[str, str]) -> dict[str, Any]:
        """The annotated claim; one that the API server takes for invalid is annotated in this pass only."""
        try:
            return await self._patch_claim({"metadata": {"annotations": dict(annotations)}})
        except Invalid:
            claim = self._observed.claim
            metadata = claim["metadata"]
            merged = {**(metadata.get("annotations") or {}), **annotations}
            return {**claim, "metadata": {**metadata, "annotations": merged}}

    async def _patch_claim(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._client.patch(self._resource, self._cached.meta.name, patch=patch)
        except NotFound:
            raise ClaimGone from None

    async def _check(self, provider_id: str) -> None:
        try:
            await self._provider.get(self._ref(provider_id))
        except InstanceNotFound:
            self._observed = replace(self._observed, instance="absent")
        except CloudError as error:
            self._observed = replace(self._observed, instance=error)
        else:
            self._observed = replace(self._observed, instance="present")
            if not self._observed.nodes:
                self._memory.misses_node(self._cached, running=True)

    async def _check_running(self) -> None:
        try:
            await self._owner._running.check()
        except CloudError as error:
            self._observed = replace(self._observed, running=error)
            self._memory.misses_node(self._cached, running=False)
        else:
            self._observed = replace(self._observed, running=True, lasted=self._owner._running.lasted)

    async def _terminate(self, provider_id: str | None) -> None:
        try:
            await self._owner._running.check()
            gone = await self._provider.delete(self._ref(provider_id or ""))
        except InstanceNotFound:
            gone = True
        except CloudError as error:
            self._observed = replace(self._observed, instance=error, ended=True)
            return
        if gone:
            self._memory.end(self._cached)
        self._observed = replace(self._observed, instance="absent" if gone else "leaving", ended=True)

    def _ref(self, provider_id: str) -> InstanceRef:
        """The claim's instance; without an id, one whose creation nobody lived to write down."""
        meta = self._cached.meta
        created = parse_time(self._observed.claim["metadata"]["creationTimestamp"])
        return InstanceRef(provider_id, meta.name, meta.uid, created)

    async def _release_node(self, node: Mapping[str, Any]) -> None:
        name = node["metadata"]["name"]
        cached = self._owner._nodes.lister.get(name)
        if cached is not None:
            await remove_finalizer(self._client, NODES, cached, TERMINATION_FINALIZER)
            await self._client.delete(NODES, name, uid=cached.meta.uid)
        self._observed = replace(self._observed, released=self._observed.released | {name})

    async def _write_status(self, decision: Decision) -> None:
        if decision.status is None:
            return
        before = self._observed.claim.get("status") or {}
        changed = {key: value for key, value in decision.status.items() if before.get(key) != value}
        if not changed:
            return
        metadata = self._observed.claim["metadata"]
        try:
            await self._client.patch_status(
                self._resource, metadata["name"], None, changed, resource_version=metadata["resourceVersion"]
            )
        except NotFound:
            raise ClaimGone from None
        except Invalid:
            # Older claims break rules of today's schema. What is being deleted must go all the same.
            if not metadata.get("deletionTimestamp"):
                raise

    def _warn(self, warning: Warned) -> None:
        """On its way out once only, also where no status can remember that it was told."""
        if self._memory.is_told(self._cached, warning):
            return
        self._owner.log_trouble(self._cached, warning)
        self._owner._recorder.event(self._observed.claim, "Warning", warning.reason, warning.message)


def _with_node(
    nodes: tuple[Mapping[str, Any], ...], node: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
    uid = node["metadata"]["uid"]
    return tuple(node if each["metadata"]["uid"] == uid else each for each in nodes)
