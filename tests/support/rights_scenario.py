"""What happens in a cluster that makes KAITO use each of its rights: a list of steps, for later work to extend.

Whoever adds a request adds the step that provokes it here; a right that no step uses fails the test.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kaito.api.labels import WEIGHTS_CHECK_LABEL
from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.cli.operator.webhook_rights import SECRET
from kaito.cli.rbac.roles import NAMESPACE
from kaito.runtime.resources import (
    DEPLOYMENTS,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    SECRETS,
    STATEFULSETS,
    Resource,
)
from kaito.testing.backends import simulated_node
from kaito.testing.faults import Answer, DelayEvents, Faults, LoseAnswer, Match
from support.cluster import GC_LIMIT, Object, World

_ONE_NODE: Object = {
    "resource": {"instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"apps": "x"}}},
    "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
}
_TWO_NODES: Object = {
    "resource": {
        "instanceType": "Standard_NC24ads_A100_v4",
        "count": 2,
        "labelSelector": {"matchLabels": {"apps": "x"}},
    },
    "inference": {
        "preset": {"name": "gpt-oss-120b", "presetOptions": {"image": "registry.example.com/gpt-oss:1"}}
    },
}
_ADAPTERS = [{"source": {"name": "pirate", "image": "registry.example.com/pirate:1"}, "strength": "0.5"}]


@dataclass
class Scene:
    """Where the steps are played. `claims`: what asks for nodes. `faults` are between the operator and the API
    server, `cloud_faults` between the provisioner and it."""

    world: World
    faults: Faults
    cloud_faults: Faults
    claims: Resource
    nodes: list[str] = field(default_factory=list)

    async def create(self, name: str, body: Object, **metadata: Any) -> None:
        meta = self.world.meta(name, **metadata)
        kind = {"apiVersion": WORKSPACES.api_version, "kind": WORKSPACES.kind}
        await self.world.client.create(WORKSPACES, {**kind, "metadata": meta, **body})

    async def until_ready(self, name: str) -> None:
        async def ready() -> bool:
            found = await self.world.find(WORKSPACES, name)
            conditions = ((found or {}).get("status") or {}).get("conditions") or ()
            return any(each["type"] == "WorkspaceReady" and each["status"] == "True" for each in conditions)

        await self.world.until(ready, f"{name} is ready")

    async def until_there(self, resource: Resource, name: str, *, other_than: str = "") -> Object:
        found: list[Object] = []

        async def there() -> bool:
            live = await self.world.find(resource, name)
            if (
                live is None
                or live["metadata"]["uid"] == other_than
                or "deletionTimestamp" in live["metadata"]
            ):
                return False
            found.append(live)
            return True

        await self.world.until(there, f"{resource} {name}", GC_LIMIT)
        return found[-1]

    async def add_nodes(self, **labels: str) -> None:
        """Nodes that may be lent: enough for the model on two, and one more."""
        for number in range(4):
            name = f"{self.world.namespace}-{number}"
            node: Object = simulated_node(name, gpus=1, **labels)
            node["metadata"]["labels"] |= {
                "kaito.sh/existing-node": "true",
                "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4",
            }
            await self.world.client.create(NODES, node)
            self.nodes.append(name)

    async def remove_nodes(self) -> None:
        while self.nodes:
            await self.world.client.delete(NODES, self.nodes.pop())

    async def claim_of(self, name: str) -> Object:
        selector = f"kaito.sh/workspace={name},kaito.sh/workspacenamespace={self.world.namespace}"
        found = await self.world.client.list(self.claims, label_selector=selector)
        return found[0]


@dataclass(frozen=True)
class Step:
    """One thing that happens, after which the world is as it should be."""

    what: str
    play: Callable[[Scene], Awaitable[None]]


async def _answer_is_lost(scene: Scene) -> None:
    """The claim was made, its maker does not know it, and its cache shows it late. No node is there for it yet."""
    plural = scene.claims.plural
    await scene.create("one", _ONE_NODE)

    async def told() -> bool:
        found = await scene.world.find(WORKSPACES, "one")
        return "kaito.sh/existing-node=true" in str((found or {}).get("status"))

    await scene.world.until(told, "it is told that no node fits")
    await scene.add_nodes()
    await scene.until_ready("one")
    assert [
        each for each in scene.faults.injected if each.call.resource == plural and each.call.verb == "create"
    ]


async def _adapter_comes_and_goes(scene: Scene) -> None:
    client, space = scene.world.client, scene.world.namespace
    await client.patch(WORKSPACES, "one", space, patch={"inference": {"adapters": _ADAPTERS}})

    async def judged() -> bool:
        found = await scene.world.find(ADAPTERS, "one-pirate")
        return bool(found and found.get("status"))

    await scene.world.until(judged, "the adapter has a status")
    await client.patch(WORKSPACES, "one", space, patch={"inference": {"adapters": None}})
    await scene.world.gone(ADAPTERS, "one-pirate")
    await scene.until_ready("one")


async def _workload_is_deleted_by_hand(scene: Scene) -> None:
    for _ in range(3):
        live = await scene.until_there(DEPLOYMENTS, "one")
        uid = live["metadata"]["uid"]
        await scene.world.client.delete(DEPLOYMENTS, "one", scene.world.namespace)
        await scene.until_there(DEPLOYMENTS, "one", other_than=uid)
    await scene.until_ready("one")


async def _node_vanishes(scene: Scene) -> None:
    claim = await scene.claim_of("one")
    node = claim["status"]["nodeName"]
    await scene.world.client.patch(NODES, node, patch={"metadata": {"finalizers": None}})
    await scene.world.client.delete(NODES, node)

    async def replaced() -> bool:
        found = await scene.world.find(WORKSPACES, "one")
        workers = ((found or {}).get("status") or {}).get("workerNodes") or []
        return bool(workers) and node not in workers

    await scene.world.until(replaced, "another node is in its place", GC_LIMIT)
    await scene.until_ready("one")


async def _certificate_is_spoiled(scene: Scene) -> None:
    client = scene.world.client
    spoiled = b64encode(b"no certificate").decode()
    await client.patch(SECRETS, SECRET, NAMESPACE, patch={"data": {"tls.crt": spoiled}})

    async def renewed() -> bool:
        return (await client.get(SECRETS, SECRET, NAMESPACE))["data"]["tls.crt"] != spoiled

    await scene.world.until(renewed, "there is a certificate again")


async def _several_nodes(scene: Scene) -> None:
    await scene.create("two", _TWO_NODES)
    await scene.until_there(STATEFULSETS, "two")
    await scene.until_ready("two")


async def _budgets_follow(scene: Scene) -> None:
    """The users write a budget of their own over the pods, ours makes room, and comes back when theirs is gone."""
    client, space = scene.world.client, scene.world.namespace
    await scene.until_there(PODDISRUPTIONBUDGETS, "two")
    selector = {"matchLabels": {"kaito.sh/workspace": "two"}}
    kind = {"apiVersion": PODDISRUPTIONBUDGETS.api_version, "kind": PODDISRUPTIONBUDGETS.kind}
    theirs = {
        **kind,
        "metadata": scene.world.meta("theirs"),
        "spec": {"minAvailable": 1, "selector": selector},
    }
    await client.create(PODDISRUPTIONBUDGETS, theirs)
    await scene.world.gone(PODDISRUPTIONBUDGETS, "two")
    await client.delete(PODDISRUPTIONBUDGETS, "theirs", space)
    await scene.until_there(PODDISRUPTIONBUDGETS, "two")


async def weights_are_looked_at(world: World) -> None:
    """A pod does so for a Workspace `own`, and finds that they are another model's."""
    client, space = world.client, world.namespace
    weights = {"image": "registry.example.com/mine:1"}
    inference = {"preset": {"name": "phi-3-mini-4k-instruct", "weights": weights}}
    kind = {"apiVersion": WORKSPACES.api_version, "kind": WORKSPACES.kind}
    await client.create(
        WORKSPACES, {**kind, "metadata": world.meta("own"), **_ONE_NODE, "inference": inference}
    )
    found: list[Object] = []

    async def there() -> bool:
        found[:] = await client.list(PODS, space, label_selector=WEIGHTS_CHECK_LABEL)
        return bool(found)

    await world.until(there, "a pod looks at the weights")
    pod = found[0]["metadata"]["name"]
    ended = {"exitCode": 5, "message": "another model's", "startedAt": None, "finishedAt": None}
    container = {"name": "weights", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    statuses = [{**container, "state": {"running": None, "terminated": ended}}]
    await client.patch_status(PODS, pod, space, {"phase": "Failed", "containerStatuses": statuses})
    await world.gone(PODS, pod)
    assert (await client.get(WORKSPACES, "own", space))["status"]["reason"] == "WeightsDoNotFit"


async def _weights_are_looked_at(scene: Scene) -> None:
    await weights_are_looked_at(scene.world)


async def _everything_goes(scene: Scene) -> None:
    """A node cannot be given back at once, for one reason, then for another, then for the first again."""
    node = (await scene.claim_of("one"))["status"]["nodeName"]
    reasons = [Answer(500, message=reason) for reason in ("too hot", "too cold", "too hot")]
    scene.cloud_faults.script(Match(verb="get", resource="nodes", name=node), *reasons)
    for name in ("one", "two", "own"):
        await scene.world.client.delete(WORKSPACES, name, scene.world.namespace)
    for name in ("one", "two", "own"):
        await scene.world.gone(WORKSPACES, name, GC_LIMIT)
    await scene.remove_nodes()


STEPS: tuple[Step, ...] = (
    Step("the answer to the creation of a claim is lost", _answer_is_lost),
    Step("an adapter is added and taken out", _adapter_comes_and_goes),
    Step("a Deployment is deleted by hand, again and again", _workload_is_deleted_by_hand),
    Step("a node vanishes", _node_vanishes),
    Step("the webhook's certificate is spoiled by hand", _certificate_is_spoiled),
    Step("a model that needs several nodes", _several_nodes),
    Step("a budget over the pods comes and goes", _budgets_follow),
    Step("weights in an image are looked at", _weights_are_looked_at),
    Step("everything is deleted", _everything_goes),
)


def lose_an_answer(faults: Faults, claims: Resource) -> None:
    """For `_answer_is_lost`; before the operator starts, so that its watch is late from the beginning."""
    faults.add(Match(verb="watch", resource=claims.plural), DelayEvents(1.0), times=None, at_least=0)
    faults.add(Match(verb="create", resource=claims.plural), LoseAnswer())
