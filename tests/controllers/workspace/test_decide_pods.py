"""Reasons that come from pods, the gravest first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controllers.workspace.builders import Object, condition, decided, provisioned, served, step, workspace
from kaito.controllers.workspace import Observed
from kaito.controllers.workspace.decide.pods import pod_problem, weights_progress
from kaito.controllers.workspace.slim import slim_pod
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import PODS


def pod(*containers: Object, init: tuple[Object, ...] = (), **status: Any) -> Object:
    return {
        "metadata": {"name": "phi-abc", "namespace": "default"},
        "status": {"containerStatuses": list(containers), "initContainerStatuses": list(init), **status},
    }


def waiting(reason: str, message: str = "", **more: Any) -> Object:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "phi", "image": "registry/kaito-phi:1", "ready": False, "state": state, **more}


CRASH = waiting(
    "CrashLoopBackOff", lastState={"terminated": {"exitCode": 3, "message": "weights are missing"}}
)
MEMORY = waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
IMAGE = waiting("ErrImagePull", "no such image")
CONFIG = waiting("CreateContainerConfigError", "configmap my-config not found")
UNSCHEDULABLE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes: no GPU left",
        }
    ]
}


@pytest.mark.parametrize(
    ("pods", "reason", "says"),
    [
        ([pod(IMAGE)], "ImagePullError", "image registry/kaito-phi:1: no such image"),
        ([pod(init=(waiting("ImagePullBackOff", "denied"),))], "ImagePullError", "denied"),
        ([pod(CONFIG)], "ContainerStartError", "CreateContainerConfigError: configmap my-config not found"),
        ([pod(CRASH)], "ContainerCrashLoopBackOff", "ended with exit code 3: weights are missing"),
        ([pod(MEMORY)], "ContainerOOMKilled", "more memory than allowed"),
        ([pod(CRASH), pod(MEMORY)], "ContainerOOMKilled", ""),
        ([pod(CRASH), pod(IMAGE)], "ImagePullError", ""),
        ([pod(**UNSCHEDULABLE)], "Unschedulable", "finds no node: 0/1 nodes: no GPU left"),
        (
            [pod(reason="Evicted", message="The node was low on resource: ephemeral-storage")],
            "NodeDiskPressure",
            "",
        ),
        ([pod(reason="Evicted", message="The node was low on resource: memory")], "NodeMemoryPressure", ""),
        ([pod(reason="Evicted", message="preempted")], "PodEvicted", "preempted"),
    ],
)
def test_reasons(pods: list[Object], reason: str, says: str) -> None:
    problem = pod_problem(pods)
    assert problem is not None
    assert problem.reason == reason
    assert says in problem.message


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [pod(waiting("ContainerCreating"))],
        [pod({**IMAGE, "ready": True})],
        [{**pod(IMAGE), "metadata": {"name": "old", "deletionTimestamp": "2026-11-21T13:00:00Z"}}],
    ],
    ids=["none", "starting", "ready", "on its way out"],
)
def test_no_reason(pods: list[Object]) -> None:
    assert pod_problem(pods) is None


def test_an_image_is_named_once() -> None:
    said = 'Back-off pulling image "registry/kaito-phi:1": no registry here'
    problem = pod_problem([pod(waiting("ImagePullBackOff", said))])
    assert problem is not None
    assert problem.message.endswith(f", container phi: {said}")


def test_texts_from_elsewhere_are_cut() -> None:
    problem = pod_problem([pod(waiting("ErrImagePull", "x" * 1000))])
    assert problem is not None
    assert len(problem.message) == 259


def test_a_pods_reason_becomes_the_workspaces_and_a_warning_once() -> None:
    observed, _ = step(Observed(workspace()))
    observed, _ = step(provisioned(observed))
    observed = replace(observed, pods=(pod(IMAGE),))
    observed, decision = step(observed)
    assert condition(decision.status, "InferenceReady")["reason"] == "ImagePullError"
    assert (decision.status or {})["reason"] == "ImagePullError"
    assert [event.reason for event in decision.events] == ["ImagePullError"]
    assert decided(observed).events == ()
    decision = decided(served(observed))
    assert condition(decision.status, "InferenceReady")["status"] == "True"


def fetched(part: int, message: str) -> Object:
    state = {"terminated": {"exitCode": 0, "message": f"{message}\n"}}
    return {"name": f"weights-{part}-of-4", "ready": True, "state": state}


FETCHES = {"name": "weights-3-of-4", "ready": False, "state": {"running": {}}}
LATER = {"name": "weights-4-of-4", "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
STARTS = {"name": "phi", "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}


def test_how_far_the_weights_are_is_what_the_last_container_said() -> None:
    far = pod(STARTS, init=(fetched(1, "1 GB of 4 GB"), fetched(2, "2 GB of 4 GB (90 MB/s)"), FETCHES, LATER))
    assert weights_progress([far]) == "pod phi-abc fetches its weights, part 3 of 4: 2 GB of 4 GB (90 MB/s)"
    begun = pod(STARTS, init=({**FETCHES, "name": "weights-1-of-4"}, LATER))
    assert weights_progress([far, begun]) == "pod phi-abc fetches its weights, part 1 of 4"
    whole = pod(STARTS, init=({**FETCHES, "name": "weights"},))
    assert weights_progress([whole]) == "pod phi-abc fetches its weights"
    assert weights_progress([pod(STARTS, init=(fetched(4, "all"),)), pod(CRASH)]) == ""
    assert weights_progress([pod(STARTS, init=({**FETCHES, "name": "puller-a"},))]) == ""


def test_the_caches_keep_what_was_said_of_weights_only_while_more_are_fetched() -> None:
    def kept(*init: Object) -> list[str]:
        live = {"metadata": {"name": "phi-abc", "namespace": "default"}, "spec": {}}
        found = slim_pod(
            CachedObject.from_dict({**live, "status": {"initContainerStatuses": list(init)}}, PODS)
        )
        return [each["name"] for each in found.decode()["status"].get("initContainerStatuses", ())]

    other = {"name": "puller-a", "ready": True, "state": {"terminated": {"exitCode": 0, "message": "done"}}}
    assert kept(other, fetched(1, "1 GB"), FETCHES) == ["weights-1-of-4", "weights-3-of-4"]
    assert kept(other, fetched(1, "1 GB"), fetched(2, "2 GB")) == []


def test_a_workspace_whose_pods_fetch_weights_says_how_far_they_are() -> None:
    observed, _ = step(Observed(workspace()))
    observed, _ = step(provisioned(observed))
    starting = replace(observed, pods=(pod(STARTS, init=(fetched(1, "7 GB of 29 GB"), FETCHES)),))
    ready = condition(step(starting)[1].status, "InferenceReady")
    assert (ready["status"], ready["reason"]) == ("False", "WeightsFetching")
    assert "part 3 of 4: 7 GB of 29 GB" in ready["message"]
