"""The machine controller: makes Machines and NodeClaims real through a `CloudProvider`.

setup(manager, provider)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

from kaito import __version__
from kaito.api.labels import CLAIM_UID_ANNOTATION
from kaito.controllers.machine.collector import GarbageCollector
from kaito.controllers.machine.decide import Limits
from kaito.controllers.machine.drain_watch import DrainWatch
from kaito.controllers.machine.end_metrics import EndMetrics
from kaito.controllers.machine.metrics import MachineMetrics, MeasuredCloud
from kaito.controllers.machine.nodes import provider_key
from kaito.controllers.machine.reconciler import CLAIM_INDEX, PROVIDER_INDEX, MachineReconciler
from kaito.controllers.machine.repair import NodeRepair, repair_facts
from kaito.controllers.machine.running import RunningCluster
from kaito.controllers.machine.shapes import MACHINE_SHAPE, NODECLAIM_SHAPE, SHAPES, ClaimShape
from kaito.controllers.machine.surroundings import Surroundings
from kaito.provisioner.cloud import CloudProvider, existing_id
from kaito.runtime.controller import Controller, ControllerOptions, Watch
from kaito.runtime.events import EventRecorder
from kaito.runtime.informer import Informer
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import changed
from kaito.runtime.resources import NODES, ObjectKey

FIELD_MANAGER: Final = "kaito-machine"
USER_AGENT: Final = f"{FIELD_MANAGER}/{__version__}"
WORKERS: Final = 32
"""Claims at work at the same time; a worker waits for requests only, never for a machine to boot."""

DEFAULT_LIMITS: Final = Limits()

__all__ = [
    "DEFAULT_LIMITS",
    "FIELD_MANAGER",
    "MACHINE_SHAPE",
    "NODECLAIM_SHAPE",
    "SHAPES",
    "USER_AGENT",
    "ClaimShape",
    "Limits",
    "setup",
]


def setup(
    manager: Manager,
    provider: CloudProvider,
    *,
    shapes: Sequence[ClaimShape] = SHAPES,
    limits: Limits = DEFAULT_LIMITS,
    workers: int = WORKERS,
) -> None:
    """Adds one controller for each kind of claim to the manager, garbage collection and node repair.

    shapes: which kinds; their CRDs must be installed. limits: when a claim is given up.
    """
    client = manager.client.named(USER_AGENT, field_manager=FIELD_MANAGER)
    recorder = EventRecorder(client, FIELD_MANAGER, manager.clock)
    manager.add(recorder)
    nodes = manager.cache.informer(NODES)
    nodes.add_indexer(PROVIDER_INDEX, _node_provider_id)
    metrics = MachineMetrics(shapes, manager.clock)
    manager.metrics.add(metrics)
    cloud = MeasuredCloud(provider, metrics.cloud)
    running = RunningCluster(cloud, manager.clock)
    drains = DrainWatch(client, manager.clock)
    manager.add(drains)
    claim_of = _NodesClaim(provider.claim_label)
    nodes.add_indexer(CLAIM_INDEX, claim_of)
    if provider.claim_label:
        nodes.add_label_index(provider.claim_label)
    wakers: list[Callable[[ObjectKey], None]] = []
    informers: dict[ClaimShape, Informer] = {}
    for shape in shapes:
        claims = informers[shape] = manager.cache.informer(shape.resource)
        claims.add_indexer(PROVIDER_INDEX, _claim_provider_id)
        reconciler = MachineReconciler(
            shape,
            client,
            cloud,
            recorder,
            manager.clock,
            claims=claims,
            nodes=nodes,
            limits=limits,
            metrics=metrics.claims(shape),
            drains=drains,
            running=running,
        )
        controller = Controller(
            f"{FIELD_MANAGER}-{shape.resource.kind.lower()}",
            reconciler.reconcile,
            primary=shape.resource,
            watches=[Watch(NODES, _ClaimsOfNode(claims, claim_of), predicates=[changed(_node_facts)])],
            options=ControllerOptions(workers=workers),
        )
        manager.add(controller)
        reconciler.enqueue = controller.enqueue
        wakers.append(_waker(claims, reconciler, controller))

    around = Surroundings(client, cloud, recorder, manager.clock, informers, nodes, running, metrics)
    collector = _look_after(manager, around, drains, hidden=provider.hidden)

    def wake(claim: str) -> None:
        for each in wakers:
            each(ObjectKey(None, claim))
        collector.wake(claim)

    provider.subscribe(wake)


def _look_after(
    manager: Manager, around: Surroundings, drains: DrainWatch, *, hidden: bool
) -> GarbageCollector:
    """Garbage collection, node repair, and what can be seen of both and of drains."""
    collector, repair = GarbageCollector(around, hidden=hidden), NodeRepair(around)
    manager.add(collector)
    name = f"{FIELD_MANAGER}-repair"
    manager.add(Controller(name, repair.reconcile, primary=NODES, predicates=[changed(repair_facts)]))
    manager.metrics.add(EndMetrics(drains, collector, repair))
    return collector


def _waker(
    claims: Informer, reconciler: MachineReconciler, controller: Controller
) -> Callable[[ObjectKey], None]:
    """Brings a claim of one kind back at the provider's word; does nothing for names of another kind."""

    def wake(key: ObjectKey) -> None:
        if claims.lister.get(key.name) is not None:
            reconciler.wake(key)
            controller.enqueue(key)

    return wake


class _NodesClaim:
    """Index of Nodes: the claim that the cloud's label names. label: "" for a cloud without one."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __call__(self, node: CachedObject) -> tuple[str, ...]:
        claim = node.meta.labels.get(self._label)
        return (claim,) if claim else ()


class _ClaimsOfNode:
    """Mapper: the claims with the Node's provider id, and the one that its label names."""

    def __init__(self, claims: Informer, claim_of: _NodesClaim) -> None:
        self._claims = claims
        self._claim_of = claim_of

    def __call__(self, node: CachedObject) -> Iterable[ObjectKey]:
        lister = self._claims.lister
        for provider_id in _node_provider_id(node):
            yield from (claim.key for claim in lister.by_index(PROVIDER_INDEX, provider_id))
        for name in self._claim_of(node):
            if (claim := lister.get(name)) is not None:
                yield claim.key


def _node_provider_id(node: CachedObject) -> tuple[str, ...]:
    return _facts(node)[0]


def _node_facts(node: CachedObject) -> Hashable:
    """What of a Node can change a decision; heartbeats cannot."""
    return _facts(node)


def _facts(node: CachedObject) -> tuple[tuple[str, ...], str]:
    return node.cached_view(_read_facts)


def _read_facts(node: CachedObject) -> tuple[tuple[str, ...], str]:
    tree = node.decode()
    spec, status, metadata = tree.get("spec") or {}, tree.get("status") or {}, tree["metadata"]
    ready = [each.get("status") for each in status.get("conditions") or () if each.get("type") == "Ready"]
    parts: list[Any] = [
        *(metadata.get(key) for key in ("labels", "finalizers", "ownerReferences", "deletionTimestamp")),
        (metadata.get("annotations") or {}).get(CLAIM_UID_ANNOTATION),
        *(spec.get("taints"), ready, status.get("allocatable")),
    ]
    provider_id = spec.get("providerID")
    # A claim may know it by either.
    ids = (existing_id(metadata["name"]), *((provider_key(provider_id),) if provider_id else ()))
    return ids, repr(parts)


def _claim_provider_id(claim: CachedObject) -> tuple[str, ...]:
    return claim.cached_view(_read_provider_id)


def _read_provider_id(claim: CachedObject) -> tuple[str, ...]:
    provider_id = (claim.decode().get("status") or {}).get("providerID")
    return (provider_key(provider_id),) if provider_id else ()
