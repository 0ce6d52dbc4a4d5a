"""StatefulSet: pods with a number, started and stopped in order, replaced from the highest down.

The rules are kube-controller-manager's (pkg/controller/statefulset). `decide` is a pure function; templates of earlier
revisions, which a partition keeps in use, come from ControllerRevisions. Volume claim templates are not implemented:
such a StatefulSet gets an event that says so, and no pods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kaito.embedded.workloads.deployment import template_hash
from kaito.embedded.workloads.pods import PodView, Tree, pod_from_template
from kaito.runtime.owners import controller_reference
from kaito.runtime.resources import STATEFULSETS

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
REVISION_LABEL = "controller-revision-hash"

_ORDINAL = re.compile(r".*-(\d+)")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one StatefulSet: one step."""

    create: tuple[tuple[int, str], ...] = ()
    """Ordinals, each with the name of the revision whose template it gets."""
    delete: tuple[PodView, ...] = ()
    status: Tree | None = None
    requeue_after: float | None = None


def revision_name(statefulset: Tree) -> str:
    """Name of the ControllerRevision of the current template."""
    return f"{statefulset['metadata']['name']}-{template_hash(statefulset['spec']['template'])}"


def revision_object(statefulset: Tree, number: int) -> Tree:
    """The ControllerRevision of the current template, in the form that `kubectl rollout undo` reads."""
    meta = statefulset["metadata"]
    name = revision_name(statefulset)
    labels = dict((statefulset["spec"]["template"].get("metadata") or {}).get("labels") or {})
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": {**labels, "controller.kubernetes.io/hash": name.rpartition("-")[2]},
            "ownerReferences": [controller_reference(statefulset, STATEFULSETS)],
        },
        "revision": number,
        "data": {"spec": {"template": {**statefulset["spec"]["template"], "$patch": "replace"}}},
    }


def template_of(revision: Mapping[str, Any]) -> Tree:
    """The pod template that a ControllerRevision keeps."""
    template = dict(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return template


def make_pod(statefulset: Tree, ordinal: int, revision: str, template: Tree) -> Tree:
    """The pod with this number."""
    name = f"{statefulset['metadata']['name']}-{ordinal}"
    pod = pod_from_template(statefulset, STATEFULSETS, template, name)
    pod["metadata"]["labels"] |= {
        POD_NAME_LABEL: name,
        POD_INDEX_LABEL: str(ordinal),
        REVISION_LABEL: revision,
    }
    pod["spec"]["hostname"] = name
    if statefulset["spec"].get("serviceName"):
        pod["spec"]["subdomain"] = statefulset["spec"]["serviceName"]
    return pod


def ordinal_of(pod: PodView) -> int:
    match = _ORDINAL.fullmatch(pod.name)
    return int(match.group(1)) if match else -1


def decide(statefulset: Tree, pods: Sequence[PodView], now: datetime) -> Plan:
    """`pods` are those that the StatefulSet controls."""
    return _Decision(statefulset, pods, now).plan()


class _Decision:
    def __init__(self, statefulset: Tree, pods: Sequence[PodView], now: datetime) -> None:
        spec = statefulset["spec"]
        self.statefulset, self.now = statefulset, now
        self.replicas: int = spec.get("replicas", 1)
        start = (spec.get("ordinals") or {}).get("start") or 0
        self.ordinals = range(start, start + self.replicas)
        self.parallel = spec.get("podManagementPolicy") == "Parallel"
        self.min_ready = spec.get("minReadySeconds") or 0
        strategy = spec.get("updateStrategy") or {}
        self.on_delete = strategy.get("type") == "OnDelete"
        self.partition: int = (strategy.get("rollingUpdate") or {}).get("partition") or 0
        self.update = revision_name(statefulset)
        stored = statefulset.get("status") or {}
        self.current: str = stored.get("currentRevision") or self.update
        self.pods = list(pods)
        self.by_ordinal = {ordinal_of(pod): pod for pod in pods}
        self.condemned = sorted(
            (pod for pod in pods if ordinal_of(pod) not in self.ordinals), key=ordinal_of, reverse=True
        )

    def plan(self) -> Plan:
        if self.statefulset["spec"].get("volumeClaimTemplates"):
            return Plan(status=self._status())
        create, delete = self._step()
        return Plan(tuple(create), tuple(delete), self._status(), self._wait())

    def _step(self) -> tuple[list[tuple[int, str]], list[PodView]]:
        create, delete = self._grow()
        if (create or delete or self._blocked()) and not self.parallel:
            return create, delete
        delete += self._shrink()
        if create or delete:
            return create, delete
        return [], self._replace()

    def _grow(self) -> tuple[list[tuple[int, str]], list[PodView]]:
        """Missing pods in order; finished ones are deleted first. One at a time unless Parallel."""
        create: list[tuple[int, str]] = []
        delete: list[PodView] = []
        for ordinal in self.ordinals:
            pod = self.by_ordinal.get(ordinal)
            if pod is None:
                create.append((ordinal, self._revision_for(ordinal)))
            elif pod.is_finished and not pod.terminating:
                delete.append(pod)
            elif self._healthy(pod):
                continue
            if not self.parallel:
                break
        return create, delete

    def _blocked(self) -> bool:
        """Some pod that should be there is not up yet."""
        return any(
            (pod := self.by_ordinal.get(ordinal)) is None or not self._healthy(pod)
            for ordinal in self.ordinals
        )

    def _shrink(self) -> list[PodView]:
        """Surplus pods from the highest down; unless Parallel one at a time, each after the one above is gone."""
        if self.parallel:
            return [pod for pod in self.condemned if not pod.terminating]
        if not self.condemned or self.condemned[0].terminating:
            return []
        return [self.condemned[0]]

    def _replace(self) -> list[PodView]:
        """The highest pod of another revision, once everything above it is up."""
        if self.on_delete:
            return []
        for ordinal in reversed(self.ordinals):
            if ordinal < self.partition:
                break
            pod = self.by_ordinal.get(ordinal)
            if pod is None:
                return []
            if pod.labels.get(REVISION_LABEL) != self.update:
                return [] if pod.terminating else [pod]
            if not self._healthy(pod):
                return []
        return []

    def _revision_for(self, ordinal: int) -> str:
        """New pods run the update, except below the partition, where the current revision stays."""
        if self.current == self.update or self.on_delete:
            return self.update
        return self.update if ordinal >= self.partition else self.current

    def _healthy(self, pod: PodView) -> bool:
        return pod.ready and not pod.terminating and pod.is_available(self.min_ready, self.now)

    def _status(self) -> Tree:
        wanted = [pod for pod in self.pods if not pod.is_finished or pod.terminating]
        ready = [pod for pod in wanted if pod.ready and not pod.terminating]
        updated = [pod for pod in wanted if self._is_of(pod, self.update)]
        current = [pod for pod in wanted if self._is_of(pod, self.current)]
        revision = self.current
        if len(updated) == self.replicas == len(ready) == len(wanted):
            revision, current = self.update, updated
        return {
            "observedGeneration": self.statefulset["metadata"].get("generation", 0),
            "replicas": len(wanted),
            "readyReplicas": len(ready),
            "availableReplicas": sum(pod.is_available(self.min_ready, self.now) for pod in ready),
            "currentReplicas": len(current),
            "updatedReplicas": len(updated),
            "currentRevision": revision,
            "updateRevision": self.update,
            "collisionCount": 0,
        }

    def _is_of(self, pod: PodView, revision: str) -> bool:
        return pod.labels.get(REVISION_LABEL) == revision and not pod.terminating

    def _wait(self) -> float | None:
        """Seconds until another pod counts as available by time alone."""
        if not self.min_ready:
            return None
        waits = [
            (since - self.now).total_seconds()
            for pod in self.pods
            if (since := pod.available_at(self.min_ready)) is not None and since > self.now
        ]
        return min(waits, default=None)
