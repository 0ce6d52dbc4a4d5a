"""What a pool means for a claim that wants it or wants it gone, and the sentences about that. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, Final

from kaito.api import labels
from kaito.catalog import Catalog
from kaito.provisioner.aks.offerings import Offering
from kaito.provisioner.aks.options import ZONE_LABEL
from kaito.provisioner.aks.pools import POOL_LABEL, Phase, Pool
from kaito.provisioner.aks.queue import Wait
from kaito.provisioner.aks.sentences import ANOTHER_OPERATION
from kaito.provisioner.cloud import ClaimSpec, Instance, InstanceRef
from kaito.provisioner.errors import CloudError, InstancePending, NameTaken, WaitingForTurn

NODE_POLL: Final = 5.0
"""Seconds between two looks into the cache for the Node of a pool that is made."""
UNMARKED_POLL: Final = 300.0
"""Seconds between two looks at a pool of which a person has to say whose it is."""
EXACTLY: Final = 5
"""How many that were there first are counted one by one."""
MACHINE_ZONE_LABEL: Final = "karpenter.k8s.azure/zone"
"""Where Machines show their zone."""
NVIDIA_FAMILY: Final = "standard_n"


class Wanted(Enum):
    """What comes next for a claim that wants its pool."""

    LAUNCH = "launch"
    WAIT = "wait"
    JOIN = "join"
    """The pool is made; its Node is looked for."""
    REPLACE = "replace"
    """It failed: it is removed, then another offering is tried."""
    TAKEN = "taken"


class Unwanted(Enum):
    """What comes next for a claim that wants its pool gone."""

    GONE = "gone"
    """There is none, or it is not the claim's."""
    LEAVING = "leaving"
    DELETE = "delete"
    UNMARKED = "unmarked"
    """It may be the claim's, and nothing says so."""


def wanted(pool: Pool | None, claim: ClaimSpec) -> Wanted:
    if pool is None:
        return Wanted.LAUNCH
    if pool.phase is Phase.DELETING:
        return Wanted.WAIT  # whoever it was made for: its name is free in a moment
    if not pool.is_of(claim):
        return Wanted.TAKEN
    if pool.phase is Phase.READY:
        return Wanted.JOIN
    return Wanted.REPLACE if pool.phase is Phase.FAILED else Wanted.WAIT


def unwanted(pool: Pool | None, ref: InstanceRef) -> Unwanted:
    if pool is None:
        return Unwanted.GONE
    if not pool.is_meant(ref):
        return Unwanted.UNMARKED if pool.may_be_meant(ref) else Unwanted.GONE
    return Unwanted.LEAVING if pool.phase is Phase.DELETING else Unwanted.DELETE


def unmarked(pool: Pool) -> NameTaken:
    return NameTaken(
        f"the claim's machine was in the agent pool {pool.name}, which does not say (any more) that it was made for "
        f"the claim; it is left alone, and the claim stays: delete it (`az aks nodepool delete --name {pool.name}`) "
        "or, should it be somebody else's by now, take the claim's finalizer off",
        retry_after=UNMARKED_POLL,
    )


def name_taken(pool: Pool, claim: ClaimSpec) -> NameTaken:
    owner = "another claim" if pool.for_a_claim else "somebody else"
    return NameTaken(
        f"the agent pool {pool.name} exists and belongs to {owner}, so nothing is done to it; "
        f"delete it yourself, or make a claim of another name than {claim.name}"
    )


def awaited(pool: Pool, retry_after: float) -> InstancePending:
    """Why a pool that is the claim's is waited for."""
    match pool.phase:
        case Phase.DELETING:
            text = f"an earlier agent pool {pool.name} is being deleted; a new one is made after that"
            return WaitingForTurn(text, retry_after=retry_after)
        case Phase.STOPPED:
            text = f"the agent pool {pool.name} is stopped; start it (`az aks nodepool start`) or delete the claim"
            return WaitingForTurn(text, retry_after=retry_after)
        case _ if pool.state.lower() in ("creating", ""):
            return making(pool.name, pool.offering, retry_after, pool.started)
    text = f"the agent pool {pool.name} is {pool.state.lower()}; its end is awaited"
    return InstancePending(text, retry_after=retry_after, since=pool.started)


def making(pool: str, offering: object, retry_after: float, since: datetime | None) -> InstancePending:
    """The pool's creation runs."""
    return InstancePending(
        f"the agent pool {pool} is being made: {offering}", retry_after=retry_after, since=since
    )


def replacing(pool: Pool, error: CloudError, retry_after: float) -> WaitingForTurn:
    """The pool failed and must be gone before anything else is made in its place."""
    text = (
        f"{pool.offering}: {error.message}; the failed agent pool {pool.name} is removed before the next try"
    )
    return WaitingForTurn(text, reason=error.why, retry_after=retry_after)


def joining(pool: Pool, nodes: int) -> InstancePending:
    """The pool is made, and no Node of it has a provider id."""
    if nodes:
        text = f"the Node of the agent pool {pool.name} has joined; its provider id is awaited"
    else:
        text = (
            f"the agent pool {pool.name} ({pool.offering}) is made; its machine has not joined as a Node yet"
        )
    return InstancePending(text, retry_after=NODE_POLL, since=pool.started)


def queued(wait: Wait, cluster: str) -> str:
    """Why nothing was started. Many are counted in tens: each change of the text is a write for each that waits."""
    if wait.ahead == 0:
        awaited = f"; the operation on {', '.join(wait.running)} is awaited" if wait.running else ""
        return f"next in line for the cluster {cluster}, which takes one operation at a time{awaited}"
    many = wait.ahead if wait.ahead <= EXACTLY else -(-wait.ahead // 10) * 10
    were = "1 was" if many == 1 else f"{'up to ' if many > EXACTLY else ''}{many} were"
    return f"in line for the cluster {cluster}, which takes one operation at a time; {were} there first"


def refused_turn(cluster: str, message: str) -> str:
    said = message.removeprefix(f"{ANOTHER_OPERATION}: ")
    return f"{ANOTHER_OPERATION} {cluster}, and its end is awaited ({said})"


def node_of(pool: Pool, nodes: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The Node that the pool's machine became, once it has a provider id.

    Nodes of an earlier pool of that name may still be there: they are on their way out, or of another size. Should
    somebody have scaled the pool, the first one is the claim's.
    """
    size = pool.offering.instance_type.lower()
    fitting = [
        node
        for node in nodes
        if _labels(node).get(POOL_LABEL) == pool.name
        and not node["metadata"].get("deletionTimestamp")
        and (node.get("spec") or {}).get("providerID")
        and _labels(node).get(labels.INSTANCE_TYPE_LABEL, size).lower() == size
        and _labels(node).get(labels.CLAIM_UID_ANNOTATION, pool.uid) == pool.uid
    ]
    return min(fitting, key=lambda node: str(node["metadata"]["name"]), default=None)


def instance(pool: Pool, node: Mapping[str, Any] | None, catalog: Catalog, kind: str = "") -> Instance:
    """The pool as an instance. node: what it became, if anything. kind: of the claim, where that is known."""
    size = pool.offering.instance_type
    found = {} if node is None else _labels(node)
    kept = {key: found[key] for key in (labels.OS_LABEL, labels.ARCH_LABEL, ZONE_LABEL) if found.get(key)} | {
        labels.INSTANCE_TYPE_LABEL: size,
        labels.CAPACITY_TYPE_LABEL: pool.offering.capacity_type,
        labels.MACHINE_TYPE_LABEL: "gpu" if has_gpus(size, catalog) else "cpu",
    }
    if kind == "Machine" and ZONE_LABEL in kept:
        kept[MACHINE_ZONE_LABEL] = kept[ZONE_LABEL]
    sku = catalog.sku(size)
    # A MIG profile may show its slices as other resources.
    gpus = {labels.GPU_RESOURCE: str(sku.gpus)} if sku is not None and sku.nvidia and not pool.mig else {}
    return Instance(
        provider_id="" if node is None else node["spec"]["providerID"],
        instance_type=size,
        claim_uid=pool.uid,
        claim_name=pool.name,
        created=pool.created or pool.started,
        labels=kept,
        capacity=gpus,
        image_id=pool.image,
    )


def with_id(found: Instance, provider_id: str) -> Instance:
    """The instance under the id that its claim knows it by; its Node may be gone or not have it yet."""
    return replace(found, provider_id=provider_id)


def just_made(claim: ClaimSpec, offering: Offering, started: datetime) -> Pool:
    """A pool whose creation has just been accepted, before it was read."""
    return Pool(claim.name, "Creating", Phase.BUSY, offering, uids=frozenset({claim.uid}), started=started)


def leaving(pool: Pool) -> Pool:
    """A pool whose deletion has just been accepted."""
    return replace(pool, state="Deleting", phase=Phase.DELETING)


def has_gpus(size: str, catalog: Catalog) -> bool:
    """Whether a machine size has GPUs: the catalogue's, and all of Azure's N family."""
    return catalog.sku(size) is not None or size.lower().startswith(NVIDIA_FAMILY)


def _labels(node: Mapping[str, Any]) -> Mapping[str, str]:
    return node["metadata"].get("labels") or {}
