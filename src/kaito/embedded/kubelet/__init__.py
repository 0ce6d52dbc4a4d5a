"""Nodes of the embedded Kubernetes: pods as processes of this machine.

A plain client of the Kubernetes API, like a real kubelet. `setup` adds it to a manager.
"""

from __future__ import annotations

from kaito.embedded.kubelet import simulated
from kaito.embedded.kubelet.images import ImageEntry, ImageTable
from kaito.embedded.kubelet.kubelet import Kubelet
from kaito.embedded.kubelet.nodes import NodeKeeper, this_machine
from kaito.embedded.kubelet.options import KubeletOptions
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.events import EventRecorder
from kaito.runtime.manager import Manager
from kaito.runtime.resources import NODES, PODS, SERVICES

__all__ = ["ImageEntry", "ImageTable", "Kubelet", "KubeletOptions", "setup"]


def setup(manager: Manager, options: KubeletOptions) -> Kubelet:
    """Add the process kubelet, and the one for simulated nodes, to a manager."""
    client = manager.client.named("kaito-kubelet", field_manager="kubelet")
    clock = manager.clock
    options.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    nodes, pods, services = (manager.cache.informer(resource) for resource in (NODES, PODS, SERVICES))
    machine = this_machine(str(options.directory))
    keeper = NodeKeeper(client, nodes.lister, machine, clock, simulated=False)
    recorder = EventRecorder(client, "kubelet", clock)
    node_controller = Controller(
        "kubelet-nodes",
        keeper.reconcile,
        primary=NODES,
        predicates=(lambda event: keeper.mine(event.obj),),
        options=ControllerOptions(workers=4, needs_leader_election=False),
    )
    kubelet = Kubelet(
        client,
        clock,
        recorder,
        options,
        machine,
        keeper,
        node_controller,
        pods=pods,
        nodes=nodes,
        services=services,
    )
    for runnable in (recorder, node_controller, keeper, kubelet):
        manager.add(runnable)
    simulated.setup(manager)
    return kubelet
