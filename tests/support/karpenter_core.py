"""A stand-in for a Karpenter: NodePools become NodeClaims, and these become nodes.

Static pools are done as Karpenter's core does: as many claims as `spec.replicas`, owned by their pool, named by the
server, labelled by the template. The claims are made real by our own machine controller, told to serve another node
class: it keeps Karpenter's contract, so this is one of the controllers that may take its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kaito.api.labels import NODEPOOL_LABEL
from kaito.api.resources import NODECLAIMS, NODEPOOLS
from kaito.controllers import machine
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape
from kaito.provisioner.cloud import CloudProvider
from kaito.runtime.client import Client
from kaito.runtime.controller import Controller, Watch
from kaito.runtime.errors import NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject, ObjectMeta
from kaito.runtime.resources import ObjectKey
from kaito.runtime.result import Result

Object = dict[str, Any]
AGENT: Final = "karpenter/1"
GROUP: Final = "karpenter.azure.com"
KIND: Final = "AKSNodeClass"


class _OfKarpenter(ClaimShape):
    """NodeClaims of Karpenter's node class, and no others."""

    def is_ours(self, meta: ObjectMeta, claim: Mapping[str, Any]) -> bool:
        reference = (claim.get("spec") or {}).get("nodeClassRef") or {}
        return (reference.get("group"), reference.get("kind")) == (GROUP, KIND)


@dataclass
class Core:
    """What tests may turn. static_capacity: the feature gate. node_classes: names that exist; None: all do."""

    static_capacity: bool = True
    node_classes: frozenset[str] | None = None
    made: list[str] = field(default_factory=list)
    """Names of all claims, in the order they were made."""


def setup(manager: Manager, provider: CloudProvider | None, core: Core | None = None) -> Core:
    """Adds it to a manager. Without a provider claims are made and nobody makes them real."""
    core = core or Core()
    pools = _Pools(manager, manager.client.named(AGENT, "karpenter"), core)
    manager.add(
        Controller(
            "karpenter-static",
            pools.reconcile,
            primary=NODEPOOLS,
            watches=[Watch(NODECLAIMS, _pool_of)],
        )
    )
    if provider is not None:
        shape = _OfKarpenter(
            NODECLAIM_SHAPE.resource,
            *NODECLAIM_SHAPE.dependents,
            with_generation=NODECLAIM_SHAPE.with_generation,
        )
        machine.setup(manager, provider, shapes=(shape,))
    return core


def _pool_of(claim: CachedObject) -> list[ObjectKey]:
    name = claim.meta.labels.get(NODEPOOL_LABEL)
    return [ObjectKey(None, name)] if name else []


class _Pools:
    def __init__(self, manager: Manager, client: Client, core: Core) -> None:
        self._client = client
        self._core = core
        self._pools = manager.cache.lister(NODEPOOLS)
        self._claims = manager.cache.lister(NODECLAIMS)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        found = self._pools.get(key.name)
        if found is None or found.meta.deletion_timestamp is not None:
            return None  # its claims are the garbage collector's
        pool = found.decode()
        spec = pool["spec"]
        reference = spec["template"]["spec"]["nodeClassRef"]
        if (reference["group"], reference["kind"]) != (GROUP, KIND) or "replicas" not in spec:
            return None
        exists = self._core.node_classes is None or reference["name"] in self._core.node_classes
        live = [claim for claim in self._claims.list() if _is_of(claim, pool)]
        await self._tell(pool, len(live), exists)
        if not exists or not self._core.static_capacity:
            return None
        for _ in range(spec["replicas"] - len(live)):
            made = await self._client.create(NODECLAIMS, _claim(pool))
            self._core.made.append(made["metadata"]["name"])
        surplus = sorted(live, key=lambda claim: (_is_ready(claim), claim.meta.name))
        for claim in surplus[: max(0, len(live) - spec["replicas"])]:
            await self._client.delete(NODECLAIMS, claim.meta.name, uid=claim.meta.uid)
        return None

    async def _tell(self, pool: Object, nodes: int, exists: bool) -> None:
        status = {"nodes": nodes, "conditions": _conditions(pool, exists)}
        if (pool.get("status") or {}) == status:
            return
        try:
            await self._client.patch_status(NODEPOOLS, pool["metadata"]["name"], None, status)
        except NotFound:
            return


def _conditions(pool: Object, exists: bool) -> list[Object]:
    since = pool["metadata"]["creationTimestamp"]
    name = pool["spec"]["template"]["spec"]["nodeClassRef"]["name"]
    missing = {"reason": "NodeClassNotFound", "message": f"NodeClass {name} not found on cluster"}
    said = {"reason": "NodeClassReady", "message": ""} if exists else missing
    status = "True" if exists else "False"
    return [
        {"type": "NodeClassReady", "status": status, "lastTransitionTime": since, **said},
        {"type": "Ready", "status": status, "lastTransitionTime": since, "reason": "Ready", "message": ""},
    ]


def _is_of(claim: CachedObject, pool: Object) -> bool:
    if claim.meta.deletion_timestamp is not None:
        return False
    return any(owner.uid == pool["metadata"]["uid"] for owner in claim.meta.owner_references)


def _is_ready(claim: CachedObject) -> bool:
    conditions = (claim.decode().get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _claim(pool: Object) -> Object:
    meta, template = pool["metadata"], pool["spec"]["template"]
    metadata = template.get("metadata") or {}
    reference = template["spec"]["nodeClassRef"]
    node_class = {f"{GROUP}/{KIND.lower()}": reference["name"]}
    owner = {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "generateName": f"{meta['name']}-",
            "labels": {**(metadata.get("labels") or {}), NODEPOOL_LABEL: meta["name"], **node_class},
            "annotations": metadata.get("annotations") or {},
            "ownerReferences": [{**owner, "blockOwnerDeletion": True}],
        },
        "spec": template["spec"],
    }
