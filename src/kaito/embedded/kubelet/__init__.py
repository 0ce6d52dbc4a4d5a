"""Nodes of the embedded Kubernetes: pods as processes of this machine.

A plain client of the Kubernetes API, like a real kubelet. `setup` adds it to a manager.

What processes are not, compared with containers:

- nothing is isolated: a pod's program runs as the user and sees this machine's files; only programs that resolve their
  paths below KAITO_MOUNT_ROOT see their volumes at the mount paths (so do `kubectl exec` commands and `kubectl cp`);
- CPU and memory limits, security contexts, hostPorts and read-only mounts are not enforced;
- only declared container ports exist, each as another port of 127.0.0.1 that the program finds in KAITO_PORT_<port>;
- pods reach Services and one another over HTTP only, through the proxy in http_proxy;
- ConfigMaps and Secrets are read when the pod starts; changes do not appear in running pods.
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
