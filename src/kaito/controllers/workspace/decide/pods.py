"""What is wrong with a Workspace's pods, in one reason and one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kaito.api.conditions import find_condition
from kaito.api.labels import STAND_IN_WEIGHTS_ANNOTATION
from kaito.controllers.workspace.decide.children import cut
from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.model import Object, annotations_of, conditions, deleting, metadata
from kaito.controllers.workspace.slim import WEIGHTS_CONTAINER, is_for_weights

IMAGE_REASONS: Final = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
START_REASONS: Final = frozenset(
    {
        "CreateContainerConfigError",
        "PreCreateHookError",
        "CreateContainerError",
        "PreStartHookError",
        "RunContainerError",
        "PostStartHookError",
    }
)


def pod_problem(pods: Sequence[Object]) -> Problem | None:
    """The gravest thing that keeps pods from running, or None while they merely start."""
    present = [pod for pod in pods if not deleting(pod)]
    for look in (_out_of_memory, _image, _start, _crash):
        for pod in present:
            for container in _containers(pod):
                problem = look(pod, container)
                if problem is not None:
                    return problem
    for pod in present:
        problem = _evicted(pod) or _unschedulable(pod)
        if problem is not None:
            return problem
    return None


def stand_in_weights(pods: Iterable[Object]) -> str:
    """Name of the small model whose weights the pods use in place of the real ones, or ""."""
    for pod in pods:
        name = annotations_of(pod).get(STAND_IN_WEIGHTS_ANNOTATION, "")
        if name and not deleting(pod):
            return name
    return ""


def weights_progress(pods: Iterable[Object]) -> str:
    """How far the pod that is least far is with its weights; "" where none fetches any."""
    found = [told for pod in pods if not deleting(pod) and (told := _fetching(pod)) is not None]
    return min(found)[1] if found else ""


def _fetching(pod: Object) -> tuple[int, str] | None:
    """How many of its containers for weights have ended well, and what the last of them said."""
    ours = [
        each
        for each in (pod.get("status") or {}).get("initContainerStatuses") or ()
        if is_for_weights(str(each.get("name")))
    ]
    ended = [each for each in ours if "exitCode" in _ended(each)]
    running = [each for each in ours if "running" in (each.get("state") or {})]
    if not running:
        return None
    name = metadata(pod).get("name")
    part = str(running[0]["name"]).removeprefix(WEIGHTS_CONTAINER).strip("-").replace("-", " ")
    text = f"pod {name} fetches its weights{f', part {part}' if part else ''}"
    said = str(_ended(ended[-1]).get("message") or "").strip() if ended else ""
    return len(ended), cut(f"{text}: {said}" if said else text)


def _ended(container: Object) -> Object:
    """How a container ended for good: it did what it was for."""
    terminated: Object = (container.get("state") or {}).get("terminated") or {}
    return terminated if terminated.get("exitCode") == 0 else {}


def _containers(pod: Object) -> Iterator[Object]:
    status = pod.get("status") or {}
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(field) or ():
            if not container.get("ready"):
                yield container


def _waiting(container: Object) -> Object:
    return (container.get("state") or {}).get("waiting") or {}


def _terminated(container: Object) -> Object:
    for field in ("state", "lastState"):
        found: Object = (container.get(field) or {}).get("terminated") or {}
        if found:
            return found
    return {}


def _out_of_memory(pod: Object, container: Object) -> Problem | None:
    if _terminated(container).get("reason") != "OOMKilled":
        return None
    return _problem(
        "ContainerOOMKilled", pod, container, "was killed because it used more memory than allowed"
    )


def _image(pod: Object, container: Object) -> Problem | None:
    waiting = _waiting(container)
    if waiting.get("reason") not in IMAGE_REASONS:
        return None
    image, text = str(container.get("image")), str(waiting.get("message") or waiting["reason"])
    return _problem("ImagePullError", pod, container, text if image in text else f"image {image}: {text}")


def _start(pod: Object, container: Object) -> Problem | None:
    waiting = _waiting(container)
    if waiting.get("reason") not in START_REASONS:
        return None
    return _problem(
        "ContainerStartError", pod, container, f"{waiting['reason']}: {waiting.get('message', '')}"
    )


def _crash(pod: Object, container: Object) -> Problem | None:
    if _waiting(container).get("reason") != "CrashLoopBackOff":
        return None
    ended = _terminated(container)
    code = f"ended with exit code {ended['exitCode']}" if "exitCode" in ended else "ends again and again"
    said = f": {ended['message'].strip()}" if ended.get("message") else ""
    name = metadata(pod).get("name")
    look = (
        f"; see kubectl logs -n {metadata(pod).get('namespace')} {name} -c {container.get('name')} --previous"
    )
    return _problem("ContainerCrashLoopBackOff", pod, container, f"{code}{said}", look)


def _evicted(pod: Object) -> Problem | None:
    status = pod.get("status") or {}
    if status.get("reason") != "Evicted":
        return None
    message = str(status.get("message") or "")
    lower = message.lower()
    reason = "PodEvicted"
    if "disk" in lower or "ephemeral-storage" in lower:
        reason = "NodeDiskPressure"
    elif "memory" in lower:
        reason = "NodeMemoryPressure"
    return Problem(reason, cut(f"pod {metadata(pod).get('name')} was evicted: {message}"))


def _unschedulable(pod: Object) -> Problem | None:
    scheduled = find_condition(conditions(pod), "PodScheduled")
    if scheduled is None or scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    text = f"pod {metadata(pod).get('name')} finds no node: {scheduled.get('message', '')}"
    return Problem("Unschedulable", cut(text))


def _problem(reason: str, pod: Object, container: Object, text: str, advice: str = "") -> Problem:
    where = f"pod {metadata(pod).get('name')}, container {container.get('name')}"
    return Problem(reason, cut(f"{where}: {text}") + advice)
