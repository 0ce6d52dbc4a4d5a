"""Deployment: which ReplicaSets it needs, and how many pods each may have while one takes over from the others.

The rules are kube-controller-manager's (pkg/controller/deployment); `decide` is a pure function of the Deployment, its
ReplicaSets and the time. One step per reconcile: the change it makes comes back as an event and leads to the next.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from kaito.embedded.workloads import deployment_status as statuses
from kaito.embedded.workloads.pods import Tree
from kaito.runtime.owners import controller_reference
from kaito.runtime.resources import DEPLOYMENTS

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    *(REVISION, REVISION_HISTORY, DESIRED, MAXIMUM),
    "deprecated.deployment.rollback.to",
}
"""Annotations of a Deployment that its ReplicaSets do not get."""
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. Each kind of write is empty where nothing of it is due."""

    status: Tree
    create: Tree | None = None
    """A ReplicaSet to make."""
    scale: dict[str, int] = field(default_factory=dict)
    """ReplicaSets by name and how many replicas each is to have."""
    annotate: dict[str, dict[str, str]] = field(default_factory=dict)
    """ReplicaSets by name and annotations to set."""
    delete: tuple[str, ...] = ()
    """Names of old ReplicaSets beyond the history limit."""
    revision: str | None = None
    """Revision annotation for the Deployment itself."""
    requeue_after: float | None = None


def template_hash(template: Tree, collisions: int = 0) -> str:
    """Ten characters that stand for a pod template, as in the names of pods."""
    text = orjson.dumps(template, option=orjson.OPT_SORT_KEYS) + (
        str(collisions).encode() if collisions else b""
    )
    number = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
    digits = []
    for _ in range(10):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def limits(deployment: Tree) -> tuple[int, int]:
    """maxSurge and maxUnavailable in pods; Recreate has neither."""
    spec = deployment["spec"]
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return 0, 0
    rolling, replicas = strategy.get("rollingUpdate") or {}, spec.get("replicas", 1)
    surge = _share(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


def _share(value: Any, replicas: int, *, up: bool) -> int:
    if isinstance(value, str) and value.endswith("%"):
        exact = replicas * int(value[:-1]) / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(value)


def same_template(deployment: Tree, replicaset: Tree) -> bool:
    """Whether a ReplicaSet runs the Deployment's template, its own hash label aside."""
    template = replicaset["spec"]["template"]
    meta = template.get("metadata") or {}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return _pruned({**template, "metadata": {**meta, "labels": labels}}) == _pruned(
        deployment["spec"]["template"]
    )


def _pruned(template: Tree) -> Tree:
    """Without the metadata that means nothing when it is empty."""
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value}
    return {**template, "metadata": meta}


def decide(deployment: Tree, replicasets: Sequence[Tree], old_pods_running: bool, now: datetime) -> Plan:
    """`replicasets` are those that the Deployment controls; `old_pods_running` only matters to Recreate."""
    ordered = sorted(
        replicasets, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"])
    )
    new = next((each for each in ordered if same_template(deployment, each)), None)
    old = [each for each in ordered if each is not new]
    spec = deployment["spec"]
    revision = _next_revision(new, old)
    step = _Step(deployment, new, old, revision)
    if deployment["metadata"].get("deletionTimestamp"):
        pass
    elif spec.get("paused"):
        step.scale_paused()
    elif (spec.get("strategy") or {}).get("type") == "Recreate":
        step.recreate(old_pods_running)
    else:
        step.roll()
    status = statuses.decide(deployment, new, old, now, limits(deployment)[1], created=step.create)
    done = statuses.is_complete(deployment, status)
    return Plan(
        status=status,
        create=step.create,
        scale=step.scale,
        annotate=step.annotations(),
        delete=tuple(_beyond_history(deployment, old)) if done else (),
        revision=step.deployment_revision(),
        requeue_after=_deadline(deployment, status, now),
    )


class _Step:
    """The next change of ReplicaSets; methods are strategies."""

    def __init__(self, deployment: Tree, new: Tree | None, old: list[Tree], revision: int) -> None:
        self.deployment, self.new, self.old, self.revision = deployment, new, old, revision
        self.replicas: int = deployment["spec"].get("replicas", 1)
        self.surge, self.unavailable = limits(deployment)
        self.create: Tree | None = None
        self.scale: dict[str, int] = {}

    def roll(self) -> None:
        """Up with the new one as far as maxSurge allows; otherwise down with the old as far as enough are available."""
        total = sum(_wanted(each) for each in self.old)
        if self.new is None:
            room = max(0, self.replicas + self.surge - total)
            self.create = new_replicaset(self.deployment, min(self.replicas, room), self.revision)
            return
        have = _wanted(self.new)
        if have > self.replicas:
            self._set(self.new, self.replicas)
        elif have < self.replicas:
            room = self.replicas + self.surge - total - have
            self._set(self.new, have + max(0, min(self.replicas - have, room)))
        if not self.scale:
            self._scale_down_old()

    def recreate(self, old_pods_running: bool) -> None:
        """Everything old goes before anything new comes."""
        for each in self.old:
            self._set(each, 0)
        if self.scale or old_pods_running:
            return
        if self.new is None:
            self.create = new_replicaset(self.deployment, self.replicas, self.revision)
        else:
            self._set(self.new, self.replicas)

    def scale_paused(self) -> None:
        """A paused Deployment rolls nothing out, but follows its replica count with the newest it has."""
        active = [each for each in (*self.old, *([self.new] if self.new else [])) if _wanted(each)]
        latest = self.new or (self.old[-1] if self.old else None)
        if len(active) == 1:
            self._set(active[0], self.replicas)
        elif not active and latest is not None:
            self._set(latest, self.replicas)

    def _scale_down_old(self) -> None:
        assert self.new is not None
        everything = [*self.old, self.new]
        total = sum(_wanted(each) for each in everything)
        must_stay = self.replicas - self.unavailable
        new_unavailable = _wanted(self.new) - _available(self.new)
        may_go = total - must_stay - new_unavailable
        if may_go <= 0:
            return
        left = {each["metadata"]["name"]: _wanted(each) for each in self.old}
        for each in self.old:  # first those that serve nobody
            name = each["metadata"]["name"]
            gone = min(may_go, left[name] - min(left[name], _available(each)))
            left[name] -= gone
            may_go -= gone
        spare = sum(_available(each) for each in everything) - must_stay
        for each in self.old:
            name = each["metadata"]["name"]
            gone = max(0, min(spare, left[name]))
            left[name] -= gone
            spare -= gone
        for each in self.old:
            self._set(each, left[each["metadata"]["name"]])

    def _set(self, replicaset: Tree, replicas: int) -> None:
        if _wanted(replicaset) != replicas:
            self.scale[replicaset["metadata"]["name"]] = replicas

    def annotations(self) -> dict[str, dict[str, str]]:
        """What the ReplicaSets' annotations lack."""
        changes: dict[str, dict[str, str]] = {}
        sizes = {DESIRED: str(self.replicas), MAXIMUM: str(self.replicas + self.surge)}
        for each in (*self.old, *([self.new] if self.new else [])):
            name, current = each["metadata"]["name"], each["metadata"].get("annotations") or {}
            wanted = dict(sizes) if self.scale.get(name, _wanted(each)) else {}
            if each is self.new:
                wanted |= copied_annotations(self.deployment)
                before = current.get(REVISION, "")
                if before != str(self.revision):
                    wanted[REVISION] = str(self.revision)
                    history = [
                        *filter(None, [current.get(REVISION_HISTORY, "")]),
                        *([before] if before else []),
                    ]
                    wanted |= {REVISION_HISTORY: ",".join(history)} if history else {}
            missing = {key: value for key, value in wanted.items() if current.get(key) != value}
            if missing:
                changes[name] = missing
        return changes

    def deployment_revision(self) -> str | None:
        current = (self.deployment["metadata"].get("annotations") or {}).get(REVISION)
        wanted = str(self.revision)
        return wanted if (self.new or self.create) and current != wanted else None


def new_replicaset(deployment: Tree, replicas: int, revision: int) -> Tree:
    """The ReplicaSet for the Deployment's current template."""
    spec, meta = deployment["spec"], deployment["metadata"]
    collisions = (deployment.get("status") or {}).get("collisionCount") or 0
    short = template_hash(spec["template"], collisions)
    template_meta = spec["template"].get("metadata") or {}
    labels = {**(template_meta.get("labels") or {}), HASH_LABEL: short}
    surge, _ = limits(deployment)
    wanted = spec.get("replicas", 1)
    selector = spec["selector"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{short}",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": {
                **copied_annotations(deployment),
                REVISION: str(revision),
                DESIRED: str(wanted),
                MAXIMUM: str(wanted + surge),
            },
            "ownerReferences": [controller_reference(deployment, DEPLOYMENTS)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": spec.get("minReadySeconds") or 0,
            "selector": {
                **selector,
                "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: short},
            },
            "template": {**spec["template"], "metadata": {**template_meta, "labels": labels}},
        },
    }


def copied_annotations(deployment: Tree) -> dict[str, str]:
    annotations = deployment["metadata"].get("annotations") or {}
    return {key: value for key, value in annotations.items() if key not in NOT_COPIED}


def _wanted(replicaset: Tree) -> int:
    return int(replicaset["spec"].get("replicas", 1))


def _available(replicaset: Tree) -> int:
    return int((replicaset.get("status") or {}).get("availableReplicas") or 0)


def revision_of(replicaset: Tree) -> int:
    text = (replicaset["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def _next_revision(new: Tree | None, old: Sequence[Tree]) -> int:
    """One more than the old ones have; the new one keeps its own if that is the highest already."""
    highest = max((revision_of(each) for each in old), default=0)
    return max(highest + 1, revision_of(new) if new else 0)


def _beyond_history(deployment: Tree, old: Sequence[Tree]) -> list[str]:
    keep = deployment["spec"].get("revisionHistoryLimit")
    keep = 10 if keep is None else keep
    empty = sorted(
        (
            each
            for each in old
            if not _wanted(each)
            and not (each.get("status") or {}).get("replicas")
            and not each["metadata"].get("deletionTimestamp")
        ),
        key=revision_of,
    )
    return [each["metadata"]["name"] for each in empty[: max(0, len(empty) - keep)]]


def _deadline(deployment: Tree, status: Tree, now: datetime) -> float | None:
    """Seconds until lack of progress has to be told."""
    due = statuses.deadline(deployment, status)
    return None if due is None else max(0.0, (due - now) / timedelta(seconds=1)) + 1.0
