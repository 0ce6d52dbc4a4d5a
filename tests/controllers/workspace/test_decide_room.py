"""Room for adapters, for requests at once, and for weights of the user's own: part of what nodes are counted for."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import (
    CATALOG,
    CONFIG,
    Object,
    adapter_status,
    condition,
    decided,
    inline,
    kinds,
    later,
    provisioned,
    settled,
    step,
    workspace,
)
from kaito.catalog.memory import GIB
from kaito.controllers.workspace import NodeProvisioner, Observed, WorkspaceConfig
from kaito.controllers.workspace.admission import judge
from kaito.controllers.workspace.decide.hub_model import known_preset
from kaito.controllers.workspace.decide.plan import Plan, make_plan
from kaito.controllers.workspace.decide.settings import settings_in
from kaito.controllers.workspace.decide.weights_source import Hub, Pulled, Volume, weights_key
from kaito.controllers.workspace.metrics import facts

ONE = "Standard_NC24ads_A100_v4"
T4 = "Standard_NC4as_T4_v3"
MINI = "phi-3-mini-128k-instruct"
AT_ONCE = "kaito.sh/concurrency"


def at_once(number: str, *, instance_type: str | None = T4, **more: Any) -> Object:
    """The 128k Phi-3, by a runtime that stays on one node: 3.5 GiB of a T4 are left beside it."""
    annotations = {AT_ONCE: number, "kaito.sh/runtime": "transformers"}
    return workspace(MINI, instance_type=instance_type, annotations=annotations, **more)


def short(number: str, **more: Any) -> Observed:
    """The same with a context of 4,096 tokens, which take 1.5 GiB."""
    given = at_once(number, **more)
    given["inference"]["config"] = "mine"
    return Observed(given, config_hash="1", settings=settings_in("transformers: {max-model-len: 4096}"))


def serving(observed: Observed) -> Object:
    found: Object = observed.workspace["status"]["resolved"]["serving"]
    return found


def planned(given: Object, **more: Any) -> Plan:
    found = make_plan(given, None, CATALOG, CONFIG, **more)
    assert isinstance(found, Plan), found
    return found


def adapted(
    *names: str, preset: str = MINI, instance_type: str = T4, runtime: str = "transformers"
) -> Object:
    """A Workspace with adapters of its own."""
    adapters = [{"source": {"name": each, "image": f"registry.example/{each}:1"}} for each in names]
    return workspace(
        preset,
        instance_type=instance_type,
        inference={"adapters": adapters},
        annotations={"kaito.sh/runtime": runtime},
    )


def read(
    observed: Observed, rank: int | None, *, base: str = "microsoft/Phi-3-mini-128k-instruct"
) -> Observed:
    """The world after all of its Adapters were read."""
    status = adapter_status(base, rank=rank)
    found = {name: {**each, "status": status} for name, each in observed.adapters.items()}
    return replace(observed, adapters=found)


class TestRequestsAtOnce:
    def test_nodes_are_counted_for_them_and_serve_a_copy_each(self) -> None:
        observed, decision = step(short("4"))
        assert len(observed.claims) == 2, "two of 1.5 GiB fit beside the weights"
        assert (
            "2 nodes are there so that 4 requests have 4,096 tokens of context at once"
            in condition(decision.status, "ResourceReady")["message"]
        )
        assert (serving(observed)["nodes"], serving(observed)["copies"]) == (2, 2)
        assert serving(observed)["concurrency"] == 4
        assert serving(observed)["plannedContext"] == 4096

    def test_nothing_said_is_one(self) -> None:
        observed, _ = step(Observed(workspace()))
        assert "concurrency" not in serving(observed)

    def test_the_context_that_fits_is_one_that_all_of_them_have(self) -> None:
        one = planned(at_once("1", instance_type=ONE)).choice
        two = planned(at_once("2", instance_type=ONE)).choice
        assert one is not None
        assert two is not None
        assert (one.context, two.context) == (131072, 78192)

    def test_the_ledger_is_for_all_of_them(self) -> None:
        plan = planned(at_once("2", instance_type=ONE))
        assert plan.serving is not None
        assert plan.choice is not None
        assert plan.machine is not None
        found = plan.serving.ledger(plan.choice, plan.machine)
        assert found is not None
        assert found.kv_cache == 6.0

    @pytest.mark.parametrize("text", ["0", "-1", "1025", "eight", "", "1.5", "٤", " 8", "1e3", "9" * 400])
    def test_what_is_no_such_number_is_refused_with_its_path(self, text: str) -> None:
        decision = decided(Observed(at_once(text)))
        assert decision.writes == ()
        message = condition(decision.status, "InvalidSpec")["message"]
        assert message.startswith(
            "metadata.annotations[kaito.sh/concurrency]: write how many requests have the whole context at once, a "
            "whole number from 1 to 1,024, not '"
        )
        assert len(message) < 250

    @pytest.mark.parametrize("text", ["1", "08", "1024"])
    def test_a_number_is_taken(self, text: str) -> None:
        planned(at_once(text, instance_type=ONE))

    def test_too_few_nodes_are_refused_with_the_need(self) -> None:
        decision = decided(short("8", resource={"count": 2}))
        assert decision.writes == ()
        message = condition(decision.status, "InsufficientGpuMemory")["message"]
        assert f"{MINI} needs 4 nodes of {T4}; 2 are too few; write 4, or leave count out" in message

    def test_another_number_cuts_the_model_anew_on_the_size_in_use(self) -> None:
        """As another context does: the two are multiplied."""
        observed, _ = step(short("2", instance_type=None))
        observed, _ = step(provisioned(observed))
        size = serving(observed)["instanceType"]
        given = copy.deepcopy(observed.workspace)
        given["metadata"]["annotations"][AT_ONCE] = "6"
        after, decision = step(replace(observed, workspace=given), now=later(60))
        assert serving(after)["instanceType"] == size
        assert serving(after)["concurrency"] == 6
        assert serving(after)["nodes"] >= serving(observed)["nodes"]
        assert not decision.deletions

    def test_two_at_once_leave_each_less_context_than_one_had(self) -> None:
        observed, _ = step(provisioned(step(Observed(at_once("1", instance_type=ONE)))[0]))
        assert serving(observed)["context"] == 131072
        given = copy.deepcopy(observed.workspace)
        given["metadata"]["annotations"][AT_ONCE] = "2"
        observed, _ = step(replace(observed, workspace=given), now=later(60))
        assert serving(observed)["context"] == 78192

    def test_copies_on_the_gpus_of_one_node_share_them(self) -> None:
        def cache(number: str) -> float:
            given = workspace(MINI, instance_type="Standard_NC48ads_A100_v4", annotations={AT_ONCE: number})
            plan = planned(given)
            assert plan.serving is not None
            assert plan.choice is not None
            assert plan.machine is not None
            assert (plan.choice.nodes, plan.choice.parallelism.data) == (1, 2)
            found = plan.serving.ledger(plan.choice, plan.machine)
            assert found is not None
            return found.kv_cache

        assert cache("1") == cache("2") == cache("3") / 2

    def test_nodes_that_are_there_already_are_counted_for_them_too(self) -> None:
        byo = WorkspaceConfig(node_provisioner=NodeProvisioner.BYO)
        found = make_plan(at_once("2", instance_type=None), None, CATALOG, byo)
        assert isinstance(found, Plan)
        assert found.serving is not None
        assert found.serving.terms.sequences == 2


class TestAdapters:
    def test_nodes_are_counted_with_their_real_ranks(self) -> None:
        observed, _ = step(Observed(adapted("one", "two")))
        assert observed.claims == (), "nothing is bought before they were read"
        observed, _ = step(read(observed, 24))
        assert len(observed.claims) == 1
        assert serving(observed)["adapterRanks"] == [24, 24]

    def test_what_is_left_for_the_context_is_less(self) -> None:
        plain, _ = step(Observed(adapted()))
        observed, _ = step(Observed(adapted("one")))
        observed, _ = step(read(observed, 16))
        assert serving(plain)["context"] - serving(observed)["context"] == 9584 - 9424

    def test_one_that_says_no_rank_counts_as_one_of_the_usual(self) -> None:
        observed, _ = step(Observed(adapted("one")))
        observed, _ = step(read(observed, None))
        assert serving(observed)["adapterRanks"] == [16]

    def test_adapters_that_leave_no_room_are_refused_before_a_node_is_bought(self) -> None:
        observed, _ = step(Observed(adapted("one")))
        observed, decision = step(read(observed, 512))
        assert observed.claims == ()
        message = condition(decision.status, "InsufficientGpuMemory")["message"]
        assert "and adapters of rank 512 together needs" in message

    def test_until_they_are_read_the_usual_rank_is_assumed_and_nothing_is_remembered(self) -> None:
        given = adapted("one")
        plan = planned(given)
        assert plan.serving is not None
        assert plan.serving.terms.ranks == (16,)
        observed, _ = step(Observed(given))
        assert "resolved" not in observed.workspace["status"]

    def test_one_that_is_added_later_cuts_the_model_anew_once_it_was_read(self) -> None:
        observed, _ = step(Observed(adapted("one")))
        observed, _ = step(read(observed, 8))
        observed, _ = step(provisioned(observed))
        before = serving(observed)
        given = copy.deepcopy(observed.workspace)
        given["inference"]["adapters"].append({"source": {"name": "two", "image": "registry.example/two:1"}})
        observed, _ = step(replace(observed, workspace=given), now=later(60))
        assert serving(observed) == before, "its rank is not known yet"
        after, decision = step(read(observed, 8), now=later(120))
        assert serving(after)["adapterRanks"] == [8, 8]
        assert serving(after)["context"] < before["context"]
        assert kinds(decision) == ["Deployment"]
        assert not decision.deletions

    def test_a_shared_one_that_gets_a_larger_rank_restarts_nothing(self) -> None:
        """Its Workspace's spec has not changed."""
        given = adapted()
        given["inference"]["adapters"] = [{"adapterRef": {"name": "shared"}}]
        shared = {
            "metadata": {"name": "shared", "uid": "s", "generation": 1},
            "spec": {"source": {"image": "registry.example/shared:1"}},
            "status": adapter_status("microsoft/Phi-3-mini-128k-instruct", rank=8),
        }
        observed, _ = step(Observed(given, adapters={"shared": shared}))
        observed, _ = step(provisioned(observed))
        context = serving(observed)["context"]
        shared = {**shared, "status": adapter_status("microsoft/Phi-3-mini-128k-instruct", rank=32)}
        after, decision = step(replace(observed, adapters={"shared": shared}), now=later(60))
        assert decision.writes == ()
        assert (serving(after)["context"], serving(after)["adapterRanks"]) == (context, [32])
        message = condition(decision.status, "ResourceReady")["message"]
        assert "GiB" not in message or "missing" in message

    def test_ranks_that_are_only_assumed_refuse_nothing(self) -> None:
        """Ten adapters would have rank 160 together; those of rank 1 find room, and have to be read for that."""
        names = [f"a{number}" for number in range(10)]
        given = adapted(*names)
        assert judge(given, CATALOG, CONFIG, {}).refusals == ()
        observed, decision = step(Observed(given))
        assert kinds(decision).count("Adapter") == 10
        assert observed.claims == ()
        assert "are missing on each GPU" in condition(decision.status, "ResourceReady")["message"]
        refused, _ = step(read(observed, 16))
        assert condition(refused.workspace["status"], "InsufficientGpuMemory")["status"] == "True"
        observed, _ = step(read(observed, 1))
        assert len(observed.claims) == 1
        assert serving(observed)["adapterRanks"] == [1] * 10

    @pytest.mark.parametrize("number", [1, 10])
    def test_adapters_that_only_the_pod_reads_are_served_with_an_assumed_rank(self, number: int) -> None:
        """The operator sees neither registries nor volumes. Ten of rank 16 would leave no room, if that were theirs."""
        observed, _ = step(Observed(adapted(*(f"a{each}" for each in range(number)))))
        assert observed.claims == ()
        told = {
            "type": "Ready",
            "status": "True",
            "reason": "ReadByPod",
            "message": "not seen by the operator",
        }
        status = {"conditions": [told], "rank": None, "baseModel": None}
        read_by_pod = {name: {**each, "status": status} for name, each in observed.adapters.items()}
        observed, _ = step(replace(observed, adapters=read_by_pod))
        assert len(observed.claims) == 1
        assert serving(observed)["adapterRanks"] == [16] * number
        uses = observed.workspace["status"]["adapters"]
        assert {(use["state"], use["reason"]) for use in uses} == {("Ready", "ReadByPod")}
        assert uses[0]["message"] == "adapter a0 is read by the pod that serves it"
        observed, decision = step(provisioned(observed), now=later(60))
        assert "Deployment" in kinds(decision)
        pod = decision.writes[-1].body["spec"]["template"]["spec"]
        pulled = [each for each in pod["initContainers"] if "registry.example/a0:1" in str(each)]
        assert len(pulled) == 1
        assert step(observed, now=later(61))[1].writes == ()

    @pytest.mark.parametrize(("names", "rank"), [(("one",), 8), (("one", "two"), 128), (("one",), 512)])
    def test_what_an_older_version_chose_without_counting_them_is_kept(
        self, names: tuple[str, ...], rank: int
    ) -> None:
        """Another version of the operator restarts nothing and buys nothing, even where it would not choose so."""
        observed = self.left_by_an_older_version(names, rank)
        before = serving(observed)
        observed, decision = step(observed, now=later(60))
        assert set(kinds(decision)) <= {"Deployment"}, "the stand-in for that version mounted no adapters"
        assert not decision.deletions
        assert "--max-model-len=9584" in json.dumps(observed.deployment)
        assert serving(observed) == {
            **before,
            "for": serving(observed)["for"],
            "adapterRanks": [rank] * len(names),
        }
        observed, decision = step(observed, now=later(120))
        assert (decision.writes, decision.deletions) == ((), ())
        assert serving(observed)["context"] == 9584

    def test_once_the_spec_changes_an_older_version_s_choice_is_made_anew(self) -> None:
        observed = self.left_by_an_older_version(("one",), 8)
        observed.workspace["metadata"]["generation"] = 2
        observed, _ = step(observed, now=later(60))
        assert serving(observed)["context"] == 9504

    def test_requests_at_once_are_wanted_of_no_older_version(self) -> None:
        """An annotation does not raise the generation."""
        observed = self.left_by_an_older_version(("one",), 8)
        observed.workspace["metadata"]["annotations"][AT_ONCE] = "2"
        observed, _ = step(observed, now=later(60))
        assert serving(observed)["concurrency"] == 2

    @staticmethod
    def left_by_an_older_version(names: tuple[str, ...], rank: int) -> Observed:
        """A Workspace with adapters that runs, with what a version that counts none wrote of its choice."""
        observed = settled(adapted())
        given = {**adapted(*names), "status": copy.deepcopy(observed.workspace["status"])}
        del given["status"]["resolved"]["serving"]["adapterRanks"]
        made, _ = step(Observed(adapted(*names)))
        return replace(observed, workspace=given, adapters=read(made, rank).adapters)

    def test_what_runs_on_one_node_answers_until_all_nodes_of_the_next_cut_are_there(self) -> None:
        observed = settled(adapted(runtime="vllm"))
        given = copy.deepcopy(observed.workspace)
        given["inference"]["adapters"] = adapted("one", "two", "three")["inference"]["adapters"]
        observed, _ = step(replace(observed, workspace=given), now=later(60))
        for seconds in (90, 120):
            observed, decision = step(read(observed, 128), now=later(seconds))
            assert len(observed.claims) == 2, "one copy on both"
            assert not decision.deletions
            assert "Service" not in kinds(decision)
            message = condition(decision.status, "InferenceReady")["message"]
            assert message == "waits for its 2 nodes; until then the model is served as before"
        elsewhere = decided(read(provisioned(observed), 128, base="someone/else"), now=later(170))
        assert not elsewhere.deletions, "nothing could be made in its place"
        assert condition(elsewhere.status, "InferenceReady")["reason"] == "AdapterDoesNotFit"
        observed, decision = step(provisioned(observed), now=later(180))
        assert [each.resource.kind for each in decision.deletions] == ["Deployment"]
        observed, decision = step(replace(observed, deployment=None), now=later(240))
        assert "StatefulSet" in kinds(decision)

    def test_one_whose_new_source_was_not_read_yet_has_no_known_rank(self) -> None:
        """Its object has the new source already, and its status is still about the old one."""
        observed, _ = step(Observed(adapted("one")))
        observed, _ = step(read(observed, 8))
        observed, _ = step(provisioned(observed))
        given = copy.deepcopy(observed.workspace)
        given["inference"]["adapters"][0]["source"]["image"] = "registry.example/one:2"
        given["metadata"]["generation"] = 2
        ((name, adapter),) = observed.adapters.items()
        adapter = copy.deepcopy(adapter)
        adapter["spec"]["source"]["image"] = "registry.example/one:2"
        adapter["metadata"]["generation"] = 2
        adapter["status"]["conditions"][0]["observedGeneration"] = 1
        before = serving(observed)
        observed = replace(observed, workspace=given, adapters={name: adapter})
        observed, _ = step(observed, now=later(60))
        assert serving(observed) == before
        adapter = copy.deepcopy(adapter)
        adapter["status"]["conditions"][0]["observedGeneration"] = 2
        adapter["status"]["rank"] = 64
        observed, _ = step(replace(observed, adapters={name: adapter}), now=later(120))
        assert serving(observed)["adapterRanks"] == [64]

    def test_while_one_is_read_the_last_choice_holds_whatever_else_changed(self) -> None:
        """Nodes are neither bought nor given back for a rank that is only assumed."""
        given = short("4")
        observed, _ = step(given)
        observed, _ = step(provisioned(observed))
        assert len(observed.claims) == 2
        changed = copy.deepcopy(observed.workspace)
        changed["metadata"]["generation"] = 2
        changed["metadata"]["annotations"][AT_ONCE] = "8"
        changed["resource"]["count"] = 4
        changed["inference"]["adapters"] = adapted("one")["inference"]["adapters"]
        observed, decision = step(replace(observed, workspace=changed), now=later(60))
        assert kinds(decision) == ["Adapter"]
        assert not decision.deletions
        observed, decision = step(read(observed, 8), now=later(120))
        assert kinds(decision).count("Machine") == serving(observed)["nodes"] - 2

    @pytest.mark.parametrize("entry", [{"strength": "0.5"}, {"source": {"image": "registry.example/one:1"}}])
    def test_an_entry_without_a_name_is_left_out(self, entry: Object) -> None:
        """One that was stored before the CRD refused it."""
        given = adapted()
        given["inference"]["adapters"] = [entry]
        assert planned(given).adapters == ()

    def test_an_adapter_whose_source_changed_was_not_read(self) -> None:
        observed, _ = step(Observed(inline("registry.example/adapter:1")))
        observed = read(observed, 64)
        other = inline("registry.example/adapter:2")
        assert planned(other, adapters=observed.adapters).serving is not None
        terms = planned(other, adapters=observed.adapters).serving
        assert terms is not None
        assert (terms.terms.ranks, terms.key) == ((16,), "")


class TestOwnWeights:
    """`status.resolved.weights` says how large they are, once somebody looked."""

    @staticmethod
    def looked_at(size: int, *, method: str | None = None, key: str | None = None) -> Object:
        preset = {"name": "phi-4", "weights": {"image": "registry.example/mine:1"}}
        given = workspace(None, instance_type=None, inference={"preset": preset})
        kept: Object = {"for": key or weights_key(Pulled("registry.example/mine:1")), "bytes": size}
        if method is not None:
            kept["quantization"] = method
        given["status"] = {"resolved": {"weights": kept}}
        return given

    def test_smaller_ones_get_a_smaller_machine(self) -> None:
        """phi-4 in 4 bits: 8 of 27.3 GiB, on one T4 instead of an A100."""
        plan = planned(self.looked_at(8 * GIB, method="gptq"))
        assert plan.preset is not None
        assert plan.preset.quantization is not None
        assert (plan.preset.weights_gib, plan.preset.quantization.method) == (8.0, "gptq")
        assert plan.sizes[0].name == T4
        plain = planned(workspace("phi-4", instance_type=None))
        assert plain.sizes[0].name != T4

    def test_larger_ones_get_a_larger_machine_and_disk(self) -> None:
        plan = planned(self.looked_at(54 * GIB))
        known = CATALOG.preset("phi-4")
        assert known is not None
        assert known.disk_gib is not None
        assert plan.preset is not None
        assert plan.preset.disk_gib == known.disk_gib + 27
        assert plan.choice is not None
        assert plan.machine is not None
        assert plan.machine.memory_gib * plan.machine.gpus > 54

    def test_what_was_found_of_other_weights_is_no_matter(self) -> None:
        found = known_preset(self.looked_at(8 * GIB, key="other"), CATALOG)
        assert found is CATALOG.preset("phi-4")

    @pytest.mark.parametrize("size", [0, -1, True, "8", None])
    def test_what_is_no_size_is_no_matter(self, size: Any) -> None:
        assert known_preset(self.looked_at(size), CATALOG) is CATALOG.preset("phi-4")

    def test_a_method_of_quantisation_that_is_no_name_counts_as_none(self) -> None:
        found = known_preset(self.looked_at(8 * GIB, method="?!"), CATALOG)
        assert found is not None
        assert (found.weights_gib, found.quantization) == (8.0, None)

    def test_it_is_remembered_for_the_place_and_not_for_how_it_is_reached(self) -> None:
        assert weights_key(Pulled("a:1", ("secret",))) == weights_key(Pulled("a:1"))
        assert weights_key(Hub("a/b", None, "secret")) == weights_key(Hub("a/b", None))
        assert weights_key(Hub("a/b", "main")) != weights_key(Hub("a/b", None))
        assert weights_key(Volume({"nfs": {}})) != weights_key(Volume({}))

    def test_what_runs_is_not_resized_by_what_is_found_later(self) -> None:
        given = self.looked_at(20 * GIB)
        observed, _ = step(Observed(given))
        observed, _ = step(provisioned(observed))
        before = serving(observed)
        moved = copy.deepcopy(observed.workspace)
        moved["status"]["resolved"]["weights"]["bytes"] = 60 * GIB
        after, decision = step(replace(observed, workspace=moved), now=later(60))
        assert serving(after) == before
        assert not any(write.resource.kind == "Machine" for write in decision.writes)
        assert not decision.deletions


def test_metrics_show_what_was_planned_for_adapters_and_requests_at_once() -> None:
    """Of a choice that was written down, whatever the Workspace is otherwise."""
    given = adapted("one", instance_type=ONE)
    given["metadata"]["annotations"][AT_ONCE] = "2"
    observed, _ = step(Observed(given))
    observed, _ = step(read(observed, 16))
    observed = provisioned(observed)
    observed, _ = step(observed)
    found = facts(observed.workspace, observed.workspace["status"], observed.nodes, CATALOG)
    assert found.planned["adapters"] == pytest.approx(0.0575912 * GIB, rel=1e-4)
    assert found.planned["kv_cache"] == 6 * GIB
    assert found.estimated == pytest.approx(sum(found.planned.values()) - found.planned["free"])
