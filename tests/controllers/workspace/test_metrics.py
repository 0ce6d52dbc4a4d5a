"""What the workspace controller shows of Workspaces: right numbers, nothing that grows with what users write."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.core import Metric

from controllers.workspace.builders import CATALOG, settled, workspace
from controllers.workspace.cluster import cluster, running
from kaito.api.reasons import OTHER, REASONS, VERDICTS
from kaito.api.resources import WORKSPACES
from kaito.catalog.models import GpuSku
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig, setup
from kaito.controllers.workspace.metrics import Facts, WorkspaceMetrics, facts
from kaito.runtime.client import Client
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.resources import ObjectKey
from kaito.runtime.testing import VirtualClock

Object = dict[str, Any]
PHI, A100 = "phi-3-mini-4k-instruct", "Standard_NC24ads_A100_v4"
GIB = 2**30


def sku() -> GpuSku:
    found = CATALOG.sku(A100)
    assert found is not None
    return found


def node(memory: str = "81920", count: str = "1") -> Object:
    return {
        "metadata": {"name": "n", "labels": {"nvidia.com/gpu.memory": memory, "nvidia.com/gpu.count": count}}
    }


def served(**changes: Any) -> Object:
    return {
        "state": "Ready",
        "reason": "Ready",
        "instanceType": A100,
        "workerNodes": ["n"],
        "targetNodeCount": 1,
        "nodes": [{"slot": 0, "state": "Ready", "nodeName": "n", "instanceType": A100}],
        **changes,
    }


def value(families: dict[str, Metric], sample: str, **labels: str) -> float | None:
    """The sample's value; None if there is no such series."""
    for family in families.values():
        for each in family.samples:
            if each.name == sample and labels.items() <= each.labels.items():
                return each.value
    return None


def shown(metrics: WorkspaceMetrics) -> dict[str, Metric]:
    return {family.name: family for family in metrics.collect()}


class TestFacts:
    def test_of_a_workspace_without_status(self) -> None:
        assert facts(workspace(), {}, {}, CATALOG) == Facts(preset=PHI)

    def test_memory_by_the_nodes_own_label(self) -> None:
        found = facts(workspace(), served(), {"n": node("40960", "2")}, CATALOG)
        preset = CATALOG.preset(PHI)
        assert preset is not None
        assert found.capacity == 80 * GIB
        assert found.estimated == preset.required_gpu_memory_gib * GIB > 0

    @pytest.mark.parametrize("odd", [{}, node("", "1"), node("many", "1"), {"metadata": {}}])
    def test_memory_by_the_catalogue_where_the_node_does_not_say(self, odd: Object) -> None:
        assert facts(workspace(), served(), {"n": odd}, CATALOG).capacity == sku().memory_gib * GIB

    def test_memory_as_it_was_planned(self) -> None:
        status = settled(workspace()).workspace["status"]
        found = facts(workspace(), {**served(), "resolved": status["resolved"]}, {}, CATALOG)
        assert set(found.planned) == {"weights", "adapters", "kv_cache", "activations", "runtime", "free"}
        assert found.spread == 1
        needed = sum(size for part, size in found.planned.items() if part != "free")
        assert found.estimated == needed < found.capacity
        assert found.planned["weights"] == pytest.approx(7.12 * 1.02 * GIB)

    def test_no_memory_where_one_of_both_is_unknown(self) -> None:
        unknown = facts(workspace(), served(instanceType="Standard_Own"), {}, CATALOG)
        nobody = facts(workspace(), served(workerNodes=[]), {}, CATALOG)
        template = facts(workspace(preset=None), served(), {}, CATALOG)
        assert {(each.estimated, each.capacity) for each in (unknown, nobody, template)} == {(0.0, 0.0)}

    def test_nodes_that_would_do_as_well_are_not_counted(self) -> None:
        found = facts(workspace(), served(workerNodes=["a", "b", "c"], nodes=None), {}, CATALOG)
        assert found.sizes == (A100,)
        assert found.capacity == sku().memory_gib * GIB

    @pytest.mark.parametrize("text", ["phi", "my-secret-name", 'a"b\n', ""])
    def test_what_a_user_wrote_never_becomes_a_label(self, text: str) -> None:
        written = workspace()
        written["inference"]["preset"]["name"] = text
        status = served(
            reason=text,
            instanceType=text,
            nodes=[{"slot": 0, "state": text, "reason": text, "instanceType": text}],
            adapters=[{"name": text, "reason": text}],
        )
        found = facts(written, status, {}, CATALOG)
        labels = {
            found.reason,
            found.preset,
            *found.sizes,
            *found.verdicts,
            *(word for pair in found.nodes for word in pair),
        }
        assert labels <= {"", OTHER, "Pending"}


class TestFamilies:
    async def test_everything_known_is_there_at_zero(self, virtual_clock: VirtualClock) -> None:
        found = shown(WorkspaceMetrics(CATALOG, virtual_clock))
        for phase in ("succeeded", "error", "pending", "deleting"):
            assert value(found, "kaito_workspace_count", phase=phase) == 0
            assert value(found, "kaito_workspace_phase_oldest_seconds", phase=phase) == 0
            assert value(found, "kaito_workspace_phase_seconds_count", phase=phase) == 0
        for verdict in (*VERDICTS, OTHER):
            assert value(found, "kaito_workspace_adapters", verdict=verdict) == 0
        for state in ("Pending", "Ready", "NotReady", "Failed"):
            assert value(found, "kaito_workspace_nodes", state=state) == 0
        assert value(found, "kaito_workspace_interrupted") == 0
        assert value(found, "kaito_workspace_ready_seconds_count") == 0

    async def test_counts_follow_what_was_seen(self, virtual_clock: VirtualClock) -> None:
        metrics = WorkspaceMetrics(CATALOG, virtual_clock)
        for name in ("a", "b"):
            seen = workspace(name=name)
            seen["metadata"]["creationTimestamp"] = "2026-11-21T12:00:00Z"
            status = served(
                state="NotReady", reason="ContainerCrashLoopBackOff", adapters=[{"reason": "Fits"}]
            )
            metrics.saw(ObjectKey("default", name), seen, status, {})
        found = shown(metrics)
        assert value(found, "kaito_workspace_interrupted") == 2
        leaving = workspace(name="b")
        leaving["metadata"] |= {
            "creationTimestamp": "2026-11-21T12:00:00Z",
            "deletionTimestamp": "2026-11-21T13:00:00Z",
        }
        metrics.saw(ObjectKey("default", "b"), leaving, status, {})
        assert value(shown(metrics), "kaito_workspace_interrupted") == 1, "nobody waits for one that goes"
        assert value(found, "kaito_workspace_reason_count", reason="ContainerCrashLoopBackOff") == 2
        assert value(found, "kaito_workspace_preset_count", preset_name=PHI) == 2
        assert value(found, "kaito_workspace_adapters", verdict="Fits") == 2
        assert value(found, "kaito_workspace_instance_type_nodes", instance_type=A100) == 2
        metrics.gone(ObjectKey("default", "a"))
        metrics.gone(ObjectKey("default", "b"))
        found = shown(metrics)
        assert value(found, "kaito_workspace_count", phase="pending") == 0
        assert value(found, "kaito_workspace_reason_count", reason="ContainerCrashLoopBackOff") == 0, (
            "stays, at 0"
        )
        assert value(found, "kaito_workspace_gpu_memory_capacity_bytes", preset_name=PHI) == 0

    async def test_the_number_of_series_does_not_grow_with_what_users_write(
        self, virtual_clock: VirtualClock
    ) -> None:
        def written(count: int) -> int:
            metrics = WorkspaceMetrics(CATALOG, virtual_clock)
            for number in range(count):
                seen = workspace(name=f"w{number}")
                seen["inference"]["preset"]["name"] = f"model-{number}"
                seen["metadata"]["creationTimestamp"] = "2026-11-21T12:00:00Z"
                status = served(
                    reason=f"Reason{number}",
                    instanceType=f"Size_{number}",
                    nodes=[{"slot": 0, "state": "Failed", "reason": f"Why{number}"}],
                    adapters=[{"name": f"a{number}", "reason": f"Verdict{number}"}],
                )
                metrics.saw(ObjectKey(f"n{number}", f"w{number}"), seen, status, {})
            return sum(len(family.samples) for family in metrics.collect())

        assert written(1) == written(300)


class TestInTheController:
    async def test_a_life_is_told(self, virtual_clock: VirtualClock) -> None:
        async with cluster(virtual_clock, WorkspaceConfig(stand_in_weights="tiny-phi-3")) as world:
            client = Client(world.transport, clock=virtual_clock, user_agent="kaito-cache/1")
            manager = Manager(client, clock=virtual_clock, options=ManagerOptions(grace_period=0.0))
            setup(manager, world.config)
            registry = manager.metrics.registry
            world.hold_pods = True
            async with running(manager):
                await world.client.create(WORKSPACES, bare())
                await virtual_clock.sleep(30)
                for phase, number in (("pending", 1), ("error", 0), ("succeeded", 0)):
                    assert registry.get_sample_value("kaito_workspace_count", {"phase": phase}) == number
                world.hold_pods = False
                await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
                await virtual_clock.sleep(1)
                assert registry.get_sample_value("kaito_workspace_count", {"phase": "succeeded"}) == 1
                assert registry.get_sample_value("kaito_workspace_count", {"phase": "pending"}) == 0
                assert registry.get_sample_value("kaito_workspace_ready_seconds_count") == 1
                for stage in ("nodes", "model"):
                    assert (
                        registry.get_sample_value("kaito_workspace_stage_seconds_count", {"stage": stage})
                        == 1
                    )
                assert registry.get_sample_value("kaito_workspace_nodes", {"state": "Ready"}) == 1
                await virtual_clock.sleep(3600)
                oldest = registry.get_sample_value(
                    "kaito_workspace_phase_oldest_seconds", {"phase": "succeeded"}
                )
                assert oldest is not None
                assert 3600 <= oldest < 3700
                await world.client.delete(WORKSPACES, "phi", "default")
                await world.until(lambda: world.find(WORKSPACES, "phi") is None, "gone")
                await virtual_clock.sleep(1)
                for phase in ("succeeded", "pending", "error", "deleting"):
                    assert registry.get_sample_value("kaito_workspace_count", {"phase": phase}) == 0
                assert (
                    registry.get_sample_value("kaito_workspace_phase_seconds_count", {"phase": "deleting"})
                    == 1
                )

    async def test_another_operator_after_a_restart_knows_the_age_and_counts_no_second_start(
        self, virtual_clock: VirtualClock
    ) -> None:
        async with cluster(virtual_clock, WorkspaceConfig(stand_in_weights="tiny-phi-3")) as world:
            async with world.operator(world.wire()):
                await world.client.create(WORKSPACES, bare())
                await world.until(lambda: world.holds("WorkspaceReady"), "WorkspaceReady")
            await virtual_clock.sleep(7200)
            client = Client(world.transport, clock=virtual_clock, user_agent="kaito-cache/1")
            manager = Manager(client, clock=virtual_clock, options=ManagerOptions(grace_period=0.0))
            setup(manager, world.config)
            registry = manager.metrics.registry
            async with running(manager):
                await virtual_clock.sleep(2)
                oldest = registry.get_sample_value(
                    "kaito_workspace_phase_oldest_seconds", {"phase": "succeeded"}
                )
                assert oldest is not None
                assert 7200 <= oldest < 7300
                assert registry.get_sample_value("kaito_workspace_ready_seconds_count") == 0

    async def test_a_mistake_is_an_error_and_mended_it_is_none(self, virtual_clock: VirtualClock) -> None:
        async with cluster(virtual_clock, WorkspaceConfig(NodeProvisioner.BYO)) as world:
            client = Client(world.transport, clock=virtual_clock, user_agent="kaito-cache/1")
            manager = Manager(client, clock=virtual_clock, options=ManagerOptions(grace_period=0.0))
            setup(manager, world.config)
            registry = manager.metrics.registry
            async with running(manager):
                await world.client.create(WORKSPACES, bare(preset="no-such-model"))
                await virtual_clock.sleep(1)
                assert registry.get_sample_value("kaito_workspace_count", {"phase": "error"}) == 1
                assert (
                    registry.get_sample_value("kaito_workspace_preset_count", {"preset_name": "other"}) == 1
                )
                assert (
                    registry.get_sample_value("kaito_workspace_reason_count", {"reason": "UnknownPreset"})
                    == 1
                )


def bare(preset: str = PHI) -> Object:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "phi", "namespace": "default"},
        "resource": {"instanceType": A100, "labelSelector": {"matchLabels": {"apps": "phi"}}},
        "inference": {"preset": {"name": preset}},
    }


def test_reasons_are_words() -> None:
    assert all(reason.isidentifier() for reason in REASONS)
