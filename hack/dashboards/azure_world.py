"""A provisioner of agent pools in the world of the dashboards, before a fake of Azure: it has one claim at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hack.dashboards.prometheus import Target
from kaito.api.resources import NODECLAIMS
from kaito.controllers import machine
from kaito.controllers.machine import NODECLAIM_SHAPE
from kaito.provisioner import aks
from kaito.provisioner.aks.config import SignIn
from kaito.provisioner.testing import ArmServer, FakeArm
from kaito.runtime.client import Client
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.resources import NODES

NAME = "kaito-provisioner-0"


@asynccontextmanager
async def provisioner(client: Client, namespace: str) -> AsyncIterator[Target]:
    """Runs one for NodeClaims while the block runs; where it shows its metrics."""
    arm = FakeArm(client.clock)
    async with ArmServer(arm, client.clock) as server:
        options = ManagerOptions(metrics_address="127.0.0.1:0", health_address="")
        manager = Manager(client, clock=client.clock, options=options)
        config = aks.AksConfig(
            location=arm.place.location,
            resource_group=arm.place.resource_group,
            cluster=arm.place.cluster,
            subscription_id=arm.place.subscription,
            sign_in=SignIn.NONE,
            arm=server.url,
        )
        provider = aks.build(config, client.clock, manager.cache.informer(NODES).lister)
        for source in provider.metrics:
            manager.metrics.add(source)
        machine.setup(manager, provider, shapes=(NODECLAIM_SHAPE,))
        started, stop = _Started(), asyncio.Event()
        manager.add(started)
        running = asyncio.create_task(manager.run(stop))
        try:
            async with client.clock.timeout(30):
                await started.told.wait()
            labels = {"namespace": namespace, "pod": NAME, "job": "kaito-provisioner-metrics"}
            yield Target(f"127.0.0.1:{manager.metrics_port}", labels)
        finally:
            stop.set()
            await running
            await provider.close()


class _Started:
    """Tells that the manager serves and works."""

    name = "started"
    needs_leader_election = False

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def run(self) -> None:
        self.told.set()


def claim(name: str) -> dict[str, Any]:
    """A NodeClaim for a machine with a GPU, for which quota is asked."""
    key = "node.kubernetes.io/instance-type"
    return {
        "apiVersion": NODECLAIMS.api_version,
        "kind": NODECLAIMS.kind,
        "metadata": {"name": name},
        "spec": {
            "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
            "requirements": [{"key": key, "operator": "In", "values": ["Standard_NC24ads_A100_v4"]}],
            "resources": {"requests": {"storage": "100Gi"}},
            "expireAfter": "Never",
        },
    }
