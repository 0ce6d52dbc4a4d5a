"""Weights of the user's own in an image or a volume: looked at by a pod before a node is asked for them.

Only something inside the cluster can mount a volume, or has the pull secrets. So a small pod runs the program of the
init container on any node that is there, in a way that fetches nothing, and its termination message says what it found.
That is kept in `status.resolved.weights`, in one of three shapes, each with `for`:

* `{bytes, quantization, digest}`: they fit. A pod pulls the image of that digest.
* `{reason, message, looks, at}`: no pod could serve them. No node is asked for; they are looked at again after a while.
* `{unchecked}`: why nobody could look. The Workspace goes on, and the init container checks them on the node.

Weights in a directory of the nodes cannot be looked at from another node, and neither can volumes that are one.
`kaito.sh/bypass-resource-checks` leaves the look out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from kaito.api.conditions import find_condition
from kaito.api.labels import BYPASS_RESOURCE_CHECKS_ANNOTATION, WEIGHTS_CHECK_LABEL, WORKSPACE_UID_LABEL
from kaito.catalog import Preset
from kaito.catalog.hub import ACCESS_DENIED, NOT_FOUND
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.children import manifest
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.podparts import POD_SECURITY, contained
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import FOR, read_weights, with_weights
from kaito.controllers.workspace.decide.weights import DIRECTORY, look_part
from kaito.controllers.workspace.decide.weights_source import Pulled, Volume, WeightsSource, weights_key
from kaito.controllers.workspace.model import (
    Decision,
    Deletion,
    Event,
    Object,
    Observed,
    Write,
    annotations_of,
    conditions,
    deleting,
    labels_of,
    metadata,
)
from kaito.controllers.workspace.names import look_name
from kaito.runtime.clock import parse_time, rfc3339
from kaito.runtime.resources import PODS

LOOKUP: Final = "WeightsLookup"
"""Reason while they are looked at."""
UNFIT: Final = "WeightsDoNotFit"
"""Reason where they are another model's."""
NOT_CHECKED: Final = "WeightsNotChecked"
"""Reason of the event that says why nobody could look."""
UNCHECKED: Final = "unchecked"

FIRST_AGAIN: Final = 60.0
LAST_AGAIN: Final = 660.0
"""Seconds after which weights that do not fit, or are not there, are looked at anew: doubling from first to last."""
DEADLINE: Final = 300
"""Seconds that a look may take: it reads some megabytes, of archives up to 512 MiB, and its image may have to be
pulled."""
NO_ROOM: Final = 60.0
"""Seconds that a look waits for a node with room; a cluster that makes its first node for a model has none."""
SAID_AT_MOST: Final = 600
"""Characters of what a look says."""
RESOURCES: Final[Object] = {"requests": {"cpu": "50m", "memory": "256Mi"}}
"""The program keeps at most 128 MiB of what it reads, and what Python makes of it: megabytes of JSON in the largest."""

EXIT_UNFIT: Final = 5
EXIT_ABSENT: Final = 8
EXIT_DENIED: Final = 9
"""Exit codes of `kaito-weights` by which a pod that serves would be told the same, and what the user is told then."""
CERTAIN: Final = {EXIT_UNFIT: UNFIT, EXIT_ABSENT: NOT_FOUND, EXIT_DENIED: ACCESS_DENIED}
NOT_SHARED: Final = frozenset({"hostPath", "emptyDir", "ephemeral"})
"""Volumes in which another pod, on another node, does not see the same files."""
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Look:
    """What is known by looking. hold: why no first node is bought yet. again: seconds until there may be news."""

    hold: Problem | None = None
    writes: tuple[Write, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    again: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where weights are that can be looked at."""

    source: Pulled | Volume
    path: str
    """Its field in the Workspace."""
    name: str
    """In sentences."""

    @property
    def key(self) -> str:
        """Stands for these weights in the status."""
        return weights_key(self.source)


def place_of(source: WeightsSource) -> Place | None:
    """None for weights that only their node has, and for those that are looked at without a pod, or not at all."""
    path = "inference.preset.weights"
    match source:
        case Pulled(image):
            return Place(source, f"{path}.image", image)
        case Volume(volume) if not volume.keys() & NOT_SHARED:
            return Place(source, f"{path}.volumeSource", "the volume")
        case _:
            return None


def no_more(observed: Observed) -> Look:
    """Nothing is to be looked at; what looked goes."""
    return Look(deletions=_deletions(observed))


def decide_look(observed: Observed, plan: Plan, config: WorkspaceConfig, now: datetime) -> Decision | Look:
    """A Decision where something new is to be kept, before anything follows from it."""
    place = place_of(plan.weights)
    if config.node_provisioner.claims is None:
        return Look()  # nothing is bought
    if place is None or plan.preset is None:
        return no_more(observed)
    if BYPASS_RESOURCE_CHECKS_ANNOTATION in annotations_of(observed.workspace):
        return no_more(observed)
    kept = read_weights(observed.workspace) or {}
    if kept.get(FOR) != place.key:
        kept = {}
    if (kept and "reason" not in kept) or _asked_for_nodes(observed, plan):
        return no_more(observed)
    looks = _number(kept.get("looks"))
    before = Problem.at(place.path, kept["reason"], str(kept.get("message"))) if kept else None
    if kept and (left := _until(kept, looks, now)) > 0:
        return Look(before, deletions=_deletions(observed), again=left)
    name = look_name(plan.name, plan.uid, place.key, looks)
    pod = next((each for each in observed.looks if metadata(each)["name"] == name), None)
    others = _deletions(observed, name)
    waits = before or Problem.at(place.path, LOOKUP, f"pod {name} looks at {place.name}")
    if pod is None:
        body = _manifest(observed.workspace, name, place, plan, plan.preset, config)
        return Look(waits, (Write(PODS, body, "create", optional=True),), others)
    found = _found(pod, place, looks, now)
    if isinstance(found, Look):
        return Look(found.hold or waits, deletions=others, again=found.again)
    return _keep(observed.workspace, {FOR: place.key, **found})


def with_digest(image: str, workspace: Object) -> str:
    """The image as it was when it was looked at; as it is named where nobody did, or its digest is named anyway."""
    kept = read_weights(workspace) or {}
    place = place_of(Pulled(image))
    digest = kept.get("digest")
    if place is None or kept.get(FOR) != place.key or not isinstance(digest, str) or "@" in image:
        return image
    return f"{image}@{digest}"


def not_made(status: Object, pod: Object, message: str) -> tuple[Object, tuple[Event, ...]]:
    """`status` with the news that the API server does not let the pod be made, and the event of that."""
    part = {
        FOR: labels_of(pod)[WEIGHTS_CHECK_LABEL],
        UNCHECKED: _short(f"no pod may be made for it: {message}"),
    }
    return with_weights(status, part), (_event(part),)


def why_unchecked(plan: Plan, workspace: Object) -> str:
    """Why nobody could look at the weights, as a sentence for the user; "" where somebody did, or nobody had to."""
    place, kept = place_of(plan.weights), read_weights(workspace) or {}
    if place is None or kept.get(FOR) != place.key or not kept.get(UNCHECKED):
        return ""
    return f"{place.path}: {_unchecked(kept)}"


def _asked_for_nodes(observed: Observed, plan: Plan) -> bool:
    """Whether the Workspace runs, or has asked for nodes: what is looked at now comes too late."""
    there = (observed.deployment, observed.stateful_set, observed.pool)
    return any(each is not None for each in there) or any(
        labels_of(claim).get(WORKSPACE_UID_LABEL) in (plan.uid, None) and not deleting(claim)
        for claim in observed.claims
    )


def _deletions(observed: Observed, keep: str = "") -> tuple[Deletion, ...]:
    """Looks that are over, but for one."""
    return tuple(
        Deletion(PODS, metadata(pod)["namespace"], metadata(pod)["name"], metadata(pod)["uid"])
        for pod in observed.looks
        if metadata(pod)["name"] != keep and not deleting(pod)
    )


def _until(kept: Object, looks: int, now: datetime) -> float:
    """Seconds until weights that would not do are looked at anew."""
    delay = min(FIRST_AGAIN * 2.0 ** min(max(looks - 1, 0), 16), LAST_AGAIN)
    try:
        return float(delay) - (now - parse_time(str(kept.get("at")))).total_seconds()
    except ValueError:
        return 0.0


def _found(pod: Object, place: Place, looks: int, now: datetime) -> Look | Object:
    """What the pod found, as it is kept; a Look while it runs, with a problem that it has met."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return _ended(status, place, looks, now)
    age = (now - parse_time(metadata(pod)["creationTimestamp"])).total_seconds()
    placed = find_condition(conditions(pod), "PodScheduled") or {}
    if placed.get("status") == "True" and placed.get("lastTransitionTime"):
        age = (
            now - parse_time(str(placed["lastTransitionTime"]))
        ).total_seconds()  # it may have waited before
    elif placed.get("reason") == "Unschedulable":
        message = _short(str(placed.get("message") or ""))
        if (missing := _missing_claim(place)) and missing in message:
            # The scheduler sees it come, and so does this.
            return Look(Problem.at(place.path, NOT_FOUND, f"{missing}: create it"))
        if age >= NO_ROOM:
            return {UNCHECKED: f"pod {metadata(pod)['name']} found no node: {message}"}
        return Look(again=NO_ROOM - age)
    if age >= DEADLINE:
        return {UNCHECKED: f"pod {metadata(pod)['name']} did not come to an end in {DEADLINE} s"}
    return Look(again=DEADLINE - age)


def _missing_claim(place: Place) -> str:
    """What a scheduler says where the volume's claim is not there; "" where it has none."""
    volume = place.source.source if isinstance(place.source, Volume) else {}
    claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    return f'persistentvolumeclaim "{claim}" not found' if claim else ""


def _ended(status: Object, place: Place, looks: int, now: datetime) -> Object:
    statuses = status.get("containerStatuses") or [{}]
    ended = (statuses[0].get("state") or {}).get("terminated") or {}
    code, said = ended.get("exitCode"), str(ended.get("message") or "").strip()
    if code == 0 and (figures := _figures(said)) is not None:
        return figures
    text = _short(said.replace(DIRECTORY, "the volume") if isinstance(place.source, Volume) else said)
    if code in CERTAIN:
        return {"reason": CERTAIN[code], "message": text, "looks": looks + 1, "at": rfc3339(now)}
    why = text or _short(str(status.get("message") or status.get("reason") or ended.get("reason") or ""))
    return {UNCHECKED: why or f"the look ended with exit code {code}"}


def _figures(said: str) -> Object | None:
    """What a look tells of weights that fit; None where it tells nothing that is understood."""
    try:
        told: Any = orjson.loads(said)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(told, dict) or not _number(told.get("bytes")):
        return None
    found: Object = {"bytes": told["bytes"]}
    if isinstance(told.get("quantization"), str):
        found["quantization"] = told["quantization"]
    if isinstance(told.get("digest"), str) and _DIGEST.fullmatch(told["digest"]):
        found["digest"] = told["digest"]
    return found


def _keep(workspace: Object, part: Object) -> Decision:
    status = with_weights(dict(workspace.get("status") or {}), part)
    events = (_event(part),) if UNCHECKED in part else ()
    return Decision(status=status, events=events, requeue_after=0.0)


def _event(part: Object) -> Event:
    return Event("Warning", NOT_CHECKED, _unchecked(part))


def _unchecked(part: Object) -> str:
    return (
        f"the weights were not looked at before nodes were asked for ({part[UNCHECKED]}); each pod checks them before "
        "it serves"
    )


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= SAID_AT_MOST else f"{text[:SAID_AT_MOST]}..."


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _manifest(
    workspace: Object, name: str, place: Place, plan: Plan, preset: Preset, config: WorkspaceConfig
) -> Object:
    part = look_part(place.source, preset, config)
    look = {
        "name": name,
        "key": place.key,
        "deadline": DEADLINE,
        "security": POD_SECURITY,
        "image_pull_secrets": list(dict.fromkeys(plan.preset_options.get("imagePullSecrets") or ())),
        "containers": [{**contained(each), "resources": RESOURCES} for each in part.init_containers],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *part.volumes],
    }
    return manifest("look", workspace, {"look": look})
