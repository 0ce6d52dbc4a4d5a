"""A claim on its way out, as tables: what is done next, and what keeps its Node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.machine.builders import GPU_TAINT, SHAPES, launched, registered_node, stored
from kaito.api import labels
from kaito.api.conditions import find_condition
from kaito.controllers.machine import NODECLAIM_SHAPE, ClaimShape
from kaito.controllers.machine import decide as rules
from kaito.controllers.machine.decide import Decision, Limits, Observed, decide
from kaito.controllers.machine.decide import drain_steps as steps
from kaito.controllers.machine.decide.drain_steps import PodsOnNode, VolumesOfNode
from kaito.controllers.machine.drain import Pod
from kaito.provisioner import errors

NOW = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
DELETED = {"deletionTimestamp": "2026-11-21T12:00:20Z", "generation": 2}
NODE = "ws123456789"
DISRUPTED = {"key": labels.DISRUPTED_TAINT, "effect": "NoSchedule"}
WEB = Pod("default", "web", "u-web")
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
SICK = {"conditions": [{"type": "Ready", "status": "Unknown"}]}


def asked(observed: Observed, now: datetime = NOW) -> Decision:
    return decide(observed, now, Limits())


def ending(shape: ClaimShape = NODECLAIM_SHAPE, **changes: Any) -> dict[str, Any]:
    metadata = {**DELETED, **changes.pop("metadata", {})}
    return launched(shape, shape.registered, shape.initialized, metadata=metadata, **changes)


def closed(**changes: Any) -> dict[str, Any]:
    return registered_node(spec={"taints": [DISRUPTED]}, **changes)


def draining(*pods: Pod, volumes: VolumesOfNode | None = None, **changes: Any) -> Observed:
    """A Node that is closed, whose pods and perhaps volumes were looked at."""
    seen = {} if volumes is None else {NODE: volumes}
    known = {"pods": {NODE: PodsOnNode(pods)}, "volumes": seen, **changes}
    claim = known.pop("claim", None) or ending()
    return Observed(NODECLAIM_SHAPE, claim, known.pop("nodes", (closed(),)), **known)


def condition(decision: Decision, type: str) -> Mapping[str, Any]:
    assert decision.status is not None
    found = find_condition(decision.status["conditions"], type)
    assert found is not None
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestOrder:
    def test_the_node_is_closed_to_pods_first(self, shape: ClaimShape) -> None:
        step = asked(Observed(shape, ending(shape), (registered_node(),))).step
        assert isinstance(step, rules.PatchNode)
        assert step.patch["spec"]["taints"] == [GPU_TAINT, DISRUPTED]
        assert step.patch["metadata"]["labels"] == {labels.EXCLUDE_FROM_LB_LABEL: "karpenter"}

    def test_then_pods_then_volumes_then_the_instance_then_the_node_then_the_claim(
        self, shape: ClaimShape
    ) -> None:
        node = closed()
        observed = Observed(shape, ending(shape), (node,))
        assert asked(observed).step == steps.LookAtPods(NODE)
        observed = replace(observed, pods={NODE: PodsOnNode(())})
        assert asked(observed).step == steps.LookAtVolumes(NODE, ())
        observed = replace(observed, volumes={NODE: VolumesOfNode(())})
        assert asked(observed).step == rules.Terminate(f"instant://{NODE}")
        asked_to_end = replace(observed, instance="leaving", ended=True)
        leaving = asked(asked_to_end)
        assert leaving.requeue_after == rules.TERMINATION_POLL
        for type in ("Drained", "VolumesDetached", rules.TERMINATING):
            assert condition(leaving, type)["status"] == "True"
        gone = replace(asked_to_end, instance="absent")
        assert asked(gone).step == rules.ReleaseNode(node)
        assert asked(replace(gone, released=frozenset({NODE}))) == Decision()
        assert asked(replace(gone, nodes=())).step == rules.ReleaseClaim()

    def test_a_claim_that_was_never_launched_still_looks_for_an_instance(self, shape: ClaimShape) -> None:
        made = stored(shape, metadata=DELETED)
        assert asked(Observed(shape, made)).step == rules.Terminate(None)

    def test_a_node_that_never_was_the_claims_is_not_drained(self, shape: ClaimShape) -> None:
        made = launched(shape, metadata=DELETED)
        foreign = closed(metadata={"finalizers": []})
        assert isinstance(asked(Observed(shape, made, (foreign,))).step, rules.Terminate)

    def test_an_instance_that_is_ending_already_is_not_drained_again(self, shape: ClaimShape) -> None:
        leaving = asked(Observed(shape, ending(shape), (closed(),), instance="leaving", ended=True))
        told = {**ending(shape), "status": leaving.status}
        assert isinstance(asked(Observed(shape, told, (closed(),))).step, rules.Terminate)
        untold = Observed(shape, ending(shape), (closed(),), drained=True)
        assert isinstance(asked(untold).step, rules.Terminate), "also where no status could be written"

    def test_an_instance_that_cannot_be_ended_keeps_the_claim_and_says_why(self, shape: ClaimShape) -> None:
        error = errors.Unauthorized("may not delete agent pools")
        observed = Observed(shape, ending(shape), instance=error, ended=True)
        decision = asked(observed)
        assert condition(decision, rules.TERMINATING)["message"] == "may not delete agent pools"
        assert decision.requeue_after == 300
        assert decision.warning == rules.Warned("Unauthorized", "may not delete agent pools")
        told = {**ending(shape), "status": decision.status}
        assert asked(replace(observed, claim=told)).warning is None

    def test_a_cloud_may_say_when_to_ask_again(self, shape: ClaimShape) -> None:
        error = errors.InstancePending("the pool is being deleted", retry_after=33)
        decision = asked(Observed(shape, ending(shape), instance=error, ended=True))
        assert (decision.requeue_after, decision.warning) == (33, None)
        found = condition(decision, rules.TERMINATING)
        assert (found["status"], found["reason"]) == ("True", rules.TERMINATING)
        assert found["message"] == "the pool is being deleted"

    def test_nothing_is_done_once_our_finalizer_is_off(self, shape: ClaimShape) -> None:
        made = ending(shape)
        made["metadata"]["finalizers"] = ["somebody.else"]
        assert asked(Observed(shape, made, (registered_node(),))) == Decision()


class TestPods:
    def test_they_are_evicted_and_waited_for(self) -> None:
        assert asked(draining(WEB)).step == steps.Evict(NODE, (WEB,))
        leaving = asked(draining(replace(WEB, ends=NOW + timedelta(seconds=30))))
        assert leaving.step is None
        assert leaving.requeue_after == 90, "until it counts as stuck; events come before"
        assert leaving.warning is None
        told = condition(leaving, "Drained")
        assert (told["status"], told["reason"]) == ("Unknown", "Draining")
        assert told["message"] == f"pods are leaving Node {NODE}"

    def test_a_refusal_is_told_once_and_tried_again_when_its_time_has_come(self) -> None:
        refused = PodsOnNode((WEB,), refused={"u-web": "The disruption budget b needs 1 pod"}, retry=5.0)
        waiting = asked(draining(pods={NODE: refused}))
        assert waiting.requeue_after == 5
        assert waiting.warning is not None
        assert waiting.warning.reason == "FailedDraining"
        assert "pod default/web: The disruption budget b needs 1 pod" in waiting.warning.message
        assert "Delete these pods" in waiting.warning.message
        told = {**ending(), "status": waiting.status}
        assert asked(draining(pods={NODE: refused}, claim=told)).warning is None
        assert asked(draining(WEB, claim=told)).step == steps.Evict(NODE, (WEB,))

    def test_a_protected_pod_is_named_with_its_annotation_and_costs_no_polling(self) -> None:
        waiting = asked(draining(replace(WEB, protected=True)))
        assert (waiting.step, waiting.requeue_after) == (None, None)
        assert labels.DO_NOT_DISRUPT_ANNOTATION in str(waiting.warning)

    def test_a_message_names_a_few_pods_and_counts_the_others(self) -> None:
        many = [replace(WEB, uid=f"u{n}", name=f"web-{n}", protected=True) for n in range(9)]
        message = condition(asked(draining(*many)), "Drained")["message"]
        assert "web-2" in message
        assert "web-3" not in message
        assert "and 6 more" in message

    def test_pods_that_are_being_read_for_the_first_time_are_waited_for_in_silence(self) -> None:
        assert asked(draining(pods={NODE: PodsOnNode()})) == Decision(requeue_after=10)

    def test_pods_that_cannot_be_read_are_waited_for_and_that_is_told(self) -> None:
        waiting = asked(draining(pods={NODE: PodsOnNode(problem="pods is forbidden")}))
        assert waiting.requeue_after == 10
        assert waiting.warning is not None
        assert "cannot be read: pods is forbidden" in waiting.warning.message

    def test_several_nodes_of_a_claim_are_all_drained(self) -> None:
        other = closed(metadata={"name": "other", "uid": "u2", "resourceVersion": "3"})
        observed = draining(nodes=(closed(), other))
        assert asked(observed).step == steps.LookAtPods("other")
        both = {NODE: PodsOnNode(()), "other": PodsOnNode((WEB,))}
        assert asked(replace(observed, pods=both)).step == steps.Evict("other", (WEB,))


class TestLostMachines:
    def test_a_node_that_is_not_ready_is_asked_after_before_its_pods_are_waited_for(self) -> None:
        observed = draining(WEB, nodes=(closed(status=SICK),))
        assert asked(observed).step == rules.CheckInstance(f"instant://{NODE}")
        assert asked(replace(observed, instance="present")).step == steps.Evict(NODE, (WEB,))

    def test_without_its_machine_nothing_on_it_is_waited_for(self) -> None:
        observed = draining(WEB, nodes=(closed(status=SICK),), instance="absent")
        assert isinstance(asked(observed).step, rules.Terminate), "the cloud has the last word"

    def test_a_ready_node_is_drained_whatever_the_cloud_says(self) -> None:
        assert asked(draining(WEB, instance="absent")).step == steps.Evict(NODE, (WEB,))

    def test_an_empty_node_costs_no_question(self) -> None:
        observed = draining(nodes=(closed(status=SICK),), volumes=VolumesOfNode(()))
        assert isinstance(asked(observed).step, rules.Terminate)

    def test_while_it_is_waited_for_the_question_comes_back_after_a_minute(self) -> None:
        protected = replace(WEB, protected=True)
        observed = draining(protected, nodes=(closed(status=SICK),), instance="present")
        assert asked(observed).requeue_after == 60


class TestVolumes:
    def test_attached_ones_are_waited_for_by_event(self) -> None:
        waiting = asked(draining(volumes=VolumesOfNode(("pv-1",))))
        assert (waiting.step, waiting.requeue_after, waiting.warning) == (None, None, None)
        assert condition(waiting, "Drained")["status"] == "True"
        told = condition(waiting, "VolumesDetached")
        assert (told["reason"], "pv-1" in told["message"]) == ("AwaitingVolumeDetachment", True)

    def test_those_of_pods_that_stay_do_not_count(self) -> None:
        stays = replace(WEB, waited_for=False, claims=("data",))
        assert asked(draining(stays)).step == steps.LookAtVolumes(NODE, (stays,))

    def test_unreadable_attachments_are_named(self) -> None:
        unreadable = VolumesOfNode(problem="volumeattachments is forbidden")
        waiting = asked(draining(volumes=unreadable))
        assert "is forbidden" in condition(waiting, "VolumesDetached")["message"]
        assert asked(draining(volumes=VolumesOfNode())) == Decision(requeue_after=10)


class TestDeadline:
    def test_it_is_noted_on_the_claim_once(self) -> None:
        claim = ending(spec={"terminationGracePeriod": "1m30s"})
        noted = {labels.TERMINATION_TIMESTAMP_ANNOTATION: "2026-11-21T12:01:50Z"}
        assert asked(draining(WEB, claim=claim)).step == steps.NoteDeadline(noted)
        claim["metadata"]["annotations"] = {labels.TERMINATION_TIMESTAMP_ANNOTATION: "2026-11-21T13:00:00Z"}
        assert asked(draining(WEB, claim=claim)).step == steps.Evict(NODE, (WEB,))

    def test_without_a_grace_period_nothing_is_noted(self) -> None:
        assert asked(draining(WEB)).step == steps.Evict(NODE, (WEB,))

    def test_pods_are_deleted_in_time(self) -> None:
        soon = {labels.TERMINATION_TIMESTAMP_ANNOTATION: "2026-11-21T12:00:50Z"}
        claim = ending(metadata={"annotations": soon})
        assert asked(draining(WEB, claim=claim)).step == steps.DeletePods(NODE, ((WEB, 20),))

    def test_when_it_is_over_neither_volumes_nor_unreadable_pods_are_waited_for(self) -> None:
        over = {labels.TERMINATION_TIMESTAMP_ANNOTATION: "2026-11-21T12:00:25Z"}
        claim = ending(metadata={"annotations": over})
        attached = draining(claim=claim, volumes=VolumesOfNode(("pv-1",)))
        assert isinstance(asked(attached).step, rules.Terminate)
        unread = draining(claim=claim, pods={NODE: PodsOnNode(problem="forbidden")})
        assert isinstance(asked(unread).step, rules.Terminate)

    def test_words_that_are_no_time_are_passed_over(self) -> None:
        claim = ending(metadata={"annotations": {labels.TERMINATION_TIMESTAMP_ANNOTATION: "soon"}})
        assert asked(draining(WEB, claim=claim)).step == steps.Evict(NODE, (WEB,))
