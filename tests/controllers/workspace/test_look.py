"""Weights in an image or a volume: a pod looks at them before a node is asked for, and what it says is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.workspace.builders import (
    CATALOG,
    CONFIG,
    Object,
    as_read,
    condition,
    decided,
    later,
    provisioned,
    served,
    step,
    workspace,
)
from kaito.api.labels import WEIGHTS_CHECK_LABEL, WORKSPACE_LABEL
from kaito.controllers.workspace import Decision, NodeProvisioner, Observed
from kaito.controllers.workspace.admission import judge
from kaito.controllers.workspace.decide import look
from kaito.controllers.workspace.decide.look import NOT_CHECKED, not_made
from kaito.controllers.workspace.decide.own_weights import may_be_smaller
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.weights_source import Pulled, weights_key
from kaito.controllers.workspace.slim import slim_look
from kaito.runtime.clock import rfc3339
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import DEPLOYMENTS, PODS
from kaito_presets.weights import pod

IMAGE = "r.example/mine:1"
DIGEST = "sha256:" + "a" * 64
CLAIM = {"persistentVolumeClaim": {"claimName": "models"}}
FITS = json.dumps({"bytes": 7_642_000_000, "files": 2, "quantization": None, "digest": DIGEST})


def owned(annotations: dict[str, str] | None = None, **weights: Any) -> Observed:
    name = "phi-3-mini-4k-instruct"
    inference = {"preset": {"name": name, "weights": weights or {"image": IMAGE}}}
    return as_read(workspace(name, inference=inference, annotations=annotations))


def ended(observed: Observed, code: int, said: str) -> Observed:
    """The world after the newest look ended."""
    terminated = {"exitCode": code, "message": said, "reason": "Completed" if code == 0 else "Error"}
    status = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{"name": "weights", "state": {"terminated": terminated}}],
    }
    return with_status_of_look(observed, status)


def with_status_of_look(observed: Observed, status: Object) -> Observed:
    *others, look = observed.looks
    slim = slim_look(CachedObject.from_dict({**look, "status": status}, PODS)).decode()
    return replace(observed, looks=(*others, slim))


def unschedulable(message: str) -> Object:
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [waits]}


def asks(decision: Decision) -> bool:
    """Whether a node is asked for."""
    return any(write.resource.kind == "Machine" for write in decision.writes)


def look_in(decision: Decision) -> Object:
    found = [write.body for write in decision.writes if write.resource == PODS]
    assert len(found) == 1
    return found[0]


def part(observed: Observed) -> Object:
    found: Object = observed.workspace["status"]["resolved"]["weights"]
    return found


def test_no_node_is_asked_for_while_a_pod_looks() -> None:
    observed, decision = step(owned())
    assert not asks(decision)
    ready = condition(decision.status, "ResourceReady")
    assert (ready["status"], ready["reason"]) == ("False", "WeightsLookup")
    name = look_in(decision)["metadata"]["name"]
    assert f"inference.preset.weights.image: pod {name} looks at {IMAGE}" in ready["message"]
    observed, decision = step(observed, now=later(20))
    assert decision.writes == ()
    assert not asks(decision)
    assert decision.requeue_after == 280.0


def test_the_pod_has_no_rights_no_gpu_and_no_label_of_those_that_serve() -> None:
    made = look_in(decided(owned(image=IMAGE, imagePullSecrets=["pull"])))
    assert made["metadata"]["labels"].keys() == {WEIGHTS_CHECK_LABEL}
    assert WORKSPACE_LABEL not in json.dumps(made["metadata"]["labels"])
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Workspace"
    spec = made["spec"]
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 300)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert "tolerations" not in spec
    (container,) = spec["containers"]
    assert container["command"] == ["kaito-weights"]
    assert container["args"][:2] == ["--look", f"--image={IMAGE}"]
    assert json.loads(container["args"][2].removeprefix("--expect="))["preset"] == "phi-3-mini-4k-instruct"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "limits" not in container["resources"]
    assert [each["name"] for each in spec["volumes"]] == ["tmp", "docker-config-pull"]
    assert {each["mountPath"] for each in container["volumeMounts"]} == {
        "/tmp",
        "/root/.docker/config.d/pull",
    }


def test_a_volume_is_mounted_to_be_read() -> None:
    spec = look_in(decided(owned(volumeSource=CLAIM)))["spec"]
    assert {**CLAIM, "name": "weights"} in spec["volumes"]
    assert spec["containers"][0]["args"][:2] == ["--look", "--check=/workspace/weights"]
    mount = {"name": "weights", "mountPath": "/workspace/weights", "readOnly": True}
    assert mount in spec["containers"][0]["volumeMounts"]


def test_weights_that_fit_are_kept_and_pulled_by_their_digest() -> None:
    observed, _ = step(owned())
    observed, decision = step(ended(observed, 0, FITS))
    assert (decision.writes, decision.deletions, decision.requeue_after) == ((), (), 0.0)
    kept = part(observed)
    assert {key: kept[key] for key in ("bytes", "digest")} == {"bytes": 7_642_000_000, "digest": DIGEST}
    assert "quantization" not in kept
    observed, decision = step(observed)
    assert asks(decision)
    assert [each.resource for each in decision.deletions] == [PODS]
    assert observed.looks == ()
    observed, _ = step(provisioned(observed))
    assert observed.deployment is not None
    pulled = observed.deployment["spec"]["template"]["spec"]["initContainers"][0]
    assert f"--image={IMAGE}@{DIGEST}" in pulled["args"]
    observed, _ = step(served(observed))
    assert part(observed) == kept
    observed, _ = step(observed)
    idle = decided(observed)
    assert (idle.writes, idle.deletions, idle.requeue_after) == ((), (), None)
    assert idle.status == observed.workspace["status"]


@pytest.mark.parametrize(
    ("code", "reason"), [(5, "WeightsDoNotFit"), (8, "ModelNotFound"), (9, "ModelAccessDenied")]
)
def test_what_a_pod_would_be_told_as_well_costs_no_node_and_is_asked_again_ever_less(
    code: int, reason: str
) -> None:
    observed, _ = step(owned())
    seconds, waits = 0.0, []
    for _ in range(6):
        observed, _ = step(ended(observed, code, "num_hidden_layers is 40, not 32."), now=later(seconds))
        observed, decision = step(observed, now=later(seconds))
        ready = condition(decision.status, "ResourceReady")
        assert ready["reason"] == reason
        assert "inference.preset.weights.image: num_hidden_layers is 40, not 32" in ready["message"]
        assert not asks(decision)
        assert observed.looks == (), "what ended is not left lying about"
        assert decision.requeue_after is not None
        waits.append(decision.requeue_after)
        seconds += decision.requeue_after
        observed, decision = step(observed, now=later(seconds))
        assert look_in(decision)
        assert condition(decision.status, "ResourceReady")["reason"] == reason, "it is not told to be unknown"
    assert waits == [60, 120, 240, 480, 660, 660]
    observed, _ = step(ended(observed, 0, FITS), now=later(seconds))
    assert asks(decided(observed, now=later(seconds)))


@pytest.mark.parametrize(
    ("code", "said", "why"),
    [
        (
            6,
            "The registry r.example can't be reached: refused.",
            "The registry r.example can't be reached: refused",
        ),
        (7, "The layers are zipped.", "The layers are zipped"),
        (2, "Unrecognized arguments: --look.", "Unrecognized arguments: --look"),
        (0, "not figures", "not figures"),
        (0, '{"bytes": "many"}', '{"bytes": "many"}'),
        (137, "", "Error"),
    ],
)
def test_where_nobody_could_look_the_workspace_goes_on_and_the_user_is_told(
    code: int, said: str, why: str
) -> None:
    observed, _ = step(owned())
    observed, decision = step(ended(observed, code, said))
    (event,) = decision.events
    assert (event.type, event.reason) == ("Warning", NOT_CHECKED)
    assert f"were not looked at before nodes were asked for ({why})" in event.message
    observed, decision = step(observed)
    assert asks(decision)
    assert f"({why}); each pod checks them" in condition(decision.status, "ResourceReady")["message"]
    observed, _ = step(provisioned(observed))
    assert observed.deployment is not None
    pulled = observed.deployment["spec"]["template"]["spec"]["initContainers"][0]
    assert f"--image={IMAGE}" in pulled["args"]
    observed, _ = step(served(observed))
    observed, decision = step(observed)
    assert "not looked at" not in condition(decision.status, "ResourceReady")["message"], "they were checked"


def test_a_pod_that_finds_no_node_is_not_waited_for_long() -> None:
    observed, _ = step(owned())
    observed = with_status_of_look(observed, unschedulable("0/0 nodes are available"))
    assert decided(observed, now=later(10)).requeue_after == 50.0
    observed, _ = step(observed, now=later(61))
    assert "found no node: 0/0 nodes are available" in part(observed)["unchecked"]
    assert asks(decided(observed, now=later(61)))


def test_a_pod_that_does_not_end_is_not_waited_for_for_ever() -> None:
    observed, _ = step(owned())
    observed = with_status_of_look(observed, {"phase": "Pending"})
    assert not asks(decided(observed, now=later(299)))
    observed, _ = step(observed, now=later(300))
    assert "did not come to an end in 300 s" in part(observed)["unchecked"]


def test_a_claim_that_is_not_there_costs_no_node_however_long_it_takes() -> None:
    observed, _ = step(owned(volumeSource=CLAIM))
    message = '0/3 nodes are available: persistentvolumeclaim "models" not found.'
    observed = with_status_of_look(observed, unschedulable(message))
    for seconds in (1, 100, 10_000):
        found = decided(observed, now=later(seconds))
        assert not asks(found)
        ready = condition(found.status, "ResourceReady")
        assert ready["reason"] == "ModelNotFound"
        assert 'weights.volumeSource: persistentvolumeclaim "models" not found: create it' in ready["message"]


def test_the_time_for_a_look_begins_when_its_pod_has_a_node() -> None:
    """It may have waited for its claim much longer than a look takes."""
    observed, _ = step(owned(volumeSource=CLAIM))
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(later(1000))}
    observed = with_status_of_look(observed, {"phase": "Pending", "conditions": [placed]})
    observed, decision = step(observed, now=later(1010))
    assert not asks(decision)
    assert (decision.requeue_after, len(observed.looks)) == (290.0, 1)
    observed, _ = step(observed, now=later(1300))
    assert "did not come to an end in 300 s" in part(observed)["unchecked"]


@pytest.mark.parametrize(
    "weights",
    [
        {"path": "/models/mine"},
        {"volumeSource": {"hostPath": {"path": "/models"}}},
        {"volumeSource": {"emptyDir": {}}},
    ],
)
def test_what_only_a_node_has_is_not_looked_for_on_another(weights: Object) -> None:
    assert asks(decided(owned(**weights)))


def test_a_user_may_do_without() -> None:
    assert asks(decided(owned({"kaito.sh/bypass-resource-checks": "true"}, image=IMAGE)))


def test_nobody_looks_where_no_node_is_bought() -> None:
    found = decided(owned(), config=replace(CONFIG, node_provisioner=NodeProvisioner.BYO))
    assert not any(write.resource == PODS for write in found.writes)


def test_what_runs_is_left_alone() -> None:
    observed, _ = step(owned({"kaito.sh/bypass-resource-checks": "true"}, image=IMAGE))
    observed, _ = step(provisioned(observed))
    observed, _ = step(served(observed))
    metadata = {key: each for key, each in observed.workspace["metadata"].items() if key != "annotations"}
    before = observed.deployment
    observed, decision = step(replace(observed, workspace={**observed.workspace, "metadata": metadata}))
    assert not any(write.resource in (PODS, DEPLOYMENTS) for write in decision.writes)
    assert observed.deployment == before


def test_a_look_that_the_server_refuses_is_written_down_and_not_tried_again() -> None:
    observed, decision = step(owned())
    assert decision.status is not None
    body = look_in(decision)
    status, events = not_made(decision.status, body, 'pods "x" is forbidden: exceeded quota: compute')
    assert [each.reason for each in events] == [NOT_CHECKED]
    assert "exceeded quota: compute" in events[0].message
    observed = replace(observed, looks=(), workspace={**observed.workspace, "status": status})
    found = decided(observed)
    assert asks(found)
    assert not any(write.resource == PODS for write in found.writes)


def test_looks_for_other_weights_go() -> None:
    observed, _ = step(owned(image="r.example/other:1"))
    other = observed.looks
    observed, decision = step(replace(owned(), looks=other))
    assert [each.name for each in decision.deletions] == [other[0]["metadata"]["name"]]
    assert [each["metadata"]["name"] for each in observed.looks] != [other[0]["metadata"]["name"]]


def test_what_was_found_of_other_weights_says_nothing_of_these() -> None:
    observed, _ = step(owned(image="r.example/other:1"))
    observed, _ = step(ended(observed, 0, FITS))
    now = replace(owned(), workspace={**owned().workspace, "status": observed.workspace["status"]})
    decision = decided(now)
    assert look_in(decision)["spec"]["containers"][0]["args"][1] == f"--image={IMAGE}"
    assert not asks(decision)


def test_a_model_that_has_lost_its_nodes_for_a_while_is_not_looked_at() -> None:
    observed, _ = step(owned({"kaito.sh/bypass-resource-checks": "true"}, image=IMAGE))
    observed, _ = step(provisioned(observed))
    assert observed.deployment is not None
    metadata = {key: each for key, each in observed.workspace["metadata"].items() if key != "annotations"}
    lost = replace(observed, claims=(), nodes={}, workspace={**observed.workspace, "metadata": metadata})
    assert not any(write.resource == PODS for write in decided(lost, now=later(60)).writes)


def test_a_claim_on_its_way_out_is_no_node_that_was_asked_for() -> None:
    observed, _ = step(owned({"kaito.sh/bypass-resource-checks": "true"}, image=IMAGE))
    (claim,) = observed.claims
    going = {**claim, "metadata": {**claim["metadata"], "deletionTimestamp": rfc3339(later(30))}}
    metadata = {key: each for key, each in observed.workspace["metadata"].items() if key != "annotations"}
    lost = replace(observed, claims=(going,), workspace={**observed.workspace, "metadata": metadata})
    assert look_in(decided(lost, now=later(60)))


@pytest.mark.parametrize("digest", ["sha256:abc", f"{DIGEST}0", "latest", 7, None])
def test_what_is_no_digest_pins_nothing(digest: object) -> None:
    observed, _ = step(owned())
    said = json.dumps({"bytes": 7_642_000_000, "files": 2, "quantization": None, "digest": digest})
    observed, _ = step(ended(observed, 0, said))
    assert "digest" not in part(observed)


def test_an_image_that_is_named_by_its_digest_keeps_its_name() -> None:
    named = f"r.example/mine@{DIGEST}"
    observed, _ = step(owned(image=named))
    observed, _ = step(ended(observed, 0, FITS))
    assert look.with_digest(named, observed.workspace) == named
    assert look.with_digest(IMAGE, observed.workspace) == IMAGE


def test_weights_smaller_than_the_presets_get_a_size_of_their_own() -> None:
    """Nothing is chosen, and so nothing is kept, before they were looked at."""
    inference = {"preset": {"name": "phi-4", "weights": {"image": IMAGE}}}
    observed, _ = step(as_read(workspace("phi-4", instance_type=None, inference=inference)))
    assert "resolved" not in observed.workspace["status"]
    small = json.dumps({"bytes": 8 * 2**30, "files": 2, "quantization": "gptq"})
    observed, _ = step(ended(observed, 0, small))
    observed, _ = step(observed)
    assert observed.workspace["status"]["resolved"]["serving"]["instanceType"] == "Standard_NC4as_T4_v3"
    assert len(observed.claims) == 1


@pytest.mark.parametrize(
    ("reasons", "first"),
    [
        (["InsufficientGpuMemory"], True),
        (["InsufficientGpuMemory", "InvalidSpec"], False),
        (["InvalidSpec"], False),
        ([], False),
    ],
)
def test_only_where_nothing_but_memory_is_in_the_way_weights_are_looked_at_first(
    reasons: list[str], first: bool
) -> None:
    problems = [Problem(reason, "text") for reason in reasons]
    assert may_be_smaller(owned().workspace, problems) is first


CODES = st.sampled_from([0, 5, 6, 7, 8, 9, 137])
LOSSES = st.tuples(st.sampled_from(["lost", "late", "new"]), st.just(0))
HAPPENINGS = st.one_of(st.tuples(st.just("ends"), CODES), LOSSES)


@settings(deadline=None)
@given(st.lists(HAPPENINGS, max_size=12))
def test_whatever_becomes_of_looks_one_is_made_at_a_time_and_it_settles(
    happenings: list[tuple[str, int]],
) -> None:
    observed, seconds = owned(), 0.0
    for what, code in happenings:
        observed, decision = step(observed, now=later(seconds))
        assert sum(write.resource == PODS for write in decision.writes) <= 1
        assert len(observed.looks) <= 1
        if not observed.looks:
            seconds += decision.requeue_after or 0.0
        elif what == "ends":
            observed = ended(observed, code, FITS if code == 0 else "no")
        elif what == "lost":
            observed = replace(observed, looks=())
        elif what == "late":
            seconds += 301
    for _ in range(30):
        if observed.looks:
            observed = ended(observed, 0, FITS)
        observed, decision = step(provisioned(observed), now=later(seconds))
        if observed.deployment is not None:
            observed = served(observed)
        seconds += decision.requeue_after or 0.0
    idle = decided(observed, now=later(seconds))
    assert (idle.writes, idle.deletions, idle.requeue_after, observed.looks) == ((), (), None, ())
    assert idle.status == observed.workspace["status"]
    assert condition(idle.status, "WorkspaceReady")["status"] == "True"


def test_a_look_keeps_how_it_ended_and_little_else() -> None:
    whole = {
        **look_in(decided(owned())),
        "status": {
            "phase": "Failed",
            "hostIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [
                {"name": "weights", "state": {"terminated": {"exitCode": 5, "message": "no"}}}
            ],
        },
    }
    whole["metadata"] |= {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-11-21T13:00:00Z"}
    slim = slim_look(CachedObject.from_dict(whole, PODS))
    assert slim.decode()["status"] == {
        "phase": "Failed",
        "containerStatuses": [{"state": {"terminated": {"exitCode": 5, "message": "no"}}}],
    }
    assert "spec" not in slim.decode()


# --- weights that may be smaller than the preset's


A10 = "Standard_NV36ads_A10_v5"
"""24 GB; the weights of phi-4 have 27 GiB, and Transformers does not cut it over nodes."""


def too_large() -> Observed:
    inference = {"preset": {"name": "phi-4", "weights": {"image": IMAGE}}}
    annotations = {"kaito.sh/runtime": "transformers"}
    return as_read(workspace("phi-4", instance_type=A10, inference=inference, annotations=annotations))


def test_where_the_presets_weights_do_not_fit_the_users_own_are_looked_at_first() -> None:
    observed, decision = step(too_large())
    assert look_in(decision)
    told = condition(decision.status, "InsufficientGpuMemory")["message"]
    assert f"looks at {IMAGE}" in told
    small = json.dumps({"bytes": 9_100_000_000, "files": 2, "quantization": None})
    observed, _ = step(ended(observed, 0, small))
    observed, decision = step(observed)
    assert asks(decision)
    assert observed.looks == ()


def test_weights_that_are_as_large_as_the_presets_are_refused_once_that_is_known() -> None:
    observed, _ = step(too_large())
    large = json.dumps({"bytes": 29_300_000_000, "files": 6, "quantization": None})
    observed, _ = step(ended(observed, 0, large))
    for _ in range(2):
        observed, decision = step(observed)
        assert not asks(decision)
        assert decision.status is not None
        assert decision.status["reason"] == "InsufficientGpuMemory"
        assert observed.looks == ()


def test_weights_nobody_has_looked_at_are_no_reason_to_refuse_the_workspace() -> None:
    unknown = too_large().workspace
    found = judge(unknown, CATALOG, CONFIG, {})
    assert (found.refusals, len(found.warnings)) == ((), 1)
    part = {"for": weights_key(Pulled(IMAGE)), "bytes": 29_300_000_000}
    known = {**unknown, "status": {"resolved": {"weights": part}}}
    assert len(judge(known, CATALOG, CONFIG, {}).refusals) == 1


def test_exit_codes_are_those_of_the_program() -> None:
    assert (look.EXIT_UNFIT, look.EXIT_ABSENT, look.EXIT_DENIED) == (
        pod.EXIT_UNFIT,
        pod.EXIT_NOT_THERE,
        pod.EXIT_REFUSED,
    )
