"""A cloud without machines: an instance is a Node object, there at once. For one machine, tests and demos.

The Node carries what a cloud and its GPU driver would put on it (instance type, GPU count, memory, product) and a label
saying what it is. Its status, the GPUs as resources included, is the business of the kubelet that serves it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from kaito.api import labels
from kaito.catalog import Catalog, load_catalog
from kaito.provisioner.cloud import ClaimSpec, CloudProvider, Instance, InstanceRef
from kaito.provisioner.errors import (
    CloudError,
    InstanceNotFound,
    InstancePending,
    InstanceTypeUnavailable,
    NameTaken,
)
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import AlreadyExists, ApiError, NotFound, TransportError
from kaito.runtime.resources import NODES

SCHEME: Final = "instant://"
_CPU_ONLY: Final = re.compile(r"standard_[abdefghlm]\d", re.IGNORECASE)
"""Azure's families without GPUs (N is the GPU family); the catalogue lists GPU sizes only."""
_NOT_IN_LABEL: Final = re.compile(r"[^A-Za-z0-9_.]+")


class InstantCloud(CloudProvider):
    """`CloudProvider` over Node objects.

    client: whose identity makes the Nodes. delay: seconds from the claim's creation until its instance is there.
    simulated_pods: pods of these nodes start no process; only benches and tests ask for that.
    catalog: GPU sizes; default: the catalogue that comes with KAITO.
    """

    hidden = False

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        simulated_pods: bool = False,
        delay: float = 0,
        catalog: Catalog | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._simulated_pods = simulated_pods
        self._delay = timedelta(seconds=delay)
        self._catalog = catalog if catalog is not None else load_catalog()

    async def create(self, claim: ClaimSpec) -> Instance:
        waits = (claim.created + self._delay - self._clock.wall()).total_seconds()
        if self._delay and waits > 0:
            raise InstancePending(f"the instance of {claim.name} is being made", retry_after=waits)
        node = self._node(claim, self._choose(claim))
        try:
            return _instance(await self._client.create(NODES, node))
        except AlreadyExists:
            return await self._adopt(claim)
        except (ApiError, TransportError) as error:
            raise CloudError(f"the Node {claim.name} could not be created: {error}") from error

    async def get(self, ref: InstanceRef) -> Instance:
        node = await self._read(_name(ref))
        if node is None or _ended(node) or not _is_of(node, ref):
            raise InstanceNotFound(f"the instance {ref} does not exist")
        return _instance(node)

    async def delete(self, ref: InstanceRef) -> bool:
        name = _name(ref)
        node = await self._read(name)
        if node is None or _ended(node) or not _is_instant(node) or not _is_of(node, ref):
            return True
        try:
            await self._client.delete(NODES, name, uid=node["metadata"]["uid"])
        except (ApiError, TransportError) as error:
            raise CloudError(
                f"the Node {name} could not be deleted: {error}", reason="DeleteFailed"
            ) from error
        return True

    async def list(self) -> Sequence[Instance]:
        selector = f"{labels.INSTANT_CLOUD_LABEL}=true"
        try:
            nodes = await self._client.list(NODES, label_selector=selector)
        except (ApiError, TransportError) as error:
            raise CloudError(f"the Nodes could not be listed: {error}", reason="ListFailed") from error
        return [_instance(node) for node in nodes if _is_instant(node) and not _ended(node)]

    async def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._client.get(NODES, name)
        except NotFound:
            return None
        except (ApiError, TransportError) as error:
            raise CloudError(f"the Node {name} could not be read: {error}", reason="ReadFailed") from error

    async def _adopt(self, claim: ClaimSpec) -> Instance:
        """The Node is there already: ours from a try that did not live to tell, or somebody else's."""
        node = await self._read(claim.name)
        if node is None:
            raise InstancePending(f"the Node {claim.name} just went away", retry_after=1.0)
        if not _is_instant(node) or _claim_uid(node) != claim.uid:
            raise NameTaken(
                f"a Node named {claim.name} exists and belongs to something else; delete it or the claim"
            )
        if _ended(node):
            raise InstancePending(f"an earlier Node {claim.name} is still going away", retry_after=1.0)
        return _instance(node)

    def _choose(self, claim: ClaimSpec) -> tuple[str, Mapping[str, str]]:
        """The first type that exists, with the labels its GPUs bring."""
        for name in claim.instance_types:
            sku = self._catalog.sku(name)
            if sku is not None and sku.nvidia:
                return name, {
                    labels.MACHINE_TYPE_LABEL: "gpu",
                    labels.GPU_COUNT_LABEL: str(sku.gpus),
                    labels.GPU_MEMORY_LABEL: str(round(sku.memory_per_gpu_gib * 1024)),
                    labels.GPU_PRODUCT_LABEL: _NOT_IN_LABEL.sub("-", sku.model).strip("-")[:63],
                }
            if sku is not None or _CPU_ONLY.match(name):
                return name, {labels.MACHINE_TYPE_LABEL: "cpu" if sku is None else "gpu"}
        wanted = ", ".join(claim.instance_types)
        near = ", ".join(self._catalog.nearest_skus(claim.instance_types[0]))
        raise InstanceTypeUnavailable(
            f"no instance type {wanted} is known; write one of these or the like: {near}"
        )

    def _node(self, claim: ClaimSpec, chosen: tuple[str, Mapping[str, str]]) -> dict[str, Any]:
        instance_type, gpu_labels = chosen
        own = {
            labels.INSTANCE_TYPE_LABEL: instance_type,
            labels.OS_LABEL: "linux",
            labels.ARCH_LABEL: "amd64",
            labels.HOSTNAME_LABEL: claim.name,
            labels.INSTANT_CLOUD_LABEL: "true",
            **gpu_labels,
            **({labels.SIMULATED_PODS_LABEL: "true"} if self._simulated_pods else {}),
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": claim.name,
                "labels": {**claim.labels, **own},
                "annotations": {labels.CLAIM_UID_ANNOTATION: claim.uid},
            },
            "spec": {
                "providerID": SCHEME + claim.name,
                "taints": [
                    *map(dict, claim.taints),
                    {"key": labels.UNREGISTERED_TAINT, "effect": "NoExecute"},
                ],
            },
        }


def _name(ref: InstanceRef) -> str:
    name = ref.provider_id.removeprefix(SCHEME) if ref.provider_id else ref.claim_name
    if not name or name == ref.provider_id:
        raise InstanceNotFound(f"{ref.provider_id!r} is no instance of the instant cloud")
    return name


def _is_of(node: Mapping[str, Any], ref: InstanceRef) -> bool:
    return not ref.claim_uid or _claim_uid(node) == ref.claim_uid


def _is_instant(node: Mapping[str, Any]) -> bool:
    """Whether this cloud made it; the local mode's own node has the label, but no instance behind it."""
    labelled = (node["metadata"].get("labels") or {}).get(labels.INSTANT_CLOUD_LABEL) == "true"
    return labelled and str(node["spec"].get("providerID", "")).startswith(SCHEME)


def _ended(node: Mapping[str, Any]) -> bool:
    """The machine of a Node that is being deleted is off already; only its record remains."""
    return "deletionTimestamp" in node["metadata"]


def _claim_uid(node: Mapping[str, Any]) -> str:
    uid: str = (node["metadata"].get("annotations") or {}).get(labels.CLAIM_UID_ANNOTATION, "")
    return uid


def _instance(node: Mapping[str, Any]) -> Instance:
    found = node["metadata"].get("labels") or {}
    kept = (labels.INSTANCE_TYPE_LABEL, labels.OS_LABEL)
    gpus = found.get(labels.GPU_COUNT_LABEL)
    return Instance(
        provider_id=node["spec"]["providerID"],
        instance_type=found[labels.INSTANCE_TYPE_LABEL],
        claim_uid=_claim_uid(node),
        claim_name=node["metadata"]["name"],
        labels={key: found[key] for key in kept if key in found},
        capacity={labels.GPU_RESOURCE: gpus} if gpus else {},
    )
