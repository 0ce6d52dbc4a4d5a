"""What a machine of an agent pool looks like as a Node, and when. Pure functions.

Labels, taints and the provider id are those that AKS puts on its nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from kaito.provisioner.testing.state import NEVER, VERSION, Place, VirtualMachine
from kaito.runtime.clock import rfc3339

Object: TypeAlias = dict[str, Any]
Ready: TypeAlias = Literal["True", "False", "Unknown"]

CLUSTER_LABEL: Final = "kubernetes.azure.com/cluster"
"""On each node of AKS: the group of its machines."""
NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_GPU: Final = "nvidia.com/gpu"
_MIG: Final = {"MIG1g": 7, "MIG2g": 3, "MIG3g": 2, "MIG4g": 1, "MIG7g": 1}
"""Devices that one GPU is split into."""


@dataclass(frozen=True, slots=True)
class Boot:
    """How machines of a pool come up. Seconds; None: never.

    joins: from the end of the operation that makes the machine, after which AKS counts it as there, until its Node is;
    negative: before, as AKS waits for its nodes. provider_id, ready, gpus: from joining. twice: a second Node shows the
    same machine, as after a rename.
    """

    joins: float | None = -20.0
    provider_id: float | None = 0.0
    ready: float | None = 10.0
    gpus: float | None = 15.0
    twice: bool = False


class Facets(NamedTuple):
    """What of a Node changes with time."""

    provider_id: bool
    ready: Ready
    gpus: int


def moments(machine: VirtualMachine, boot: Boot) -> tuple[float, float, float, float]:
    """Clock seconds of joining, provider id, readiness and GPUs; NEVER where it never happens."""
    if boot.joins is None or machine.up_at == NEVER:
        return NEVER, NEVER, NEVER, NEVER
    joined = machine.up_at + boot.joins
    after = [NEVER if each is None else joined + each for each in (boot.provider_id, boot.ready, boot.gpus)]
    return joined, after[0], after[1], after[2]


def facets(machine: VirtualMachine, boot: Boot, now: float, *, gpu_operator: bool) -> Facets | None:
    """How the Node is at this moment; None: it has not joined."""
    joined, identified, ready, gpus = moments(machine, boot)
    if now < joined:
        return None
    visible = now >= gpus and now >= ready
    return Facets(
        now >= identified, "True" if now >= ready else "False", _gpus(machine, gpu_operator) if visible else 0
    )


def _gpus(machine: VirtualMachine, gpu_operator: bool) -> int:
    driver = (machine.properties.get("gpuProfile") or {}).get("driver")
    if driver == "None" and not gpu_operator:
        return 0
    return machine.size.gpus * _MIG.get(machine.properties.get("gpuInstanceProfile", ""), 1)


def names(machine: VirtualMachine, boot: Boot) -> list[str]:
    """Names of the Nodes that show this machine."""
    return [machine.name, *([f"{machine.name}-again"] if boot.twice else [])]


def node(name: str, machine: VirtualMachine, place: Place, now: Facets, wall: datetime) -> Object:
    """The Node as the kubelet registers it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels(name, machine, place)},
        "spec": {
            **({"providerID": machine.provider_id} if now.provider_id else {}),
            "taints": taints([_taint(text) for text in machine.properties.get("nodeTaints") or ()], now),
        },
        "status": {
            **status(machine, now, wall),
            "addresses": [{"type": "Hostname", "address": name}],
            "nodeInfo": _node_info(name, str(machine.properties["osSKU"])),
        },
    }


def labels(name: str, machine: VirtualMachine, place: Place) -> dict[str, str]:
    """All labels of the Node; the pool's own do not replace AKS's."""
    pool, sent = machine.pool, machine.properties
    gpu = {"accelerator": "nvidia", "kubernetes.azure.com/accelerator": "nvidia"} if machine.size.gpus else {}
    spot = {"kubernetes.azure.com/scalesetpriority": "spot"} if sent.get("scaleSetPriority") == "Spot" else {}
    return {
        **(sent.get("nodeLabels") or {}),
        **gpu,
        **spot,
        "agentpool": pool,
        "beta.kubernetes.io/instance-type": machine.size.name,
        "kubernetes.azure.com/agentpool": pool,
        CLUSTER_LABEL: place.node_group,
        "kubernetes.azure.com/mode": str(sent["mode"]).lower(),
        "kubernetes.azure.com/os-sku": str(sent["osSKU"]),
        "kubernetes.azure.com/role": "agent",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": str(sent["osType"]).lower(),
        "node.kubernetes.io/instance-type": machine.size.name,
        "topology.kubernetes.io/region": place.location,
        "topology.kubernetes.io/zone": machine.zone,
    }


def status(machine: VirtualMachine, now: Facets, wall: datetime) -> Object:
    """Capacity and conditions."""
    capacity = {
        "cpu": str(machine.size.vcpus),
        "memory": f"{machine.size.memory}Gi",
        "ephemeral-storage": f"{machine.properties['osDiskSizeGB']}Gi",
        "pods": str(machine.properties["maxPods"]),
        **({_GPU: str(now.gpus)} if machine.size.gpus else {}),
    }
    return {"capacity": capacity, "allocatable": capacity, "conditions": conditions(now.ready, wall)}


def conditions(ready: Ready, wall: datetime) -> list[Object]:
    """As the kubelet reports them, or as the control plane where nobody does any more."""
    reason, message = {
        "True": ("KubeletReady", "kubelet is posting ready status"),
        "False": ("KubeletNotReady", "container runtime network not ready"),
        "Unknown": ("NodeStatusUnknown", "Kubelet stopped posting node status."),
    }[ready]
    pressure: Ready = "Unknown" if ready == "Unknown" else "False"
    found = [
        (f"{kind}Pressure", pressure, f"KubeletHas{enough}", f"kubelet has {words}")
        for kind, enough, words in (
            ("Memory", "SufficientMemory", "sufficient memory available"),
            ("Disk", "NoDiskPressure", "no disk pressure"),
            ("PID", "SufficientPID", "sufficient PID available"),
        )
    ]
    return [
        {
            "type": kind,
            "status": value,
            "reason": why,
            "message": words,
            "lastHeartbeatTime": rfc3339(wall),
            "lastTransitionTime": rfc3339(wall),
        }
        for kind, value, why, words in [*found, ("Ready", ready, reason, message)]
    ]


def taints(others: list[Object], now: Facets) -> list[Object]:
    """The node's taints with those that say that it is not ready."""
    kept = [taint for taint in others if taint["key"] not in (NOT_READY, UNREACHABLE)]
    if now.ready == "True":
        return kept
    key = NOT_READY if now.ready == "False" else UNREACHABLE
    effects = ("NoSchedule",) if now.ready == "False" else ("NoSchedule", "NoExecute")
    return [*kept, *({"key": key, "effect": effect} for effect in effects)]


def found_facets(found: Mapping[str, Any]) -> Facets:
    """Of a Node that was there already."""
    state = found.get("status") or {}
    ready = next((each for each in state.get("conditions") or () if each["type"] == "Ready"), None)
    gpus = (state.get("capacity") or {}).get(_GPU, "0")
    return Facets("providerID" in (found.get("spec") or {}), ready["status"] if ready else "False", int(gpus))


def _taint(text: str) -> Object:
    pair, _, effect = text.rpartition(":")
    key, equals, value = pair.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if equals else {})}


def _node_info(name: str, os_sku: str) -> Object:
    azure_linux = os_sku.startswith(("AzureLinux", "CBL"))
    return {
        "architecture": "amd64",
        "bootID": name,
        "containerRuntimeVersion": "containerd://1.7.27-1",
        "kernelVersion": "5.15.0-1089-azure",
        "kubeProxyVersion": f"v{VERSION}",
        "kubeletVersion": f"v{VERSION}",
        "machineID": name,
        "operatingSystem": "linux",
        "osImage": "Microsoft Azure Linux 3.0" if azure_linux else "Ubuntu 22.04.5 LTS",
        "systemUUID": name,
    }
