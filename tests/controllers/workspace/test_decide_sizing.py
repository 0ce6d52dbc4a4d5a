"""Sizing inside the controller: how many nodes, of which size, how the model is cut, and that it stays so."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings as trying
from hypothesis import strategies as st

from controllers.workspace.builders import (
    CATALOG,
    CONFIG,
    Object,
    condition,
    decided,
    gpu_node,
    kinds,
    later,
    machine_ready,
    provisioned,
    settled,
    step,
    workspace,
    written,
)
from controllers.workspace.pools import go
from kaito.catalog import Sizing, machine_of_sku
from kaito.catalog.memory import Parallelism
from kaito.catalog.models import Catalog
from kaito.catalog.prices import Prices, cheapest_first
from kaito.controllers.workspace import NodeProvisioner, Observed, WorkspaceConfig, decide
from kaito.controllers.workspace.decide.plan import Plan, make_plan
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import Choice
from kaito.controllers.workspace.decide.serving import Terms, answer, overridden
from kaito.controllers.workspace.decide.settings import Settings, settings_in
from kaito.controllers.workspace.node_facts import ExistingNodes, facts_of

LLAMA = "llama-3.3-70b-instruct"
"""131 GiB of weights: three nodes with one A100, two with two of them, one with four."""
ONE, TWO, FOUR = "Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4", "Standard_NC96ads_A100_v4"
BYO = WorkspaceConfig(node_provisioner=NodeProvisioner.BYO)
PARTS = ("tensor", "pipeline", "data")
FAILED = {"type": "MachineLaunched", "status": "False", "reason": "NoCapacity", "message": "none"}


def llama(instance_type: str | None = ONE, inference: Object | None = None, **more: Any) -> Object:
    """With an image of one's own: the hub gives its weights only to who has accepted their licence."""
    own = {"preset": {"name": LLAMA, "presetOptions": {"image": "example.com/llama:1"}}}
    return workspace(None, instance_type=instance_type, inference={**own, **(inference or {})}, **more)


def planned(given: Object, config: WorkspaceConfig = CONFIG, catalog: Catalog = CATALOG) -> Plan:
    plan = make_plan(given, None, catalog, config)
    assert isinstance(plan, Plan), plan
    return plan


def unplanned(given: Object, text: str) -> tuple[Problem, ...]:
    """Why nothing can be planned with that file."""
    found = make_plan(given, None, CATALOG, CONFIG, settings_in(text))
    assert not isinstance(found, Plan)
    return found


def priced(cheap: dict[str, float]) -> WorkspaceConfig:
    """An operator that knows what every size costs: what is said here, and others 9 dollars an hour."""
    rows = [
        {
            "cloud": "azure",
            "region": "westeurope",
            "size": sku.name,
            "per_hour": cheap.get(sku.name, 9.0),
            "currency": "USD",
            "dated": "2026-11-01",
            "source": "a list",
        }
        for sku in CATALOG.skus
        if sku.cloud == "azure"
    ]
    return WorkspaceConfig(prices=Prices.model_validate({"prices": rows}), region="westeurope")


def ranked_anew(observed: Observed, turn: int) -> Observed:
    """The world after the user has turned the list of sizes."""
    given = copy.deepcopy(observed.workspace)
    sizes = given["resource"]["instanceTypes"]
    given["resource"]["instanceTypes"] = [*sizes[turn % len(sizes) :], *sizes[: turn % len(sizes)]]
    return replace(observed, workspace=given)


def sizing(preset: str, size: str) -> object:
    found, sku = CATALOG.preset(preset), CATALOG.sku(size)
    assert found is not None
    assert sku is not None
    return answer(found, machine_of_sku(sku), Terms())


def arguments(observed: Observed) -> list[str]:
    live = observed.stateful_set or observed.deployment
    assert live is not None
    found: list[str] = live["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def sizes_of(observed: Observed) -> list[str]:
    return [each["spec"]["requirements"][0]["values"][0] for each in observed.claims]


def failing(observed: Observed, number: int = 0) -> Observed:
    """The world after the cloud has refused a claim for good."""
    claims = list(observed.claims)
    claims[number] = {**claims[number], "status": {"conditions": [FAILED]}}
    return replace(observed, claims=tuple(claims))


def without_deleted(observed: Observed, decision: Any) -> Observed:
    gone = {each.name for each in decision.deletions}
    return replace(
        observed,
        claims=tuple(each for each in observed.claims if each["metadata"]["name"] not in gone),
    )


class TestCount:
    def test_without_a_count_the_plan_decides(self) -> None:
        need = planned(llama()).count
        assert need > 1
        observed, _ = step(Observed(llama()))
        assert len(observed.claims) == need
        assert observed.workspace["status"]["targetNodeCount"] == need

    def test_one_below_the_need_counts_as_not_written_and_the_status_says_so(self) -> None:
        observed, decision = step(Observed(llama(resource={"count": 1})))
        assert len(observed.claims) == planned(llama()).count
        message = condition(decision.status, "ResourceReady")["message"]
        assert (
            "resource.count is 1, as older versions of the API filled in where nothing was written" in message
        )

    def test_one_that_is_enough_is_no_news(self) -> None:
        observed = settled(workspace(resource={"count": 1}))
        assert condition(observed.workspace["status"], "ResourceReady")["message"] == "the node is ready"

    def test_fewer_than_are_needed_are_refused_with_the_need(self) -> None:
        decision = decided(Observed(llama(resource={"count": 2})))
        assert decision.writes == ()
        message = condition(decision.status, "InsufficientGpuMemory")["message"]
        assert "llama-3.3-70b-instruct needs 3 nodes of Standard_NC24ads_A100_v4; 2 are too few" in message
        assert "write 3, or leave count out" in message
        assert "kaito.sh/bypass-resource-checks" in message

    def test_fewer_pass_with_the_annotation(self) -> None:
        bypass = {"kaito.sh/bypass-resource-checks": ""}
        observed, decision = step(Observed(llama(resource={"count": 2}, annotations=bypass)))
        assert len(observed.claims) == 2
        assert (
            "the checks of resources are bypassed" in condition(decision.status, "ResourceReady")["message"]
        )
        observed, _ = step(provisioned(observed))
        assert observed.stateful_set is not None
        assert "--pipeline-parallel-size=2" in arguments(observed)

    def test_more_than_are_needed_are_used(self) -> None:
        plan = planned(llama(resource={"count": 5}))
        assert (plan.count, plan.distributed) == (5, True)
        assert plan.choice is not None
        assert plan.choice.parallelism.pipeline == 5
        copies = planned(workspace(resource={"count": 5}))
        assert (copies.count, copies.distributed) == (5, False)


class TestChosen:
    def test_the_least_gpu_memory_where_no_price_is_known(self) -> None:
        observed, decision = step(Observed(workspace("phi-4", instance_type=None)))
        plan = planned(workspace("phi-4", instance_type=None))
        ranked = [
            found.total_gib
            for sku in CATALOG.skus
            if sku.cloud == "azure" and sku.retired is None and not sku.unusable
            if isinstance(
                found := answer(CATALOG.preset("phi-4"), machine_of_sku(sku), plan.serving.terms), Sizing
            )  # type: ignore[arg-type, union-attr]
        ]
        (size,) = sizes_of(observed)
        sku = CATALOG.sku(size)
        assert sku is not None
        assert sku.memory_gib == min(ranked)
        said = condition(decision.status, "ResourceReady")["message"]
        assert f"1 x {size} has the least GPU memory" in said
        assert "prices are not known" in said

    def test_the_lowest_price_where_all_are_known(self) -> None:
        config = priced({FOUR: 1.5})
        observed, decision = step(Observed(workspace(instance_type=None)), config)
        assert sizes_of(observed) == [FOUR]
        assert (
            "costs least: 1.50 USD an hour (2026-11-01)"
            in condition(decision.status, "ResourceReady")["message"]
        )
        assert planned(workspace(instance_type=None), config).sizes[1:] == (), "others cost six times as much"

    def test_several_nodes_only_where_no_node_holds_the_model(self) -> None:
        assert planned(llama(None)).count == 1
        assert planned(workspace("deepseek-v3-0324", instance_type=None)).count == 1

    def test_another_size_follows_where_the_cloud_has_none_of_the_first(self) -> None:
        observed, _ = step(Observed(workspace("phi-4", instance_type=None)))
        first = sizes_of(observed)
        decision = decided(failing(observed), now=later(60))
        claim = written(decision, "Machine")
        second = claim["spec"]["requirements"][0]["values"]
        assert second != first
        assert decision.status is not None
        assert decision.status["resolved"]["serving"]["instanceType"] == second[0]

    def test_several_cheap_nodes_may_cost_more_than_one(self) -> None:
        """One A100 costs less than one H200 machine has to, but that model takes three of them."""
        config = priced({ONE: 1.0, TWO: 2.0, FOUR: 2.5})
        ranked = cheapest_first(
            [found for name in (ONE, TWO, FOUR) if isinstance(found := sizing(LLAMA, name), Sizing)],
            config.price,
        )
        costs = [(each.machine.name, price.per_hour) for each, price in ranked if price is not None]
        assert costs == [(FOUR, 2.5), (ONE, 3.0), (TWO, 4.0)]

    def test_no_size_is_chosen_that_is_sold_no_more(self) -> None:
        config = priced({sku.name: 0.01 for sku in CATALOG.skus if sku.retired is not None})
        given = workspace("phi-3-mini-4k-instruct", instance_type=None)
        chosen = [each.sku for each in planned(given, config).sizes]
        assert [each.retired for each in chosen if each is not None] == [None] * len(chosen)

    def test_nothing_is_chosen_for_pods_of_ones_own(self) -> None:
        decision = decided(
            Observed(workspace(None, instance_type=None, inference={"template": {"spec": {}}}))
        )
        assert "write the machine size" in condition(decision.status, "InstanceTypeMissing")["message"]

    def test_what_fits_nowhere_says_how_far_it_is(self) -> None:
        ones = tuple(each for each in CATALOG.skus if each.gpus == 1)
        small = Catalog(presets=CATALOG.presets, skus=ones)
        given = workspace(
            "deepseek-v3-0324", instance_type=None, annotations={"kaito.sh/runtime": "transformers"}
        )
        decision = decide(Observed(given), small, CONFIG, later(0))
        message = condition(decision.status, "InsufficientGpuMemory")["message"]
        assert message.startswith(
            "resource.instanceType: no size of azure holds deepseek-v3-0324; nearest is "
        )
        assert "GiB are missing" in message


class TestSticks:
    def test_a_settled_world_stays_though_the_catalogue_says_otherwise(self) -> None:
        observed = settled(workspace("phi-4", instance_type=None), gpus=4)
        larger = tuple(
            each.model_copy(update={"weights_gib": 500.0, "context_tokens": 1024, "dtype": "float32"})
            if each.name == "phi-4"
            else each
            for each in CATALOG.presets
        )
        news = Catalog(presets=larger, skus=tuple(reversed(CATALOG.skus)))
        decision = decide(observed, news, CONFIG, later(60))
        assert decision.deletions == ()
        assert [write.resource.kind for write in decision.writes if write.resource.kind != "Deployment"] == []
        assert decision.status is not None
        before = observed.workspace["status"]
        assert decision.status["resolved"] == before["resolved"]
        assert decision.status["targetNodeCount"] == before["targetNodeCount"]
        assert decide(observed, CATALOG, CONFIG, later(60)).writes == ()

    def test_another_spec_is_sized_anew(self) -> None:
        observed = settled(llama(resource={"count": 3}), gpus=1)
        more = {**observed.workspace, "resource": {**observed.workspace["resource"], "count": 4}}
        after, _ = step(replace(observed, workspace=more))
        assert after.workspace["status"]["resolved"]["serving"]["nodes"] == 4
        assert len(after.claims) == 4

    def test_nodes_of_a_size_that_was_written_stay_though_the_catalogue_says_otherwise(self) -> None:
        observed = settled(llama())
        heavier = tuple(
            each.model_copy(update={"weights_gib": 250.0}) if each.name == LLAMA else each
            for each in CATALOG.presets
        )
        decision = decide(observed, Catalog(presets=heavier, skus=CATALOG.skus), CONFIG, later(60))
        assert "Machine" not in kinds(decision)
        assert decision.deletions == ()
        assert decision.status is not None
        assert decision.status["resolved"] == observed.workspace["status"]["resolved"]

    def test_a_chosen_size_that_the_catalogue_has_no_more_leaves_what_runs(self) -> None:
        observed = settled(workspace("phi-4", instance_type=None), gpus=2)
        first, *rest = observed.workspace["status"]["resolved"]["serving"]["sizes"]

        def without(*names: str) -> Catalog:
            return Catalog(
                presets=CATALOG.presets, skus=tuple(each for each in CATALOG.skus if each.name not in names)
            )

        decision = decide(observed, without(first), CONFIG, later(60))
        assert (decision.writes, decision.deletions) == ((), ())
        assert f"{first} is not known" in condition(decision.status, "UnknownInstanceType")["message"]
        decision = decide(observed, without(*rest), CONFIG, later(60))
        assert (decision.writes, decision.deletions) == ((), ())
        assert condition(decision.status, "WorkspaceSucceeded")["status"] == "True"
        failed = decide(failing(observed), without(rest[0]), CONFIG, later(60))
        (requirement, *_) = written(failed, "Machine")["spec"]["requirements"]
        assert requirement["values"] == [rest[1]]

    def test_another_runtime_is_another_choice(self) -> None:
        observed = settled(workspace())
        given = copy.deepcopy(observed.workspace)
        given["metadata"]["annotations"] = {"kaito.sh/runtime": "transformers"}
        after, decision = step(replace(observed, workspace=given))
        assert kinds(decision) == ["Deployment"]
        assert after.workspace["status"]["resolved"]["serving"]["runtime"] == "transformers"

    def test_a_new_config_map_is_heeded_and_buys_no_other_size(self) -> None:
        given = workspace("phi-4", instance_type=None, inference={"config": "mine"})
        world = Observed(given, config_hash="1", settings=settings_in("vllm: {max-model-len: 2048}"))
        before, after = priced({ONE: 1.0}), priced({FOUR: 0.5})
        observed, _ = step(world, before)
        observed, _ = step(provisioned(observed), before)
        changed = replace(observed, config_hash="2", settings=settings_in("vllm: {max-model-len: 4096}"))
        changed, decision = step(changed, after, later(60))
        assert kinds(decision) == ["Deployment"]
        assert "--max-model-len=4096" in arguments(changed)
        resolved = changed.workspace["status"]["resolved"]["serving"]
        assert (resolved["instanceType"], resolved["sizes"]) == (ONE, [ONE])
        assert f"1 x {ONE} costs least" in condition(decision.status, "ResourceReady")["message"]

    def test_a_new_config_map_that_asks_for_too_much_leaves_what_runs_and_is_refused(self) -> None:
        given = workspace(
            "phi-3-mini-128k-instruct",
            instance_type=None,
            inference={"config": "mine"},
            annotations={"kaito.sh/runtime": "transformers"},  # which is not spread over nodes
        )
        world = Observed(given, config_hash="1", settings=settings_in("vllm: {max-model-len: 2048}"))
        observed, _ = step(world)
        observed, _ = step(provisioned(observed))
        more = replace(observed, config_hash="2", settings=settings_in("vllm: {max-model-len: 131072}"))
        after, decision = step(more)
        assert (decision.writes, decision.deletions) == ((), ())
        assert "sizes that fit: Standard_" in condition(decision.status, "InsufficientGpuMemory")["message"]
        assert after.workspace["status"]["resolved"] == observed.workspace["status"]["resolved"]

    def test_the_newest_attempt_says_which_place_of_a_list_was_tried_last(self) -> None:
        """Two nodes of different attempts, on sizes that serve alike; the list is reordered, the newer fails."""
        other, third = "Standard_NC40ads_H100_v5", "Standard_NCC40ads_H100_v5"
        given = workspace(instance_type=None, resource={"instanceTypes": [ONE, other, third], "count": 2})
        observed, _ = step(Observed(given))
        observed, decision = step(failing(observed, 1), now=later(60))
        observed = without_deleted(observed, decision)
        assert sizes_of(observed) == [ONE, other]
        given = copy.deepcopy(observed.workspace)
        given["resource"]["instanceTypes"] = [ONE, third, other]
        observed, _ = step(replace(observed, workspace=given), now=later(90))
        assert sizes_of(observed) == [ONE, other]
        observed, decision = step(failing(observed, 1), now=later(120))
        assert sizes_of(without_deleted(observed, decision)) == [ONE, ONE], (
            "not the size that has just failed"
        )

    @pytest.mark.parametrize(
        ("before", "after", "gpus"),
        [
            ({"instanceType": ONE}, {"instanceTypes": [FOUR, ONE]}, 1),
            ({"instanceTypes": [ONE, FOUR]}, {"instanceTypes": [FOUR, ONE]}, 1),
            ({"instanceType": FOUR}, {"instanceTypes": [ONE, FOUR]}, 4),
            ({}, {"instanceType": ONE}, 4),
        ],
        ids=["one before it", "other order", "smaller before it", "one that was chosen"],
    )
    def test_sizes_that_are_ranked_anew_take_nothing_from_what_runs(
        self, before: Object, after: Object, gpus: int
    ) -> None:
        config = priced({FOUR: 1.0})
        observed, _ = step(Observed(llama(None, resource=before)), config)
        observed, _ = step(provisioned(observed, gpus), config)
        size, *_ = sizes_of(observed)
        given = copy.deepcopy(observed.workspace)
        for key in before:
            del given["resource"][key]
        given["resource"] |= after
        given["metadata"]["generation"] = 2
        changed, decision = step(replace(observed, workspace=given), config, later(60))
        assert (decision.writes, decision.deletions) == ((), ())
        assert set(sizes_of(changed)) == {size}
        assert decision.status is not None
        assert decision.status["targetNodeCount"] == len(observed.claims)
        told = f"the nodes are {size}, which the spec does not name any more: they stay until one fails"
        assert (told in condition(decision.status, "ResourceReady")["message"]) == (size not in str(after))
        failed, decision = step(failing(changed), config, later(120))
        if "instanceTypes" in after:
            assert set(sizes_of(without_deleted(failed, decision))) == {FOUR if size == ONE else ONE}

    def test_a_config_map_that_is_gone_changes_nothing(self) -> None:
        given = workspace("phi-3-mini-128k-instruct", inference={"config": "mine"})
        said = settings_in("vllm: {max-model-len: 2048}")
        observed, _ = step(Observed(given, config_hash="1", settings=said))
        observed, _ = step(provisioned(observed))
        assert "--max-model-len=2048" in arguments(observed)
        decision = decided(replace(observed, config_hash=None, settings=None))
        assert kinds(decision) == []
        assert decision.status is not None
        assert decision.status["resolved"] == observed.workspace["status"]["resolved"]

    def test_what_ran_before_choices_were_written_down_runs_on(self) -> None:
        bypass = {"kaito.sh/bypass-resource-checks": ""}
        observed = settled(llama(TWO, resource={"count": 2}), gpus=2)
        small = settled(workspace("phi-4", instance_type="Standard_NC6s_v3", annotations=bypass))
        for world, nodes in ((observed, 2), (small, 1)):
            old = copy.deepcopy(world.workspace)
            old["metadata"].pop("annotations", None)
            del old["status"]["resolved"]
            decision = decided(replace(world, workspace=old))
            assert (decision.writes, decision.deletions) == ((), ())
            assert decision.status is not None
            assert decision.status["resolved"]["serving"]["nodes"] == nodes
            assert decision.status["state"] == "Ready"

    def test_what_no_program_wrote_is_not_believed(self) -> None:
        given = workspace()
        for nonsense in (
            "text",
            {"serving": []},
            {"serving": {"for": "?", "nodes": -1}},
            {"serving": {"nodes": True}},
        ):
            decision = decided(Observed({**given, "status": {"resolved": nonsense}}))
            assert kinds(decision) == ["Machine", "Service"]


class TestTogether:
    """Sizes on which a model is cut in different ways: all nodes are of one of them."""

    def spread(self) -> Observed:
        given = llama(None, resource={"instanceTypes": [ONE, TWO, FOUR]})
        return step(Observed(given))[0]

    def test_the_number_of_nodes_follows_the_size_that_is_tried(self) -> None:
        observed = self.spread()
        assert sizes_of(observed) == [ONE] * 3
        claims = [machine_ready(each, f"node-{number}") for number, each in enumerate(observed.claims)]
        nodes = {f"node-{number}": gpu_node(f"node-{number}") for number in range(3)}
        observed = failing(replace(observed, claims=tuple(claims), nodes=nodes), 2)
        after, decision = step(observed, now=later(60))
        assert len(decision.deletions) == 3, "what is of the other size is of no use"
        after = without_deleted(after, decision)
        assert sizes_of(after) == [TWO] * planned(llama(TWO)).count
        assert after.workspace["status"]["targetNodeCount"] == planned(llama(TWO)).count
        after, _ = step(provisioned(after, 2), now=later(120))
        assert f"--nodes={planned(llama(TWO)).count}" in arguments(after)
        assert "--tensor-parallel-size=2" in arguments(after)

    def test_one_large_node_at_last(self) -> None:
        observed = self.spread()
        for seconds in (60, 120):
            after, decision = step(failing(observed), now=later(seconds))
            observed = without_deleted(after, decision)
        assert sizes_of(observed) == [FOUR]
        observed, _ = step(provisioned(observed, 4), now=later(180))
        assert observed.stateful_set is None, "one node needs no others"
        assert "--tensor-parallel-size=4" in arguments(observed)

    def test_what_is_served_is_not_rewritten_before_the_other_nodes_are_there(self) -> None:
        observed = self.spread()
        observed, _ = step(provisioned(observed))
        before = observed.stateful_set
        after, decision = step(failing(observed, 1), now=later(60))
        assert "StatefulSet" not in kinds(decision)
        after = without_deleted(after, decision)
        _, decision = step(after, now=later(61))
        assert "StatefulSet" not in kinds(decision)
        after, _ = step(provisioned(after, 2), now=later(120))
        assert after.stateful_set is not None
        assert before is not None
        assert after.stateful_set["spec"]["replicas"] == planned(llama(TWO)).count

    def test_a_pool_takes_sizes_that_serve_alike_only(self) -> None:
        config = WorkspaceConfig(node_provisioner=NodeProvisioner.KARPENTER)
        given = llama(None, resource={"instanceTypes": [TWO, ONE, FOUR]})
        pool = written(decided(Observed(given), config), "NodePool")
        requirements = pool["spec"]["template"]["spec"]["requirements"]
        (sizes,) = [
            each["values"] for each in requirements if each["key"] == "node.kubernetes.io/instance-type"
        ]
        assert sizes == [TWO]
        assert pool["spec"]["replicas"] == planned(llama(TWO)).count

    @pytest.mark.parametrize(
        "after", [{"instanceType": ONE}, {"instanceTypes": [ONE, FOUR]}], ids=["another", "another first"]
    )
    def test_a_pool_keeps_its_size_and_number_however_sizes_are_ranked_anew(self, after: Object) -> None:
        config = replace(priced({FOUR: 1.0}), node_provisioner=NodeProvisioner.KARPENTER)
        observed, decision = go(Observed(llama(None)), config)
        assert written(decision, "NodePool")["spec"]["replicas"] == 1
        given = copy.deepcopy(observed.workspace)
        given["resource"] |= after
        given["metadata"]["generation"] = 2
        observed, decision = go(replace(observed, workspace=given), config)
        assert "NodePool" not in kinds(decision)
        assert decision.status is not None
        assert decision.status["targetNodeCount"] == 1

    @trying(max_examples=60, deadline=None)
    @over(
        st.lists(
            st.tuples(st.sampled_from(["fail", "vanish", "ready", "rank", "pass"]), st.integers(0, 9)),
            max_size=14,
        )
    )
    def test_whatever_happens_all_nodes_end_up_alike(self, events: list[tuple[str, int]]) -> None:
        observed, seconds = self.spread(), 0.0
        for kind, number in events:
            seconds += 700
            if kind == "rank":
                observed = ranked_anew(observed, number)
            elif observed.claims:
                picked = number % len(observed.claims)
                if kind == "fail":
                    observed = failing(observed, picked)
                elif kind == "vanish":
                    kept = [each for place, each in enumerate(observed.claims) if place != picked]
                    observed = replace(observed, claims=tuple(kept))
                elif kind == "ready":
                    observed = provisioned(observed, 4)
            after, decision = step(observed, now=later(seconds))
            observed = without_deleted(after, decision)
        for _ in range(4):
            seconds += 700
            after, decision = step(observed, now=later(seconds))
            observed = without_deleted(after, decision)
            if not any(each.get("status", {}).get("conditions") == [FAILED] for each in observed.claims):
                observed = provisioned(observed, 4)
        names = sizes_of(observed)
        assert len(set(names)) == 1
        choice = planned(llama(names[0])).choice
        assert choice is not None
        assert len(names) == choice.nodes == observed.workspace["status"]["targetNodeCount"]
        stored = observed.workspace["status"]["resolved"]["serving"]
        assert (stored["instanceType"], stored["nodes"]) == (names[0], choice.nodes)
        assert decided(observed, now=later(seconds + 1)).writes == ()


def labelled(name: str, product: str, memory: int, count: int = 1, *, capability: str = "8") -> Object:
    labels = {
        "apps": "phi",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.memory": str(memory),
        "nvidia.com/gpu.compute.major": capability,
        "nvidia.com/gpu.compute.minor": "0",
    }
    return gpu_node(name, count, labels=labels)


def existing(*nodes: Object) -> ExistingNodes:
    return ExistingNodes(map(facts_of, nodes))


class TestExisting:
    def test_nodes_are_counted_by_their_labels(self) -> None:
        given = llama(None)
        few = existing(*(labelled(f"n{number}", "NVIDIA-A100-SXM4-80GB", 81920) for number in range(2)))
        decision = decided(Observed(given, existing=few), BYO)
        assert (
            "2 of 3 nodes with apps=phi can take a pod" in condition(decision.status, "NodesReady")["message"]
        )
        enough = existing(*(labelled(f"n{number}", "NVIDIA-A100-SXM4-80GB", 81920) for number in range(3)))
        observed, decision = step(Observed(given, existing=enough), BYO)
        assert written(decision, "StatefulSet")["spec"]["replicas"] == 3
        assert "--pipeline-parallel-size=3" in arguments(observed)
        assert decided(observed, BYO).writes == ()

    def test_old_gpus_compute_in_float16(self) -> None:
        v100 = existing(labelled("n", "Tesla-V100-PCIE-16GB", 16160, capability="7"))
        observed, _ = step(Observed(workspace(instance_type=None), existing=v100), BYO)
        assert "--dtype=float16" in arguments(observed)

    def test_gpus_that_are_too_small_are_told(self) -> None:
        t4 = existing(labelled("n", "Tesla-T4", 15360, capability="7"))
        decision = decided(Observed(workspace("phi-4", instance_type=None), existing=t4), BYO)
        ready = condition(decision.status, "NodesReady")
        assert (ready["status"], ready["reason"]) == ("False", "InsufficientGpuMemory")
        assert "the nodes with apps=phi: phi-4" in ready["message"]
        assert "Deployment" not in kinds(decision)

    def test_the_smallest_of_different_gpus_decides(self) -> None:
        mixed = existing(
            labelled("a", "NVIDIA-A100-SXM4-80GB", 81920), labelled("b", "Tesla-T4", 15360, capability="7")
        )
        observed, decision = step(Observed(workspace(instance_type=None), existing=mixed), BYO)
        assert (
            "their GPUs differ, and the model is served as Tesla T4 can"
            in (condition(decision.status, "NodesReady")["message"])
        )
        assert "--dtype=float16" in arguments(observed)

    def test_a_node_that_is_down_for_a_while_changes_nothing(self) -> None:
        a100 = labelled("a", "NVIDIA-A100-SXM4-80GB", 81920)
        t4 = labelled("b", "Tesla-T4", 15360, capability="7")
        observed, _ = step(Observed(workspace(instance_type=None), existing=existing(a100, t4)), BYO)
        t4["status"]["conditions"][0]["status"] = "False"
        decision = decided(replace(observed, existing=existing(a100, t4)), BYO)
        assert decision.writes == ()
        assert decision.status is not None
        assert decision.status["resolved"] == observed.workspace["status"]["resolved"]

    def test_nodes_without_such_labels_are_sized_by_their_machine_size(self) -> None:
        size = {"apps": "phi", "node.kubernetes.io/instance-type": "Standard_NC16as_T4_v3"}
        observed, _ = step(
            Observed(workspace(instance_type=None), existing=existing(gpu_node("n", labels=size))), BYO
        )
        assert "--dtype=float16" in arguments(observed)

    def test_nodes_that_tell_nothing_are_taken_as_they_are(self) -> None:
        plain = existing(gpu_node("n", labels={"apps": "phi"}))
        observed, _ = step(Observed(workspace(instance_type=None), existing=plain), BYO)
        assert not any(each.startswith(("--dtype", "--max-model-len")) for each in arguments(observed))


def test_a_ranked_size_that_will_not_do_is_passed_over_and_that_is_told() -> None:
    sizes = ["Standard_NV72ads_A10_v5", "Standard_NC48ads_A100_v4"]
    plan = planned(workspace("falcon-40b", instance_type=None, resource={"instanceTypes": sizes}))
    assert [each.name for each in plan.sizes] == sizes[1:]
    assert plan.notes == (
        "Standard_NV72ads_A10_v5 is passed over: falcon-40b would need 3 nodes of Standard_NV72ads_A10_v5, and cannot "
        "be spread over nodes",
    )
    assert planned(workspace("falcon-40b", instance_type=sizes[1])).notes == ()


class TestOverrides:
    @staticmethod
    def told(text: str, given: Object | None = None) -> tuple[Observed, str]:
        given = given or workspace(
            "phi-3-mini-128k-instruct", instance_type=FOUR, inference={"config": "mine"}
        )
        observed, decision = step(Observed(given, config_hash="1", settings=settings_in(text)))
        message = condition(decision.status, "ResourceReady")["message"]
        return step(provisioned(observed, 4))[0], message

    def test_parallelism_of_the_file_wins_and_is_told(self) -> None:
        observed, message = self.told("vllm: {tensor_parallel_size: 2, data-parallel-size: '1'}")
        assert "--tensor-parallel-size=2" in arguments(observed)
        assert not any(each.startswith("--data-parallel-size") for each in arguments(observed))
        assert "inference.config has tensor-parallel-size 2, where" in message
        assert "2 of 4 GPUs are used" in message

    def test_a_size_is_chosen_that_has_room_for_the_model_so_cut(self) -> None:
        given = workspace("phi-4", instance_type=None, inference={"config": "mine"})
        plan = make_plan(given, None, CATALOG, CONFIG, settings_in("vllm: {tensor-parallel-size: 1}"))
        assert isinstance(plan, Plan)
        assert plan.serving is not None
        for size, choice in zip(plan.sizes, plan.choices, strict=True):
            assert size.sku is not None
            ledger = plan.serving.ledger(choice, machine_of_sku(size.sku))
            assert choice.parallelism.tensor == 1
            assert ledger is not None
            assert ledger.free >= 0

    def test_more_gpus_than_there_are_are_refused(self) -> None:
        given = workspace("phi-3-mini-128k-instruct", instance_type=FOUR, inference={"config": "mine"})
        said = settings_in("vllm: {tensor-parallel-size: 4, data-parallel-size: 2}")
        decision = decided(Observed(given, config_hash="1", settings=said))
        assert decision.writes == ()
        assert condition(decision.status, "InvalidSpec")["message"] == (
            f"inference.config: tensor-parallel-size 4, data-parallel-size 2 need 8 GPUs, and {FOUR} has 4; write "
            "smaller numbers, or leave them out"
        )

    def test_heads_that_cannot_be_shared_evenly_are_refused(self) -> None:
        given = workspace("phi-4", instance_type=FOUR, inference={"config": "mine"})
        said = settings_in("vllm: {tensor-parallel-size: 3}")
        decision = decided(Observed(given, config_hash="1", settings=said))
        assert decision.writes == ()
        assert condition(decision.status, "InvalidSpec")["message"] == (
            "inference.config: tensor-parallel-size 3 does not divide the 40 attention heads of phi-4, and their 10 "
            "keys and values, evenly; write smaller numbers, or leave them out"
        )

    def test_more_gpus_than_there_are_pass_where_checks_are_bypassed_and_that_is_told(self) -> None:
        given = workspace(
            "phi-3-mini-128k-instruct",
            instance_type=FOUR,
            inference={"config": "mine"},
            annotations={"kaito.sh/bypass-resource-checks": "true"},
        )
        _, message = self.told("vllm: {tensor-parallel-size: 8}", given)
        assert "8 GPUs are needed for that, and there are 4: the server cannot start" in message

    def test_no_size_is_chosen_whose_gpus_are_fewer_than_the_file_asks_for(self) -> None:
        given = workspace("phi-3-mini-128k-instruct", instance_type=None, inference={"config": "mine"})
        plan = make_plan(given, None, CATALOG, CONFIG, settings_in("vllm: {tensor-parallel-size: 8}"))
        assert isinstance(plan, Plan)
        assert {each.sku.gpus for each in plan.sizes if each.sku is not None} == {8}
        (problem,) = unplanned(given, "vllm: {tensor-parallel-size: 16}")
        assert (problem.path, problem.reason) == ("inference.config", "InvalidSpec")
        assert "tensor-parallel-size 16 needs 16 GPUs" in problem.message

    @pytest.mark.parametrize(
        ("text", "cut"),
        [
            ("{tensor-parallel-size: 4}", (4, 1, 1)),
            ("{tensor-parallel-size: 2}", (2, 1, 2)),
            ("{pipeline-parallel-size: 2}", (1, 2, 2)),
            ("{pipeline-parallel-size: 4}", (1, 4, 1)),
            ("{data-parallel-size: 2}", (1, 1, 2)),
        ],
    )
    def test_of_the_parts_that_the_file_leaves_out_there_are_as_many_as_there_are_gpus_for(
        self, text: str, cut: tuple[int, int, int]
    ) -> None:
        """Planned are four copies, one on each GPU."""
        observed, _ = self.told(f"vllm: {text}")
        found = (observed.workspace["status"]["resolved"]["serving"][each] for each in PARTS)
        assert tuple(found) == cut

    def test_copies_give_way_to_a_tensor_that_the_file_leaves_out(self) -> None:
        """One copy over all four GPUs is planned; the file wants four of them."""
        given = llama(
            FOUR, inference={"config": "mine"}, annotations={"kaito.sh/bypass-resource-checks": "true"}
        )
        observed, _ = self.told("vllm: {data-parallel-size: 4}", given)
        found = (observed.workspace["status"]["resolved"]["serving"][each] for each in PARTS)
        assert tuple(found) == (1, 1, 4)

    def test_stages_give_way_to_a_tensor_that_the_file_names(self) -> None:
        """Two nodes of one GPU follow one another; there are no GPUs for two stages of two."""
        planned = Choice(ONE, 2, 1, "vllm", Parallelism(1, 2, 1), "auto", None)
        sku = CATALOG.sku(ONE)
        assert sku is not None
        found = overridden(planned, Settings(tensor=2), machine_of_sku(sku))
        assert found.parallelism == Parallelism(2, 1, 1)

    def test_a_longer_context_needs_more_nodes(self) -> None:
        given = llama("Standard_NV72ads_A10_v5", inference={"config": "mine"})
        plain = make_plan(given, None, CATALOG, CONFIG, {})
        long = make_plan(given, None, CATALOG, CONFIG, settings_in("vllm: {max-model-len: 131072}"))
        assert isinstance(plain, Plan)
        assert isinstance(long, Plan)
        assert long.count > plain.count

    def test_a_context_that_the_model_does_not_have_is_refused(self) -> None:
        given = workspace(inference={"config": "mine"})
        decision = decided(
            Observed(given, config_hash="1", settings=settings_in("vllm: {max-model-len: 5000}"))
        )
        assert decision.writes == ()
        assert condition(decision.status, "InvalidSpec")["message"] == (
            "inference.config: asks for a context of 5,000 tokens, and phi-3-mini-4k-instruct has at most 4,096; "
            "write max-model-len: 4096"
        )

    def test_each_runtime_is_planned_with_its_own_section(self) -> None:
        said = settings_in("vllm: {max-model-len: 2048}\ntransformers: {max-model-len: 4096}")
        contexts = {}
        for size in ("Standard_NC6s_v3", ONE):
            given = workspace("phi-3-mini-128k-instruct", instance_type=size, inference={"config": "mine"})
            plan = make_plan(given, None, CATALOG, CONFIG, said)
            assert isinstance(plan, Plan)
            assert plan.choice is not None
            contexts[plan.choice.runtime] = plan.choice.context
        assert contexts == {"transformers": 4096, "vllm": 2048}

    def test_bfloat16_where_there_is_none(self) -> None:
        given = workspace(instance_type="Standard_NC16as_T4_v3", inference={"config": "mine"})
        observed, message = self.told("vllm: {dtype: bfloat16}", given)
        assert "--dtype=float16" in arguments(observed)
        assert "bfloat16" in message

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "- a",
            "vllm: 3",
            "vllm: {max-model-len: -1, tensor-parallel-size: yes, dtype: int8}",
            "a: &a [1]\nb: *a",
            "[" * 200,
            "x: !!int ''",
            "vllm: {max-model-len: auto}",
        ],
    )
    def test_what_no_server_could_read_says_nothing(self, text: object) -> None:
        assert settings_in(text) == {}

    def test_a_runtime_of_ones_choice(self) -> None:
        plan = planned(workspace(annotations={"kaito.sh/runtime": "Transformers"}))
        assert plan.choice is not None
        assert plan.choice.runtime == "transformers"
        assert planned(workspace()).choice.runtime == "vllm"  # type: ignore[union-attr]
        assert planned(workspace(instance_type="Standard_NC6s_v3")).choice.runtime == "transformers"  # type: ignore[union-attr]


SIZES = [each.name for each in CATALOG.skus if each.cloud == "azure" and not each.unusable]
PRESETS = [each.name for each in CATALOG.presets if each.gpus and not each.deprecated and not each.private]


@trying(max_examples=150, deadline=None)
@over(
    preset=st.sampled_from(PRESETS),
    sizes=st.lists(st.sampled_from(SIZES), max_size=3, unique=True),
    count=st.none() | st.integers(1, 4),
)
def test_what_is_planned_holds_the_model_and_is_planned_again(
    preset: str, sizes: list[str], count: int | None
) -> None:
    resource: Object = {"instanceTypes": sizes} if sizes else {}
    if count is not None:
        resource["count"] = count
    given = workspace(
        preset,
        instance_type=None,
        resource=resource,
        inference={"preset": {"name": preset, "presetOptions": {"image": "example.com/mine:1"}}},
    )
    plan = make_plan(given, None, CATALOG, CONFIG)
    if not isinstance(plan, Plan):
        assert {each.reason for each in plan} <= {"InsufficientGpuMemory"}, plan
        return
    assert plan.serving is not None
    assert len(plan.choices) == len(plan.sizes) > 0
    for size, choice in zip(plan.sizes, plan.choices, strict=True):
        assert size.sku is not None
        machine = machine_of_sku(size.sku)
        assert choice.nodes >= (count or 1)
        assert choice.copies in (1, choice.nodes)
        used = choice.parallelism.gpus
        assert used == machine.gpus * (choice.nodes if choice.distributed else 1)
        ledger = plan.serving.ledger(choice, machine)
        assert ledger is None or ledger.free >= 0
    observed, _ = step(step(Observed(given))[0])
    again = decided(observed)
    assert again.writes == ()
    assert again.status == observed.workspace["status"], "the choice is found again"
