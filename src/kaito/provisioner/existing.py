"""Nodes that are there already, lent to claims: for clusters whose machines nobody makes on demand, as on premises.

A node takes part once it carries the selector's label. A claim gets one that fits (see `existing_rules`), marked with
the claim's uid so that a restart finds it, and gives it back when the claim goes. No Node is made or deleted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from kaito.api import labels
from kaito.catalog import Catalog, load_catalog
from kaito.provisioner import existing_rules as rules
from kaito.provisioner.cloud import (
    EXISTING_SCHEME,
    ClaimSpec,
    CloudProvider,
    Instance,
    InstanceRef,
    existing_id,
)
from kaito.provisioner.errors import CloudError, InstanceNotFound, InstancePending, InsufficientCapacity
from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError, Conflict, NotFound, TransportError
from kaito.runtime.lister import Lister
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import NODES

SELECTOR: Final = "kaito.sh/existing-node=true"
"""Label of the nodes that may be lent, unless `--existing-selector` says otherwise."""
RETRY: Final = 10.0
"""Seconds until a claim that found no node looks again; looking asks the cache only."""


Nodes: TypeAlias = list[dict[str, Any]]
Fitting: TypeAlias = list[tuple[dict[str, Any], str]]
"""Nodes and the instance type that each stands for."""
Obstacles: TypeAlias = list[tuple[str, str]]
"""Names of nodes and what is in the way."""


class ExistingNodes(CloudProvider):
    """`CloudProvider` over the cluster's own nodes.

    client: whose identity patches the Nodes. nodes: the cache of Nodes. selector: label selector of those that may
    be lent. catalog: GPU sizes; default: the catalogue that comes with KAITO.
    """

    hidden = False

    def __init__(
        self, client: Client, nodes: Lister, *, selector: str = SELECTOR, catalog: Catalog | None = None
    ) -> None:
        self._client = client
        self._nodes = nodes
        self._selector = selector
        self._catalog = catalog if catalog is not None else load_catalog()
        self._being_lent: set[str] = set()
        """Names of Nodes that a patch is on its way to; other claims leave them alone."""

    async def create(self, claim: ClaimSpec) -> Instance:
        known = [node.cached_view(_read) for node in self._nodes.list(selector=self._selector)]
        fitting, obstacles = self._candidates(claim, known)
        mine = [node for node in known if rules.claim_uid(node) == claim.uid]
        if not mine and fitting:
            # The cache may not show yet what an earlier try has written.
            mine = [node for node in await self._lent(claim.name) if rules.claim_uid(node) == claim.uid]
        if mine:
            return _instance(mine[0])
        for node, instance_type in fitting:
            lent = await self._lend(node, claim, instance_type)
            if lent is not None:
                return _instance(lent)
        if fitting:
            raise InstancePending(
                f"the nodes that fit {claim.name} just changed; they are looked at again", retry_after=1.0
            )
        raise InsufficientCapacity(rules.refusal(obstacles, self._selector), retry_after=RETRY)

    async def get(self, ref: InstanceRef) -> Instance:
        node = await self._find(ref)
        if node is None or "deletionTimestamp" in node["metadata"] or not _is_lent(node, ref):
            raise InstanceNotFound(f"the node {ref} is not lent to a claim")
        return _instance(node)

    async def delete(self, ref: InstanceRef) -> bool:
        node = await self._find(ref)
        if node is None or not _is_lent(node, ref):
            return True
        name = node["metadata"]["name"]
        try:
            await self._client.patch(NODES, name, patch=rules.returning_patch(node))
        except NotFound:
            return True
        except Conflict:
            raise CloudError(
                f"the Node {name} just changed; giving it back is tried again",
                reason="DeleteFailed",
                retry_after=1.0,
            ) from None
        except (ApiError, TransportError) as error:
            raise CloudError(
                f"the Node {name} could not be given back: {error}", reason="DeleteFailed"
            ) from error
        return True

    async def list(self) -> Sequence[Instance]:
        nodes = await self._lent()
        return [_instance(node) for node in nodes if rules.claim_uid(node)]

    def _candidates(self, claim: ClaimSpec, nodes: Nodes) -> tuple[Fitting, Obstacles]:
        """The nodes that fit, best first, and why the others do not."""
        fitting: Fitting = []
        obstacles: Obstacles = []
        for node in nodes:
            name = node["metadata"]["name"]
            instance_type, obstacle = rules.fitting_type(node, claim, self._catalog)
            if obstacle or name in self._being_lent:
                obstacles.append((name, obstacle or "is just being taken by another claim"))
            else:
                fitting.append((node, instance_type))
        return sorted(fitting, key=lambda each: rules.affinity(each[0], claim)), obstacles

    async def _lend(
        self, node: dict[str, Any], claim: ClaimSpec, instance_type: str
    ) -> dict[str, Any] | None:
        """The Node as the claim's, or None where it changed meanwhile."""
        name = node["metadata"]["name"]
        if name in self._being_lent:
            return None
        self._being_lent.add(name)
        try:
            return await self._client.patch(
                NODES, name, patch=rules.lending_patch(node, claim, instance_type)
            )
        except (Conflict, NotFound):
            return None
        except (ApiError, TransportError) as error:
            raise CloudError(f"the Node {name} could not be marked as taken: {error}") from error
        finally:
            self._being_lent.discard(name)

    async def _lent(self, claim: str = "") -> Nodes:
        """Nodes lent to claims, or to the claim of that name, as the server has them."""
        selector = f"{rules.CLAIM_LABEL}={claim}" if claim else rules.CLAIM_LABEL
        try:
            return await self._client.list(NODES, label_selector=selector)
        except (ApiError, TransportError) as error:
            raise CloudError(f"the Nodes could not be listed: {error}", reason="ListFailed") from error

    async def _find(self, ref: InstanceRef) -> dict[str, Any] | None:
        """The Node that is meant; before a claim knows its own, the one that is marked with the claim."""
        if ref.provider_id:
            return await self._read(_name(ref.provider_id))
        lent = await self._lent(ref.claim_name)
        return next((node for node in lent if rules.claim_uid(node) == ref.claim_uid), None)

    async def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._client.get(NODES, name)
        except NotFound:
            return None
        except (ApiError, TransportError) as error:
            raise CloudError(f"the Node {name} could not be read: {error}", reason="ReadFailed") from error


def _read(node: CachedObject) -> dict[str, Any]:
    return rules.essentials(node.decode())


def _name(provider_id: str) -> str:
    name = provider_id.removeprefix(EXISTING_SCHEME)
    if name == provider_id or not name:
        raise InstanceNotFound(f"{provider_id!r} is no existing node")
    return name


def _is_lent(node: dict[str, Any], ref: InstanceRef) -> bool:
    uid = rules.claim_uid(node)
    return bool(uid) and ref.claim_uid in ("", uid)


def _instance(node: dict[str, Any]) -> Instance:
    metadata, status = node["metadata"], node.get("status") or {}
    gpus = (status.get("allocatable") or {}).get(labels.GPU_RESOURCE)
    return Instance(
        provider_id=existing_id(metadata["name"]),
        instance_type=(metadata.get("labels") or {}).get(labels.INSTANCE_TYPE_LABEL, ""),
        claim_uid=rules.claim_uid(node),
        claim_name=(metadata.get("labels") or {}).get(rules.CLAIM_LABEL, ""),
        capacity={labels.GPU_RESOURCE: str(gpus)} if gpus else {},
    )
