"""Pods without processes, for benches and tests of everything above the kubelet.

Pods bound to a node labelled `kaito.sh/simulated-pods=true` turn Running and Ready at once, with one write each, and
say so in an annotation; those of Jobs succeed at once; deletions complete at once. Nothing answers on their addresses.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kaito.embedded.kubelet.allocation import AddressPool
from kaito.embedded.kubelet.nodes import SIMULATED_LABEL, NodeKeeper, is_simulated, this_machine
from kaito.embedded.kubelet.records import Role, Termination, records_of
from kaito.embedded.kubelet.status import PodFacts, pod_status
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.errors import Conflict, NotFound
from kaito.runtime.informer import Lister
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import Event
from kaito.runtime.resources import NODES, PODS, ObjectKey
from kaito.runtime.result import Result

NETWORK: Final = "10.245.0.0/16"
"""Apart from the process kubelet's, which may serve the same cluster from another process."""
WORKERS: Final = 32
"""Requests in flight."""
OVER: Final = ("Running", "Succeeded", "Failed")

Object = dict[str, Any]


class _Spec(msgspec.Struct, rename="camel", frozen=True):
    node_name: str | None = None


class _Pod(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


_decode = msgspec.json.Decoder(_Pod).decode


def node_name(pod: CachedObject) -> str:
    """`spec.nodeName`, "" for a pod that is not bound yet; reads nothing else, since every pod event needs it."""
    return _decode(pod.raw).spec.node_name or ""


class SimulatedPods:
    """Reconciles pods on simulated nodes."""

    def __init__(self, client: Client, pods: Lister, nodes: Lister, clock: Clock) -> None:
        self._client = client
        self._pods = pods
        self._nodes = nodes
        self._clock = clock
        self._addresses = AddressPool(NETWORK)

    def concerns(self, event: Event) -> bool:
        """Whether an event is about a bound pod of a simulated node."""
        node = self._nodes.get(event.obj.cached_view(node_name))
        return node is not None and is_simulated(node)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        """One write for a pod that is new or to be deleted, none for all others."""
        cached = self._pods.get(key.name, key.namespace)
        if cached is None:
            return None
        node = self._nodes.get(cached.cached_view(node_name))
        if node is None or not is_simulated(node):
            return None
        try:
            if cached.meta.deletion_timestamp is not None:
                await self._client.delete(
                    PODS, key.name, key.namespace, uid=cached.meta.uid, grace_period=0, propagation=None
                )
                self._addresses.give_back(str((cached.decode().get("status") or {}).get("podIP", "")))
            else:
                await self._run(cached)
        except (NotFound, Conflict):
            return None
        return None

    async def _run(self, cached: CachedObject) -> None:
        pod = cached.decode()
        live = pod.get("status") or {}
        if live.get("phase") in OVER:
            return
        patch = {
            "metadata": {"uid": cached.meta.uid, "annotations": {SIMULATED_LABEL: "true"}},
            "status": self._status(pod, live),
        }
        await self._client.patch(
            PODS, cached.key.name, cached.key.namespace, patch=patch, subresource="status"
        )

    def _status(self, pod: Object, live: Object) -> Object:
        now = self._clock.wall()
        spec = pod["spec"]
        records = records_of(spec)
        for record in records.values():
            record.simulate(now)
            if record.role is Role.MAIN and _is_job(pod):
                record.end(Termination(0, "Completed", now, now))
        gates = [gate["conditionType"] for gate in spec.get("readinessGates") or ()]
        return pod_status(records, PodFacts(self._addresses.take(), now), live, now, gates)


def _is_job(pod: Object) -> bool:
    """Whether the pod is there to end."""
    return any(each["kind"] == "Job" for each in pod["metadata"].get("ownerReferences") or ())


def setup(manager: Manager) -> None:
    """Add the controllers of simulated nodes and their pods to a manager."""
    client = manager.client.named("kaito-simulated-kubelet", field_manager="kubelet")
    nodes = manager.cache.lister(NODES)
    keeper = NodeKeeper(client, nodes, this_machine("/"), manager.clock, simulated=True)
    pods = SimulatedPods(client, manager.cache.lister(PODS), nodes, manager.clock)
    options = ControllerOptions(workers=WORKERS, needs_leader_election=False)
    manager.add(
        Controller(
            "simulated-nodes",
            keeper.reconcile,
            primary=NODES,
            predicates=(lambda event: keeper.mine(event.obj),),
            options=options,
        )
    )
    manager.add(
        Controller(
            "simulated-pods", pods.reconcile, primary=PODS, predicates=(pods.concerns,), options=options
        )
    )
