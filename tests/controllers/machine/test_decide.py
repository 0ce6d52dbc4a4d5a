"""The machine controller's rules as tables: one claim, what is there, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controllers.machine.builders import (
    GPU_TAINT,
    NC6,
    SHAPES,
    claim,
    launched,
    node,
    registered_node,
    stored,
)
from kaito.api import labels
from kaito.api.conditions import find_condition
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE, ClaimShape
from kaito.controllers.machine import decide as rules
from kaito.controllers.machine.decide import Decision, Limits, Observed, decide
from kaito.controllers.machine.decide.steps import minutes
from kaito.controllers.machine.shapes import is_positive
from kaito.provisioner import errors
from kaito.provisioner.cloud import Instance
from kaito.runtime.objects import ObjectMeta

NOW = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
LIMITS = Limits(registration_timeout=900)
DELETED = {"deletionTimestamp": "2026-11-21T12:00:20Z", "generation": 2}


def asked(observed: Observed, now: datetime = NOW) -> Decision:
    return decide(observed, now, LIMITS)


def condition(decision: Decision, type: str) -> Mapping[str, Any]:
    assert decision.status is not None
    found = find_condition(decision.status["conditions"], type)
    assert found is not None
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestLaunch:
    def test_first_the_finalizer_and_the_labels_without_a_choice(self, shape: ClaimShape) -> None:
        new = stored(shape)
        new["metadata"] |= {"finalizers": [], "labels": {"apps": "phi-3"}}
        of_class = {labels.NODE_CLASS_LABEL: "default"} if shape is NODECLAIM_SHAPE else {}
        decision = asked(Observed(shape, new))
        assert decision == Decision(
            rules.PatchClaim(
                {
                    "metadata": {
                        "resourceVersion": "7",
                        "finalizers": [labels.TERMINATION_FINALIZER],
                        "labels": {labels.INSTANCE_TYPE_LABEL: NC6, labels.OS_LABEL: "linux", **of_class},
                    }
                }
            )
        )

    def test_then_the_provider_is_asked_with_types_in_order(self, shape: ClaimShape) -> None:
        made = stored(shape, types=(NC6, "Standard_NC24ads_A100_v4"))
        step = asked(Observed(shape, made)).step
        assert isinstance(step, rules.Launch)
        assert step.spec.instance_types == (NC6, "Standard_NC24ads_A100_v4")
        assert step.spec.uid == "claim-uid"
        assert step.spec.taints == (GPU_TAINT,)
        assert step.spec.labels["apps"] == "phi-3"
        assert step.spec.requests == {"storage": "50Gi"}

    def test_an_instance_makes_it_launched(self, shape: ClaimShape) -> None:
        instance = Instance("instant://x", NC6, capacity={labels.GPU_RESOURCE: "1"})
        decision = asked(Observed(shape, stored(shape), launch=instance))
        assert decision.step is None
        assert decision.status is not None
        assert decision.status["providerID"] == "instant://x"
        assert decision.status["capacity"] == {labels.GPU_RESOURCE: "1"}
        assert condition(decision, shape.launched)["status"] == "True"
        assert condition(decision, "Ready")["reason"] == "ReconcilingDependents"

    def test_of_several_types_the_one_taken_becomes_a_label_first(self, shape: ClaimShape) -> None:
        made = stored(shape, types=(NC6, "Standard_NC12s_v3"))
        del made["metadata"]["labels"][labels.INSTANCE_TYPE_LABEL]
        instance = Instance("instant://x", "Standard_NC12s_v3", labels={labels.ARCH_LABEL: "amd64"})
        step = asked(Observed(shape, made, launch=instance)).step
        assert isinstance(step, rules.PatchClaim)
        assert step.patch["metadata"]["labels"] == {
            labels.INSTANCE_TYPE_LABEL: "Standard_NC12s_v3",
            labels.ARCH_LABEL: "amd64",
        }

    @pytest.mark.parametrize(
        ("error", "status", "wait"),
        [
            (errors.InstancePending("being made", retry_after=3), "Unknown", 3),
            (errors.Throttled("too many requests", retry_after=17), "Unknown", 17),
            (errors.QuotaReached("no quota left"), "Unknown", 600),
            (errors.InsufficientCapacity("no machine left"), "Unknown", 120),
            (errors.CloudError("something else"), "Unknown", 30),
            (errors.InstanceTypeUnavailable("no such size"), "False", None),
            (errors.NameTaken("belongs to somebody else"), "False", None),
        ],
    )
    def test_an_error_says_why_and_when_to_try_again(
        self, shape: ClaimShape, error: errors.CloudError, status: str, wait: float | None
    ) -> None:
        decision = asked(Observed(shape, stored(shape), launch=error))
        found = condition(decision, shape.launched)
        assert (found["status"], found["reason"], found["message"]) == (status, error.why, error.message)
        assert decision.requeue_after == wait
        assert condition(decision, "Ready")["status"] == status
        quiet = isinstance(error, errors.InstancePending)
        assert decision.warning == (None if quiet else rules.Warned(error.why, error.message))

    def test_the_same_error_is_told_once(self, shape: ClaimShape) -> None:
        error = errors.QuotaReached("no quota left")
        first = asked(Observed(shape, stored(shape), launch=error))
        again = asked(
            Observed(shape, stored(shape, status=first.status), launch=error), NOW + timedelta(minutes=10)
        )
        assert again.warning is None
        assert again.status == first.status

    def test_a_failure_for_good_is_not_tried_again(self, shape: ClaimShape) -> None:
        error = errors.InstanceTypeUnavailable("no such size")
        failed = asked(Observed(shape, stored(shape), launch=error))
        assert asked(Observed(shape, stored(shape, status=failed.status))) == Decision()

    def test_a_claim_without_an_instance_type_says_what_to_write(self, shape: ClaimShape) -> None:
        made = stored(shape, spec={"requirements": []})
        decision = asked(Observed(shape, made))
        found = condition(decision, shape.launched)
        assert (found["status"], found["reason"]) == ("False", "InvalidClaim")
        assert "spec.requirements names no instance type" in found["message"]
        assert decision.requeue_after is None


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
class TestJoin:
    def test_without_a_node_it_waits_until_the_time_is_up(self, shape: ClaimShape) -> None:
        decision = asked(Observed(shape, launched(shape)))
        found = condition(decision, shape.registered)
        assert (found["status"], found["reason"]) == ("Unknown", "NodeNotFound")
        assert decision.requeue_after == 870  # launched at 12:00:00, it is 12:00:30, the limit is 900 s

    def test_an_instance_that_never_joins_is_given_up(self, shape: ClaimShape) -> None:
        decision = asked(Observed(shape, launched(shape), running=True), NOW + timedelta(seconds=870))
        assert decision.step == rules.DeleteClaim()
        assert decision.warning is not None
        assert decision.warning.reason == "RegistrationTimeout"
        assert "within 15 minutes" in decision.warning.message

    def test_a_node_becomes_the_claims_own_and_usable_with_one_patch(self, shape: ClaimShape) -> None:
        step = asked(Observed(shape, launched(shape), (node(),))).step
        assert isinstance(step, rules.PatchNode)
        assert step.name == "ws123456789"
        metadata, spec = step.patch["metadata"], step.patch["spec"]
        assert metadata["resourceVersion"] == "9"
        assert metadata["finalizers"] == [labels.TERMINATION_FINALIZER]
        assert metadata["ownerReferences"] == [
            {
                "apiVersion": shape.resource.api_version,
                "kind": shape.resource.kind,
                "name": "ws123456789",
                "uid": "claim-uid",
                "blockOwnerDeletion": True,
            }
        ]
        assert metadata["labels"]["apps"] == "phi-3"
        assert metadata["labels"][labels.WORKSPACE_LABEL] == "ws"
        assert metadata["labels"][labels.REGISTERED_LABEL] == "true"
        assert metadata["labels"][labels.INITIALIZED_LABEL] == "true"
        assert spec["taints"] == [GPU_TAINT]

    def test_startup_taints_are_put_on_once_and_hold_up_initialization(self, shape: ClaimShape) -> None:
        startup = {"key": "driver", "effect": "NoExecute"}
        made = launched(shape, spec={"startupTaints": [startup]})
        step = asked(Observed(shape, made, (node(),))).step
        assert isinstance(step, rules.PatchNode)
        assert step.patch["spec"]["taints"] == [GPU_TAINT, startup]
        assert labels.INITIALIZED_LABEL not in step.patch["metadata"]["labels"]
        made = launched(shape, shape.registered, spec={"startupTaints": [startup]})
        with_taint = registered_node(spec={"taints": [startup]})
        assert (
            condition(asked(Observed(shape, made, (with_taint,))), shape.initialized)["reason"]
            == "StartupTaintsExist"
        )
        gone = asked(Observed(shape, made, (registered_node(),))).step
        assert isinstance(gone, rules.PatchNode)
        assert "spec" not in gone.patch

    def test_a_node_that_asks_not_to_sync_keeps_its_taints(self, shape: ClaimShape) -> None:
        own = node(
            metadata={"labels": {labels.DO_NOT_SYNC_TAINTS_LABEL: "true"}},
            spec={"taints": [{"key": labels.UNREGISTERED_TAINT, "effect": "NoExecute"}]},
        )
        step = asked(Observed(shape, launched(shape), (own,))).step
        assert isinstance(step, rules.PatchNode)
        assert step.patch["spec"]["taints"] == []

    def test_two_nodes_of_one_instance_are_an_error(self, shape: ClaimShape) -> None:
        decision = asked(Observed(shape, launched(shape), (node(), node(metadata={"name": "b"}))))
        found = condition(decision, shape.registered)
        assert (found["status"], found["reason"]) == ("False", "MultipleNodesFound")
        assert found["message"].endswith("b, ws123456789")

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"status": {"conditions": []}}, "NodeNotReady"),
            ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, "NodeNotReady"),
            (
                {"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}},
                "KnownEphemeralTaintsExist",
            ),
            ({"status": {"allocatable": {"cpu": "6"}}}, "ResourceNotRegistered"),
            ({"status": {"allocatable": {labels.GPU_RESOURCE: "0"}}}, "ResourceNotRegistered"),
        ],
    )
    def test_a_registered_node_says_what_it_lacks(
        self, shape: ClaimShape, changes: dict[str, Any], reason: str
    ) -> None:
        decision = asked(Observed(shape, launched(shape, shape.registered), (registered_node(**changes),)))
        found = condition(decision, shape.initialized)
        assert (found["status"], found["reason"]) == ("Unknown", reason)
        assert decision.step is None
        assert decision.requeue_after == 870  # registered at 12:00:00, it is 12:00:30, the limit is 900 s

    def test_requested_resources_must_be_there_but_storage_need_not(self, shape: ClaimShape) -> None:
        made = launched(
            shape, shape.registered, spec={"resources": {"requests": {"storage": "1Gi", "fpga.io/x": "1"}}}
        )
        decision = asked(Observed(shape, made, (registered_node(),)))
        assert condition(decision, shape.initialized)["message"] == (
            'Resource "fpga.io/x" was requested but not registered'
        )

    def test_gpus_that_are_not_there_yet_are_told_with_the_node_and_what_to_look_at(
        self, shape: ClaimShape
    ) -> None:
        made = launched(shape, shape.registered, spec={"resources": {"requests": {labels.GPU_RESOURCE: "1"}}})
        node = registered_node(status={"allocatable": {labels.GPU_RESOURCE: "0"}})
        message = condition(asked(Observed(shape, made, (node,))), shape.initialized)["message"]
        assert f"by the node {node['metadata']['name']}" in message
        assert "device plugin" in message

    def test_a_usable_node_makes_it_ready(self, shape: ClaimShape) -> None:
        made = launched(shape, shape.registered)
        own = registered_node(labels.INITIALIZED_LABEL)
        decision = asked(Observed(shape, made, (own,)))
        assert decision.status is not None
        assert decision.status["nodeName"] == "ws123456789"
        assert decision.status["allocatable"] == own["status"]["allocatable"]
        assert condition(decision, shape.initialized)["status"] == "True"
        assert condition(decision, "Ready")["status"] == "True"

    def test_a_settled_claim_stays_as_it_is(self, shape: ClaimShape) -> None:
        made = launched(shape, shape.registered, shape.initialized)
        own = registered_node(labels.INITIALIZED_LABEL)
        decision = asked(Observed(shape, made, (own,)), NOW + timedelta(hours=9))
        assert decision == Decision(status=made["status"])

    def test_initialized_stays_so_when_the_node_falters(self, shape: ClaimShape) -> None:
        made = launched(shape, shape.registered, shape.initialized)
        faltering = registered_node(labels.INITIALIZED_LABEL, status={"conditions": []})
        assert asked(Observed(shape, made, (faltering,))) == Decision(status=made["status"])

    def test_a_deleted_node_takes_its_claim_along(self, shape: ClaimShape) -> None:
        made = launched(shape, shape.registered, shape.initialized)
        leaving = registered_node(metadata={"deletionTimestamp": "2026-11-21T12:00:20Z"})
        decision = asked(Observed(shape, made, (leaving,), running=True))
        assert decision.step == rules.DeleteClaim()
        assert decision.warning is not None
        assert decision.warning.reason == "NodeDeleted"

    def test_a_missing_node_is_asked_about_and_its_claim_given_up_without_instance(
        self, shape: ClaimShape
    ) -> None:
        observed = Observed(shape, launched(shape, shape.registered, shape.initialized))
        assert asked(observed).step == rules.CheckInstance("instant://ws123456789")
        assert asked(replace(observed, instance="absent")).step == rules.CheckRunning()
        assert asked(replace(observed, instance="absent", running=True)).step == rules.DeleteClaim()
        assert asked(replace(observed, instance=errors.Throttled("wait", retry_after=40))) == Decision(
            requeue_after=40
        )

    def test_a_node_that_does_not_come_back_is_given_up_though_its_instance_is_there(
        self, shape: ClaimShape
    ) -> None:
        there = Observed(shape, launched(shape, shape.registered, shape.initialized), instance="present")
        assert asked(there).step == rules.CheckRunning()
        wait = Decision(requeue_after=rules.MISSING_NODE_POLL)
        assert asked(replace(there, running=True)) == wait
        assert asked(replace(there, running=errors.ClusterNotRunning("stopped"))) == wait
        assert asked(replace(there, running=True, missing=890.0)) == Decision(requeue_after=10)
        late = replace(there, missing=900.0)
        assert asked(replace(late, running=errors.ClusterNotRunning("stopped"))).step is None
        decision = asked(replace(late, running=True))
        assert decision.step == rules.DeleteClaim()
        assert decision.warning is not None
        assert decision.warning.reason == "RegistrationTimeout"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.resource.kind)
def test_a_provider_that_asked_for_time_gets_it(shape: ClaimShape) -> None:
    wait = Decision(requeue_after=40)
    assert asked(Observed(shape, stored(shape), hold=40)) == wait
    assert asked(Observed(shape, stored(shape, metadata=DELETED), hold=40)) == wait
    ready = launched(shape, shape.registered, shape.initialized)
    assert asked(Observed(shape, ready, hold=40)) == wait
    own = registered_node(labels.INITIALIZED_LABEL)
    assert asked(Observed(shape, ready, (own,), hold=40)) == Decision(status=ready["status"])


def test_ours_is_told_by_node_class_or_by_label_and_never_where_the_class_is_somebody_elses() -> None:
    labelled = ObjectMeta(name="a", labels={labels.WORKSPACE_LABEL: "ws"})
    of_rag = ObjectMeta(name="a", labels={labels.RAGENGINE_LABEL: "rag"})
    plain = ObjectMeta(name="a")
    ours, foreign, old = (
        claim(),
        claim(spec={"nodeClassRef": {"group": "karpenter.azure.com", "kind": "AKSNodeClass"}}),
        claim(spec={"nodeClassRef": {"group": "", "kind": "AKSNodeClass", "name": "default"}}),
    )
    assert NODECLAIM_SHAPE.is_ours(plain, ours)
    assert not NODECLAIM_SHAPE.is_ours(labelled, foreign)
    assert not NODECLAIM_SHAPE.is_ours(plain, foreign)
    assert NODECLAIM_SHAPE.is_ours(labelled, old)
    assert NODECLAIM_SHAPE.is_ours(of_rag, old)
    assert not NODECLAIM_SHAPE.is_ours(plain, old)
    assert not MACHINE_SHAPE.is_ours(plain, claim(MACHINE_SHAPE))
    assert MACHINE_SHAPE.is_ours(labelled, claim(MACHINE_SHAPE))


@pytest.mark.parametrize(
    ("quantity", "positive"),
    [("1", True), (4, True), ("0", False), (0, False), ("0Gi", False), ("100m", True), ("0.0", False), ("-1", False),
     ("0e3", False), ("1e3", True)],
)  # fmt: skip
def test_positive_quantities(quantity: str | int, positive: bool) -> None:
    assert is_positive(quantity) is positive


@pytest.mark.parametrize(
    ("seconds", "words"), [(60, "1 minute"), (900, "15 minutes"), (90, "1.5 minutes"), (25, "25 seconds")]
)
def test_limits_are_said_in_whole_figures(seconds: float, words: str) -> None:
    assert minutes(seconds) == words
