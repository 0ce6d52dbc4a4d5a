"""What keeps the Nodes of a claim on its way out from being ended: their pods, then their volumes.

A Node that is not Ready and whose machine is gone keeps nothing: its pods cannot end in order any more. Neither does
anything once the claim's deadline is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from kaito.api import labels
from kaito.api.conditions import find_condition, is_true
from kaito.controllers.machine.conditions import ConditionSet
from kaito.controllers.machine.decide.drain_steps import (
    DeletePods,
    Evict,
    LookAtPods,
    LookAtVolumes,
    NoteDeadline,
)
from kaito.controllers.machine.decide.steps import (
    MESSAGE_LIMIT,
    CheckInstance,
    Decision,
    Object,
    Observed,
    Warned,
    conditions_of,
    status_with,
)
from kaito.controllers.machine.drain import Plan, Pod, parse_duration, plan
from kaito.runtime.clock import parse_time, rfc3339

DRAINED: Final = "Drained"
VOLUMES_DETACHED: Final = "VolumesDetached"
UNKNOWN_POLL: Final = 10.0
"""Seconds until pods or volumes that could not be read are looked at again; that they can be read wakes the claim."""
CHECK_POLL: Final = 60.0
"""Seconds between two questions whether the machine of a Node that is not Ready is still there."""
_NAMED: Final = 3
"""Pods that a message names."""


def deadline_of(claim: Object) -> datetime | None:
    """When the claim's Node goes whatever its pods do: as noted, or by terminationGracePeriod; None: it waits."""
    metadata = claim["metadata"]
    noted = (metadata.get("annotations") or {}).get(labels.TERMINATION_TIMESTAMP_ANNOTATION)
    if noted:
        try:
            return parse_time(noted)
        except ValueError:
            pass  # somebody's own words; what the claim says itself still counts
    period = (claim.get("spec") or {}).get("terminationGracePeriod")
    if not period or not metadata.get("deletionTimestamp"):
        return None
    return parse_time(metadata["deletionTimestamp"]) + timedelta(seconds=parse_duration(period))


def note_deadline(claim: Object) -> NoteDeadline | None:
    """The deadline as an annotation, where Karpenter's tools look for it; None where it is noted or there is none."""
    annotations = claim["metadata"].get("annotations") or {}
    if labels.TERMINATION_TIMESTAMP_ANNOTATION in annotations:
        return None
    deadline = deadline_of(claim)
    if deadline is None:
        return None
    return NoteDeadline({labels.TERMINATION_TIMESTAMP_ANNOTATION: rfc3339(deadline)})


def drain(observed: Observed, now: datetime) -> Decision | None:
    """The next step or the wait before the machine may be ended; None: nothing keeps it any more."""
    deadline = deadline_of(observed.claim)
    for nodes_hold in (_pods_hold, _volumes_hold):
        decision = nodes_hold(observed, now, deadline)
        if decision is not None:
            return decision
    return None


def drained(observed: Observed, now: datetime) -> ConditionSet:
    """The claim's conditions once nothing keeps its Nodes; untouched where it had none to drain."""
    conditions = conditions_of(observed, now)
    if not observed.nodes or not is_its_own(observed, conditions):
        return conditions
    return conditions.set_true(DRAINED).set_true(VOLUMES_DETACHED)


def is_its_own(observed: Observed, conditions: ConditionSet) -> bool:
    """Whether the claim made its Nodes its own: it was registered, or was until one too many joined."""
    return conditions.is_true(observed.shape.registered) or any(
        labels.TERMINATION_FINALIZER in (node["metadata"].get("finalizers") or ()) for node in observed.nodes
    )


def _pods_hold(observed: Observed, now: datetime, deadline: datetime | None) -> Decision | None:
    over, plans = deadline is not None and now >= deadline, dict[str, Plan]()
    unread: list[str] = []
    for name in _alive(observed):
        if name not in observed.pods:
            return Decision(LookAtPods(name))
        found = observed.pods[name]
        if found.pods is not None:
            plans[name] = plan(found.pods, now, deadline)
        elif not (over and found.problem):
            unread.append(name)
    busy = [name for name, each in plans.items() if each.waiting]
    if not busy and not unread:
        return None
    stuck = any(observed.pods[name].problem for name in unread)
    if (busy or stuck) and (check := _is_it_still_there(observed)) is not None:
        return check
    for name in busy:
        if plans[name].delete:
            return Decision(DeletePods(name, plans[name].delete))
        evict = tuple(pod for pod in plans[name].evict if pod.uid not in observed.pods[name].refused)
        if evict:
            return Decision(Evict(name, evict))
    return _wait_for_pods(observed, now, plans, unread)


def _wait_for_pods(observed: Observed, now: datetime, plans: dict[str, Plan], unread: list[str]) -> Decision:
    problems = [observed.pods[name].problem for name in unread if observed.pods[name].problem]
    blocked = [text for name, each in plans.items() for text in _blocked(observed, name, each)]
    names = ", ".join(name for name in (*plans, *unread) if name in unread or plans[name].waiting)
    if blocked:
        more = f"; and {len(blocked) - _NAMED} more" if len(blocked) > _NAMED else ""
        message = (
            f"Node {names} cannot be drained yet: {'; '.join(blocked[:_NAMED])}{more}. Delete these pods, or let their "
            "budgets allow it"
        )
    elif problems:
        message, blocked = f"the pods of Node {names} cannot be read: {problems[0]}", problems
    elif not any(each.waiting for each in plans.values()):
        return Decision(requeue_after=UNKNOWN_POLL)  # they are being read for the first time
    else:
        message = f"pods are leaving Node {names}"
    looks = [each.next_look for each in plans.values() if each.next_look is not None]
    looks += [found.retry for found in observed.pods.values() if found.retry is not None]
    if unread:
        looks.append(UNKNOWN_POLL)
    return _wait(observed, now, DRAINED, "Draining", message, looks, "FailedDraining" if blocked else "")


def _blocked(observed: Observed, name: str, found: Plan) -> Iterator[str]:
    """Why pods that are next do not go."""
    first = min((pod.tier for pod in found.waiting), default=0)
    for pod in found.waiting:
        if pod.ends is not None or pod.tier != first:
            continue
        if pod.protected:
            yield f"pod {pod} has the annotation {labels.DO_NOT_DISRUPT_ANNOTATION}"
        elif pod.uid in observed.pods[name].refused:
            yield f"pod {pod}: {observed.pods[name].refused[pod.uid]}"


def _volumes_hold(observed: Observed, now: datetime, deadline: datetime | None) -> Decision | None:
    if deadline is not None and now >= deadline:
        return None
    held: list[str] = []
    problems: list[str] = []
    unread = False
    for name in _alive(observed):
        if name not in observed.volumes:
            return Decision(LookAtVolumes(name, _staying(observed, name, now)))
        found = observed.volumes[name]
        unread = unread or found.names is None or bool(found.problem)
        held += found.names or ()
        problems += filter(None, [found.problem])
    if not held and not unread:
        return None
    if not held and not problems:
        return Decision(requeue_after=UNKNOWN_POLL)  # they are being read for the first time
    if (check := _is_it_still_there(observed)) is not None:
        return check
    if held:
        message = f"waiting for volumes to be detached: {', '.join(sorted(held)[:_NAMED])}"
        if problems:
            message += f"; some may belong to pods that stay, which cannot be told: {problems[0]}"
    else:
        message = f"attached volumes cannot be read: {problems[0]}"
    looks = [UNKNOWN_POLL] if unread else []
    if deadline is not None:
        looks.append((deadline - now).total_seconds())
    told = "FailedDraining" if problems else ""
    return _wait(observed, now, VOLUMES_DETACHED, "AwaitingVolumeDetachment", message, looks, told)


def _staying(observed: Observed, name: str, now: datetime) -> tuple[Pod, ...]:
    """Pods that nobody waits for, whose volumes therefore stay attached."""
    pods = observed.pods[name].pods or ()
    waiting = {pod.uid for pod in plan(pods, now, None).waiting}
    return tuple(pod for pod in pods if pod.uid not in waiting and pod.claims)


def _wait(
    observed: Observed, now: datetime, type: str, reason: str, message: str, looks: list[float], told: str
) -> Decision:
    conditions = conditions_of(observed, now)
    if type == VOLUMES_DETACHED:
        conditions = conditions.set_true(DRAINED)
    message = message[:MESSAGE_LIMIT]
    before: Any = find_condition(conditions.conditions, type) or {}
    news = (before.get("reason"), before.get("message")) != (reason, message)
    if observed.instance is not None:
        looks = [*looks, CHECK_POLL]
    return Decision(
        status=status_with(observed, conditions.set(type, "Unknown", reason, message)),
        requeue_after=min(looks) if looks else None,
        warning=Warned(told, message) if told and news else None,
    )


def _is_it_still_there(observed: Observed) -> Decision | None:
    """A Node that is not Ready may have lost its machine, and then nothing on it is waited for."""
    provider_id = (observed.claim.get("status") or {}).get("providerID")
    if observed.instance is not None or observed.hold > 0 or not provider_id:
        return None
    if all(_is_ready(node) for node in observed.nodes):
        return None
    return Decision(CheckInstance(provider_id))


def _alive(observed: Observed) -> list[str]:
    """Names of the Nodes whose pods and volumes count."""
    gone = observed.instance == "absent"
    return [node["metadata"]["name"] for node in observed.nodes if not gone or _is_ready(node)]


def _is_ready(node: Object) -> bool:
    return is_true((node.get("status") or {}).get("conditions"), "Ready")
