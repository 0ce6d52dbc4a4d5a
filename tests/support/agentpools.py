"""The provider of agent pools against a fake Azure on virtual time, driven as the machine controller drives it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from kaito.api import labels
from kaito.provisioner import aks
from kaito.provisioner.aks.arm import Arm
from kaito.provisioner.aks.config import AksConfig, SignIn
from kaito.provisioner.aks.provider import AksProvider
from kaito.provisioner.cloud import ClaimSpec, Instance, InstanceRef
from kaito.provisioner.errors import CloudError
from kaito.provisioner.testing import FakeArm
from kaito.provisioner.testing.azure import MemoryTransport
from kaito.runtime.clock import Clock
from kaito.runtime.lister import Lister
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import NODES
from kaito.runtime.store import Store
from kaito.runtime.testing.virtual import EPOCH

A100 = "Standard_NC24ads_A100_v4"
H100 = "Standard_NC40ads_H100_v5"
T4 = "Standard_NC4as_T4_v3"
SKU_TAINT = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}


def a_claim(number: int = 1, *types: str, **changes: Any) -> ClaimSpec:
    """The claim ws<number>, made that many seconds after the start of virtual time."""
    fields: dict[str, Any] = {
        "name": f"ws{number}",
        "uid": f"uid-{number}",
        "created": EPOCH + timedelta(seconds=number),
        "instance_types": types or (A100,),
        "labels": {labels.WORKSPACE_LABEL: "phi", labels.OS_LABEL: "linux", labels.NODEPOOL_LABEL: "kaito"},
        "taints": (SKU_TAINT,),
        "requests": {"storage": "100Gi"},
    }
    return ClaimSpec(**(fields | changes))


def ref_of(claim: ClaimSpec, provider_id: str = "") -> InstanceRef:
    return InstanceRef(provider_id, claim.name, claim.uid, claim.created)


class AgentPools:
    """A fake cluster, a cache of Nodes, and providers that come and go over both.

    joins: machines become Nodes as soon as they are up.
    """

    def __init__(self, clock: Clock, arm: FakeArm, defaults: Mapping[str, str]) -> None:
        self.clock = clock
        self.arm = arm
        self.joins = True
        self._defaults = defaults
        self._store = Store()
        self._versions = 0
        self._joined: set[tuple[str, str]] = set()
        self._ways: list[Arm] = []
        self._woken: dict[str, asyncio.Event] = {}
        self.provider = self.restart()

    def restart(self) -> AksProvider:
        """A provider that remembers nothing, as after `kill -9`."""
        place = self.arm.place
        config = AksConfig(
            place.location, place.resource_group, place.cluster, place.subscription, sign_in=SignIn.NONE
        )
        way = Arm(config, self.clock, transport=MemoryTransport(self.arm, self.clock))
        self._ways.append(way)
        nodes = Lister(self._store, NODES)
        self.provider = aks.build(config, self.clock, nodes, defaults=self._defaults, arm=way)
        self.provider.subscribe(lambda name: self._woken.setdefault(name, asyncio.Event()).set())
        return self.provider

    async def close(self) -> None:
        for way in self._ways:
            await way.close()

    def puts(self, *, refused: bool | None = None) -> int:
        return len(self.arm.calls("put_pool", refused=refused))

    async def refusal(self, claim: ClaimSpec) -> CloudError:
        """What one `create` raises."""
        try:
            await self.create(claim)
        except CloudError as error:
            return error
        raise AssertionError(f"{claim.name} was launched")

    async def create(self, claim: ClaimSpec) -> Instance:
        self.join()
        return await self.provider.create(claim)

    async def launch(self, claim: ClaimSpec, *, stages: list[str] | None = None) -> Instance:
        """Asks until there is an instance; stages: reasons on the way, each once. A terminal error comes out."""
        while True:
            try:
                return await self.create(claim)
            except CloudError as error:
                if stages is not None and (not stages or stages[-1] != error.why):
                    stages.append(error.why)
                if error.terminal:
                    raise
                await self._pause(claim.name, error.retry_after)

    async def end(self, ref: InstanceRef) -> None:
        """Asks until the instance is gone, every five seconds or when woken."""
        while True:
            try:
                if await self.provider.delete(ref):
                    return
                seconds = 5.0
            except CloudError as error:
                seconds = error.retry_after
            await self._pause(ref.claim_name, seconds)

    async def _pause(self, name: str, seconds: float) -> None:
        woken = self._woken.setdefault(name, asyncio.Event())
        try:
            async with self.clock.timeout(seconds):
                await woken.wait()
        except TimeoutError:
            pass
        woken.clear()

    def join(self) -> None:
        """Machines that are up become Nodes; those of machines that are gone stay."""
        if not self.joins:
            return
        for machine in self.arm.world.machines():
            known = (machine.provider_id, machine.size.name)
            if known not in self._joined and machine.up_at <= self.clock.now() and machine.running:
                self._joined.add(known)
                self.add_node(machine.pool, machine.provider_id, machine.size.name, dict(machine.properties))

    def add_node(
        self, pool: str, provider_id: str = "", size: str = A100, properties: Mapping[str, Any] | None = None
    ) -> None:
        self._versions += 1
        node = {
            "metadata": {
                "name": f"aks-{pool}-12345678-vmss000000",
                "uid": f"node-{pool}",
                "resourceVersion": str(self._versions),
                "labels": {
                    **((properties or {}).get("nodeLabels") or {}),
                    "kubernetes.azure.com/agentpool": pool,
                    labels.INSTANCE_TYPE_LABEL: size,
                    "topology.kubernetes.io/zone": f"{self.arm.place.location}-1",
                },
            },
            "spec": {"providerID": provider_id} if provider_id else {},
        }
        self._store.put(CachedObject.from_dict(node, NODES))


@asynccontextmanager
async def agent_pools(
    clock: Clock, *, exclusive: bool = False, defaults: Mapping[str, str] | None = None
) -> AsyncIterator[AgentPools]:
    pools = AgentPools(clock, FakeArm(clock, exclusive=exclusive), defaults or {})
    try:
        yield pools
    finally:
        await pools.close()
