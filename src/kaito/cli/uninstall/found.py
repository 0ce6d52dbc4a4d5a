"""What is there: read from the API server, nothing written. Kinds that are not served have no objects."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Any, Final

from kaito.api.crds import LABELS
from kaito.api.labels import (
    INSTANCE_TYPE_LABEL,
    KARPENTER_INFERENCESET_LABEL,
    KARPENTER_WORKSPACE_LABEL,
    KARPENTER_WORKSPACE_NAMESPACE_LABEL,
    NODEPOOL_LABEL,
    RAGENGINE_LABEL,
    WORKSPACE_LABEL,
    WORKSPACE_NAMESPACE_LABEL,
    WORKSPACE_UID_LABEL,
)
from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.cli.operator.names import LEASE_NAME
from kaito.cli.uninstall.kinds import (
    COMPONENT_LABEL,
    IN_EVERY_NAMESPACE,
    OCCUPANTS,
    ORDER,
    OWN_NAMES,
    SELECTOR,
    UNINSTALL_ROLE,
)
from kaito.runtime.client import Client
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import CRDS, DEPLOYMENTS, LEASES, NAMESPACES, NODES, Resource

Object = dict[str, Any]

CLAIM_KINDS: Final = (NODEPOOLS, MACHINES, NODECLAIMS)
"""What machines stand behind: a pool goes before the claims that a Karpenter makes of it."""
_AKS_MACHINE: Final = re.compile(
    r"azure:///.*/(?:virtualMachineScaleSets|virtualMachines)/aks-([a-z0-9]+)-", re.IGNORECASE
)
"""Provider ids of machines in an agent pool, whichever the pool's type."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object."""

    resource: Resource
    tree: Object

    @property
    def name(self) -> str:
        return str(self.tree["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        return self.tree["metadata"].get("namespace") if self.resource.namespaced else None

    @property
    def uid(self) -> str:
        return str(self.tree["metadata"]["uid"])

    @property
    def deleting(self) -> bool:
        return bool(self.tree["metadata"].get("deletionTimestamp"))

    @property
    def labels(self) -> dict[str, str]:
        return self.tree["metadata"].get("labels") or {}

    @property
    def conditions(self) -> list[Object]:
        return (self.tree.get("status") or {}).get("conditions") or []

    def __str__(self) -> str:
        return f"{self.resource.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Costs:
    """What costs money. `others`: claims that KAITO did not make for a Workspace of this cluster; never touched."""

    workspaces: tuple[Item, ...] = ()
    claims: tuple[Item, ...] = ()
    others: tuple[Item, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.workspaces or self.claims)


@dataclass(frozen=True, slots=True)
class Installation:
    """What runs KAITO.

    items: what goes, in the order of `kinds.ORDER`. kept: why the namespace stays, where it does.
    """

    items: tuple[Item, ...] = ()
    kept: str = ""


async def costs(client: Client) -> Costs:
    """Workspaces, and the claims behind them."""
    workspaces, *claims = await asyncio.gather(*(_items(client, each) for each in (WORKSPACES, *CLAIM_KINDS)))
    found = [claim for listed in claims for claim in listed]
    names: set[tuple[str | None, str | None]] = {(each.namespace, each.name) for each in workspaces}
    pools = {each.name for each in found if each.resource == NODEPOOLS and _ours(each, names)}
    ours = [claim for claim in found if _ours(claim, names) or claim.labels.get(NODEPOOL_LABEL) in pools]
    others = tuple(claim for claim in found if claim not in ours)
    return Costs(tuple(workspaces), tuple(ours), others)


def _ours(claim: Item, workspaces: Set[tuple[str | None, str | None]]) -> bool:
    """Made by this operator, or by the Go KAITO for a Workspace that is still here; never one of a RAGEngine or of an
    InferenceSet. A Karpenter's claim on its way out, whose pool is gone already, is waited for as well."""
    labels = claim.labels
    if RAGENGINE_LABEL in labels:
        return False
    if WORKSPACE_UID_LABEL in labels:
        return True
    pooled = _labels_of_nodes(claim) if claim.resource == NODEPOOLS else labels
    if KARPENTER_INFERENCESET_LABEL in pooled:
        return False
    if KARPENTER_WORKSPACE_LABEL in pooled:
        named = (pooled.get(KARPENTER_WORKSPACE_NAMESPACE_LABEL), pooled[KARPENTER_WORKSPACE_LABEL])
        return named in workspaces or (claim.resource == NODECLAIMS and claim.deleting)
    return (labels.get(WORKSPACE_NAMESPACE_LABEL), labels.get(WORKSPACE_LABEL)) in workspaces


def _labels_of_nodes(pool: Item) -> dict[str, str]:
    """The labels that a NodePool's nodes get."""
    template = (pool.tree.get("spec") or {}).get("template") or {}
    return (template.get("metadata") or {}).get("labels") or {}


async def nodes_left(client: Client) -> list[str]:
    """Nodes that still carry the label of a claim of ours, or of a NodePool's."""
    listed = [
        await _items(client, NODES, label) for label in (WORKSPACE_UID_LABEL, KARPENTER_WORKSPACE_LABEL)
    ]
    return sorted({each.name for items in listed for each in items})


async def adapters(client: Client) -> int:
    """How many Adapters there are; they cost nothing and go with their definition."""
    return len(await _items(client, ADAPTERS))


async def installation(client: Client) -> Installation:
    """Everything that the manifests installed, and what the operator made beside itself, in whichever namespace."""
    kinds = [resource for group in ORDER for resource in group]
    listed = await asyncio.gather(*(_items(client, each, SELECTOR) for each in kinds))
    labelled = [item for items in listed for item in items if item.name != UNINSTALL_ROLE]
    uids = {item.uid for item in labelled}
    spaces = [item.name for item in labelled if item.resource == NAMESPACES]
    own = await asyncio.gather(
        *(_item(client, resource, name, space) for resource, name in OWN_NAMES for space in spaces)
    )
    unlabelled = [item for item in own if item is not None and item.uid not in uids]
    found = [*labelled, *unlabelled]
    kept = ""
    for space in [item for item in found if item.resource == NAMESPACES]:
        if (other := await _occupant(client, space.name, found)) is not None:
            found.remove(space)
            kept = f"Namespace {space.name} stays: {other} in it is not KAITO's"
    found.sort(key=lambda item: kinds.index(item.resource))
    return Installation(tuple(found), kept)


async def definitions(client: Client) -> tuple[Item, ...]:
    """The CRDs that came with KAITO's manifests; those of a Karpenter or of the Go KAITO lack the label."""
    return tuple(await _items(client, CRDS, SELECTOR))


async def objects_of(client: Client, definition: Item) -> int:
    """How many objects of a CRD's kind exist, whoever made them."""
    spec = definition.tree["spec"]
    version = next(each["name"] for each in spec["versions"] if each["storage"])
    names = spec["names"]
    resource = Resource(spec["group"], version, names["plural"], names["kind"], spec["scope"] == "Namespaced")
    return len(await _items(client, resource))


async def operator_runs(client: Client) -> str:
    """ "" where an operator is at work, else why none seems to be.

    A ready Deployment is one, and so is whoever renews the Lease: its time is watched, never compared with ours.
    """
    found = await _items(client, DEPLOYMENTS, f"{SELECTOR},{COMPONENT_LABEL}=operator")
    if any((each.tree.get("status") or {}).get("readyReplicas") for each in found):
        return ""
    if await _lease_moves(client):
        return ""
    if found:
        return f"{found[0]} has no ready replica, and nobody renews the Lease {LEASE_NAME}"
    return f"there is no Deployment kaito-operator, and nobody renews a Lease {LEASE_NAME}"


async def _lease_moves(client: Client) -> bool:
    selector = f"metadata.name={LEASE_NAME}"
    before = {each["metadata"]["uid"]: each for each in await client.list(LEASES, field_selector=selector)}
    held = [each["spec"] for each in before.values() if (each.get("spec") or {}).get("holderIdentity")]
    if not held:
        return False
    deadline = client.clock.now() + max(float(spec.get("leaseDurationSeconds") or 15) for spec in held)
    while client.clock.now() < deadline:
        await client.clock.sleep(1.0)
        for each in await client.list(LEASES, field_selector=selector):
            known = before.get(each["metadata"]["uid"], {})
            if (each.get("spec") or {}).get("renewTime") != (known.get("spec") or {}).get("renewTime"):
                return True
    return False


async def _occupant(client: Client, namespace: str, ours: Iterable[Item]) -> Item | None:
    """Something in the namespace that KAITO's manifests did not put there."""
    uids = {item.uid for item in ours}
    for resource in OCCUPANTS:
        for tree in await client.list(resource, namespace):
            item = Item(resource, tree)
            if item.uid not in uids and item.name not in IN_EVERY_NAMESPACE and not _belongs(item):
                return item
    return None


def _belongs(item: Item) -> bool:
    return all(item.labels.get(key) == value for key, value in LABELS.items())


async def _items(client: Client, resource: Resource, selector: str = "") -> list[Item]:
    try:
        return [Item(resource, tree) for tree in await client.list(resource, label_selector=selector)]
    except NotFound:
        return []


async def _item(client: Client, resource: Resource, name: str, namespace: str) -> Item | None:
    try:
        return Item(resource, await client.get(resource, name, namespace))
    except NotFound:
        return None


def describe_claim(claim: Item) -> str:
    """A claim with what it costs: its machine size, its node and its agent pool; of a NodePool, how many nodes."""
    if claim.resource == NODEPOOLS:
        return f"{claim} (replicas: {(claim.tree.get('spec') or {}).get('replicas')})"
    status = claim.tree.get("status") or {}
    pool = agent_pool(claim)
    parts = [
        claim.labels.get(INSTANCE_TYPE_LABEL) or _asked(claim),
        status.get("nodeName") or "",
        f"agent pool {pool}" if pool else "",
    ]
    known = ", ".join(part for part in parts if part)
    return f"{claim} ({known})" if known else str(claim)


def agent_pool(claim: Item) -> str:
    """Name of the AKS agent pool behind a claim; "" where there is none, or Azure has not named its machine yet."""
    found = _AKS_MACHINE.match(str((claim.tree.get("status") or {}).get("providerID") or ""))
    return found[1].lower() if found else ""


def _asked(claim: Item) -> str:
    for requirement in (claim.tree.get("spec") or {}).get("requirements") or ():
        if requirement.get("key") == INSTANCE_TYPE_LABEL:
            return str((requirement.get("values") or [""])[0])
    return ""
