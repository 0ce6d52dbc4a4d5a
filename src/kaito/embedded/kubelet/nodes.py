"""Status and heartbeat of Node objects.

The instant cloud makes Node objects; a kubelet makes them Ready. All nodes share this one machine, so each shows its
whole CPU and memory; GPUs are what the node's label says, since there are none.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kaito import __version__
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, rfc3339, rfc3339_micro
from kaito.runtime.errors import AlreadyExists, ApiError, NotFound, TransportError
from kaito.runtime.informer import Lister
from kaito.runtime.logs import get_logger
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import LEASES, NODES, ObjectKey
from kaito.runtime.result import Result

log = get_logger(__name__)

INSTANT_LABEL: Final = "kaito.sh/instant-cloud"
SIMULATED_LABEL: Final = "kaito.sh/simulated-pods"
GPU_LABEL: Final = "nvidia.com/gpu.count"
LEASE_NAMESPACE: Final = "kube-node-lease"
ASSUMED_MEMORY_KIB: Final = 8 * 1024 * 1024
"""Where the system does not say how much memory it has."""
LEASE_DURATION: Final = 120
"""Seconds after which a node without a heartbeat may be taken for dead; renewed every quarter of it."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Machine:
    """What this computer has."""

    cpus: int
    memory_kib: int
    storage_kib: int
    architecture: str
    system: str
    kernel: str
    os_image: str


def this_machine(directory: str) -> Machine:
    """Facts of this computer; `directory` says which file system holds the pods."""
    disk = os.statvfs(directory)
    architectures = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    machine = platform.machine().lower()
    return Machine(
        os.cpu_count() or 1,
        _memory_kib(),
        disk.f_blocks * disk.f_frsize // 1024,
        architectures.get(machine, machine),
        platform.system().lower(),
        platform.release(),
        platform.platform(terse=True),
    )


def _memory_kib() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024
    except (ValueError, OSError):
        return ASSUMED_MEMORY_KIB


def capacity(machine: Machine, labels: Mapping[str, str]) -> dict[str, str]:
    """`status.capacity` and, since nothing is set aside, `status.allocatable`."""
    amounts = {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory_kib}Ki",
        "ephemeral-storage": f"{machine.storage_kib}Ki",
        "pods": "110",
    }
    gpus = labels.get(GPU_LABEL, "")
    if gpus.isdigit() and int(gpus):
        amounts["nvidia.com/gpu"] = gpus
    return amounts


_PRESSURES: Final = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}


def node_status(name: str, labels: Mapping[str, str], machine: Machine, port: int, now: datetime) -> Object:
    """The status of a node that is up. `port` is the kubelet's HTTP port; 0 where no process runs."""
    stamp = rfc3339(now)
    times = {"lastHeartbeatTime": stamp, "lastTransitionTime": stamp}
    pressures = [
        {"type": kind, "status": "False", **times, "reason": reason, "message": message}
        for kind, (reason, message) in _PRESSURES.items()
    ]
    ready = {"type": "Ready", "status": "True", **times, "reason": "KubeletReady"}
    amounts = capacity(machine, labels)
    return {
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [*pressures, {**ready, "message": "kubelet is posting ready status"}],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": "",
            "containerRuntimeVersion": f"kaito-processes://{__version__}",
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": f"v1.34.4+kaito-{__version__}",
            "machineID": "",
            "operatingSystem": machine.system,
            "osImage": machine.os_image,
            "systemUUID": "",
        },
    }


def settled(desired: Object, live: Mapping[str, Any]) -> bool:
    """Whether the live status says the same, times aside."""

    def conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        return {c["type"]: (c["status"], c.get("reason", "")) for c in status.get("conditions") or ()}

    wanted, found = conditions(desired), conditions(live)
    if any(found.get(kind) != value for kind, value in wanted.items()):
        return False
    port = (live.get("daemonEndpoints") or {}).get("kubeletEndpoint", {}).get("Port", 0)
    return bool(
        port == desired["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        and live.get("allocatable") == desired["allocatable"]
        and live.get("addresses") == desired["addresses"]
    )


class NodeKeeper:
    """Keeps the Nodes of one kind Ready: those that run processes, or the simulated ones.

    Simulated nodes have no Lease: nothing on them can die, and hundreds of heartbeats would only cost time.
    """

    needs_leader_election = False

    def __init__(
        self, client: Client, nodes: Lister, machine: Machine, clock: Clock, *, simulated: bool
    ) -> None:
        self.port = 0
        """The kubelet's HTTP port, once it is known; 0 where no process runs."""
        self._client = client
        self._nodes = nodes
        self._machine = machine
        self._clock = clock
        self._simulated = simulated

    def mine(self, node: CachedObject | None) -> bool:
        """Whether this is a node of the instant cloud and of the keeper's kind."""
        return node is not None and is_instant(node) and is_simulated(node) is self._simulated

    async def reconcile(self, key: ObjectKey) -> Result | None:
        """Write the node's status if it differs. A node whose kubelet does not listen yet is not Ready."""
        node = self._nodes.get(key.name)
        if node is None or not self.mine(node) or not (self.port or self._simulated):
            return None
        desired = node_status(key.name, node.meta.labels, self._machine, self.port, self._clock.wall())
        if not settled(desired, node.decode().get("status") or {}):
            with contextlib.suppress(NotFound):
                await self._client.patch_status(NODES, key.name, None, desired)
        return None

    async def run(self) -> None:
        """Renew the leases of the nodes, for ever."""
        while not self._simulated:
            for node in self._nodes.list():
                if self.mine(node):
                    try:
                        await self._beat(node)
                    except (ApiError, TransportError) as error:
                        log.warning("node lease not renewed", node=node.meta.name, cause=str(error))
            await self._clock.sleep(LEASE_DURATION / 4)

    async def _beat(self, node: CachedObject) -> None:
        name = node.meta.name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_DURATION,
            "renewTime": rfc3339_micro(self._clock.wall()),
        }
        try:
            await self._client.patch(LEASES, name, LEASE_NAMESPACE, patch={"spec": spec})
        except NotFound:
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.meta.uid}
            metadata = {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]}
            lease = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": metadata, "spec": spec}
            with contextlib.suppress(AlreadyExists):
                await self._client.create(LEASES, lease)


def is_instant(node: CachedObject) -> bool:
    return node.meta.labels.get(INSTANT_LABEL) == "true"


def is_simulated(node: CachedObject) -> bool:
    return node.meta.labels.get(SIMULATED_LABEL) == "true"


def machine_amounts(machine: Machine, node: CachedObject | None) -> dict[str, str]:
    """What a node offers, for the downward API."""
    return capacity(machine, node.meta.labels if node is not None else {})
