"""`kaito operator --node-provisioner=karpenter` in clusters whose Karpenter is missing, old, or not at work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.test_operator_faults import CONFIG, operating
from kaito.api.crds import crd_manifests
from kaito.api.resources import NODEPOOLS
from kaito.cli.errors import CliError
from kaito.cli.operator.run import operator_manager
from kaito.runtime.clock import Clock
from kaito.runtime.errors import NotFound
from kaito.runtime.testing import VirtualClock
from kaito.testing.memory_api import MemoryApi
from kaito.testing.nodepool import nodepool_definition

KARPENTER = replace(CONFIG, node_provisioner="karpenter")
POOL = "default-one"


def pool_of(api: MemoryApi) -> int | None:
    """The replicas of the Workspace's pool; None while there is no pool."""
    try:
        return int(api.server.find(NODEPOOLS.name, None, POOL)["spec"]["replicas"])
    except NotFound:
        return None


async def test_without_static_pools_it_says_what_to_install_and_makes_none(
    memory_api: MemoryApi, virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await memory_api.load(*crd_manifests())
    async with operating(memory_api, virtual_clock, KARPENTER) as operator:
        await operator.until(lambda: bool(said(caplog)), "no NodePool is served")
        (missing,) = said(caplog)
        assert "nodepools.karpenter.sh is missing: install" in missing
        assert "StaticCapacity" in missing
        await memory_api.load(nodepool_definition(static=False))
        await operator.create("one")
        await virtual_clock.sleep(60)
        assert ".spec.replicas is lost: install or upgrade" in said(caplog)[-1]
        assert (pool_of(memory_api), operator.status("one")) == (None, {}), (
            "half a pool would be another kind"
        )
        await memory_api.load(nodepool_definition())
        await operator.until(lambda: pool_of(memory_api) == 1, "the pool is made")
        assert not operator.failing("crds")


async def test_a_pool_that_nobody_serves_is_told_after_five_minutes(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(*crd_manifests(), nodepool_definition())
    async with operating(memory_api, virtual_clock, KARPENTER) as operator:
        await operator.create("one")
        await operator.until(lambda: pool_of(memory_api) == 1, "the pool is made")
        await virtual_clock.sleep(290)
        assert operator.status("one")["reason"] == "NodeClaimNotReady"
        await operator.until(lambda: operator.status("one")["reason"] == "NodePoolNotReady", "it is told", 20)
        told = next(each for each in operator.status("one")["conditions"] if each["type"] == "NodeClaimReady")
        assert "AKSNodeClass.karpenter.azure.com runs" in told["message"]
        assert "StaticCapacity" in told["message"]


def test_where_nobody_can_know_the_node_class_it_must_be_named(memory_api: MemoryApi) -> None:
    clock: Clock = memory_api.clock
    client = memory_api.client("kaito-operator/test", "kaito-operator")
    with pytest.raises(CliError, match="--node-class-group and --node-class-kind"):
        operator_manager(client, clock, replace(KARPENTER, cloud="arc"), "kaito-system")
    named = replace(KARPENTER, cloud="arc", node_class_group="karpenter.example.com", node_class_kind="Class")
    operator_manager(client, clock, named, "kaito-system")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Reasons of failing checks, as they were logged."""
    return [
        str(getattr(each, "fields", {}).get("reason"))
        for each in caplog.records
        if each.message.startswith("a start-up check fails")
    ]
