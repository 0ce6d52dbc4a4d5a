"""What tests of a claim's end share: a cloud with instances, Nodes with pods on them, and a kubelet that obeys."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from controllers.machine.builders import GPU_TAINT, NC6, claim
from kaito.api import labels
from kaito.api.conditions import find_condition
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner.cloud import ClaimSpec, CloudProvider, Instance, InstanceRef
from kaito.provisioner.errors import CloudError, InstanceNotFound
from kaito.runtime.clock import Clock, rfc3339
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import EVENTS, NODES, PODS, VOLUME_ATTACHMENTS, Resource
from support.control_plane import ControlPlane

NAME = "ws123456789"
DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
Object = dict[str, Any]


class Pools(CloudProvider):
    """A cloud that makes instances at once. refusal: of `check_running`. stays: deletions never come to an end.
    deletions: when it was asked for one. lists: how often it was asked for all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.instances: dict[str, Instance] = {}
        self.refusal: CloudError | None = None
        self.cannot_delete: CloudError | None = None
        self.stays = False
        self.deletions: list[float] = []
        self.gets = 0
        self.lists = 0
        self.checks = 0

    async def create(self, claim: ClaimSpec) -> Instance:
        if claim.uid not in self.instances:
            self.instances[claim.uid] = Instance(
                f"azure:///vmss/{claim.name}",
                NC6,
                claim_uid=claim.uid,
                claim_name=claim.name,
                created=self._clock.wall(),
            )
        return self.instances[claim.uid]

    async def get(self, ref: InstanceRef) -> Instance:
        self.gets += 1
        for each in self.instances.values():
            if ref.claim_uid == each.claim_uid:
                return each
        raise InstanceNotFound(f"{ref} is gone")

    async def delete(self, ref: InstanceRef) -> bool:
        self.deletions.append(round(self._clock.now(), 1))
        if self.cannot_delete is not None:
            raise self.cannot_delete
        if self.stays:
            return False
        self.instances.pop(ref.claim_uid, None)
        return True

    async def list(self) -> Sequence[Instance]:
        self.lists += 1
        return list(self.instances.values())

    async def check_running(self) -> None:
        self.checks += 1
        if self.refusal is not None:
            raise self.refusal

    def leak(self, name: str = "leaked", uid: str = "uid-of-nobody", **changes: Any) -> None:
        """An instance whose claim is not there."""
        made = Instance(f"azure:///vmss/{name}", NC6, claim_uid=uid, claim_name=name)
        self.instances[uid or name] = replace(made, **changes)


async def a_node(
    world: ControlPlane, name: str = NAME, *, provider_id: str = "", ready: str = "True", pool: str = ""
) -> None:
    """A kubelet joins and says whether it is ready, as of now."""
    found = {labels.INSTANCE_TYPE_LABEL: NC6, **({labels.NODEPOOL_LABEL: pool} if pool else {})}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": found},
        "spec": {"providerID": provider_id or f"azure:///vmss/{name}", "taints": [GPU_TAINT]},
    }
    await world.client.create(NODES, node)
    await turn(world, name, ready)


async def turn(world: ControlPlane, name: str = NAME, ready: str = "False") -> None:
    """The Node's condition Ready changes now."""
    since = rfc3339(world.clock.wall())
    resources = {"cpu": "6", labels.GPU_RESOURCE: "1"}
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": since}
    status = {"conditions": [condition], "capacity": resources, "allocatable": resources}
    await world.client.patch_status(NODES, name, None, status)
    await world.clock.sleep(0.1)


async def a_claim(
    world: ControlPlane, shape: ClaimShape = NODECLAIM_SHAPE, name: str = NAME, **changes: Any
) -> Object:
    """A claim with a Node, both ready."""
    await world.client.create(shape.resource, claim(shape, name=name, **changes))
    await world.clock.sleep(0.1)
    await a_node(world, name)
    found = await world.client.get(shape.resource, name)
    ready = find_condition(found["status"]["conditions"], "Ready")
    assert ready is not None
    assert ready["status"] == "True", found["status"]
    return found


async def a_pod(
    world: ControlPlane, name: str = "web", *, node: str = NAME, metadata: Object | None = None, **spec: Any
) -> Object:
    """A pod that runs on the node."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **(metadata or {})},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "example.com/c:1"}], **spec},
    }
    made = await world.client.create(PODS, pod)
    ready = {"type": "Ready", "status": "True"}
    await world.client.patch_status(PODS, name, "default", {"phase": "Running", "conditions": [ready]})
    await world.clock.sleep(0.1)
    return made


async def leaving(world: ControlPlane, *names: str) -> list[bool]:
    """Which pods were told to go."""
    found = [await world.client.get(PODS, name, "default") for name in names]
    return ["deletionTimestamp" in each["metadata"] for each in found]


async def ends(world: ControlPlane, *names: str) -> None:
    """The kubelet reports that pods have ended."""
    for name in names:
        await world.client.delete(PODS, name, "default", grace_period=0)
    await world.clock.sleep(0.1)


async def a_daemon_set(world: ControlPlane) -> Object:
    """Metadata of the pods of a new DaemonSet, whose owner the garbage collector finds."""
    labels = {"app": "daemon"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "example.com/c:1"}]},
    }
    body = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "daemon", "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    made = await world.client.create(DAEMON_SETS, body)
    return {"ownerReferences": [owner(made)]}


def owner(of: Object) -> Object:
    metadata = of["metadata"]
    return {
        "apiVersion": of["apiVersion"],
        "kind": of["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


async def a_budget(world: ControlPlane, name: str = "budget", app: str = "web") -> None:
    """Allows no eviction at all of the pods with this label."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": app}}},
    }
    await world.client.create(BUDGETS, body)


async def an_attachment(world: ControlPlane, volume: str, node: str = NAME) -> None:
    source = {"persistentVolumeName": volume}
    body = {
        "apiVersion": VOLUME_ATTACHMENTS.api_version,
        "kind": "VolumeAttachment",
        "metadata": {"name": f"of-{volume}"},
        "spec": {"attacher": "disk.csi.azure.com", "nodeName": node, "source": source},
    }
    await world.client.create(VOLUME_ATTACHMENTS, body)


async def delete(world: ControlPlane, shape: ClaimShape = NODECLAIM_SHAPE, name: str = NAME) -> None:
    """A user deletes the claim; what follows at once has happened."""
    await world.client.delete(shape.resource, name)
    await world.clock.sleep(0.1)


async def is_gone(world: ControlPlane, resource: Resource, name: str = NAME) -> bool:
    with suppress(NotFound):
        await world.client.get(resource, name)
        return False
    return True


async def condition(
    world: ControlPlane, type: str, shape: ClaimShape = NODECLAIM_SHAPE, name: str = NAME
) -> tuple[str, str, str]:
    """Status, reason and message."""
    found = find_condition((await world.client.get(shape.resource, name))["status"]["conditions"], type)
    assert found is not None
    return found["status"], found["reason"], found.get("message", "")


async def events(world: ControlPlane, reason: str) -> list[Object]:
    """Warnings of this reason."""
    await world.clock.sleep(0.1)
    return [each for each in await world.client.list(EVENTS, "default") if each["reason"] == reason]
