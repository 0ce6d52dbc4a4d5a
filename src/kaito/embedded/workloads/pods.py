"""Pods as the workload controllers see them: one small frozen view per version, and how pods are made and removed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client
from kaito.runtime.clock import parse_time
from kaito.runtime.informer import Informer
from kaito.runtime.objects import CachedObject
from kaito.runtime.owners import controller_reference
from kaito.runtime.resources import PODS, Resource

Tree = dict[str, Any]
T = TypeVar("T")
BY_CONTROLLER = "workloads-controller-uid"
"""Index of objects by the uid of their controller."""
SEEN_TIMEOUT = 5.0
"""Seconds to wait until our own writes show in the cache; then the controller goes on with what it has."""


@dataclass(frozen=True, slots=True)
class PodView:
    """What decisions about a pod need."""

    name: str
    uid: str
    created: str
    labels: Mapping[str, str]
    node: str
    phase: str
    ready: bool
    ready_since: datetime | None
    terminating: bool
    restarts: int
    deletion_cost: int
    finished_at: datetime | None

    @property
    def is_finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_active(self) -> bool:
        """Counts as one of the replicas that a controller wants."""
        return not self.is_finished and not self.terminating

    def available_at(self, min_ready_seconds: int) -> datetime | None:
        """From when on the pod counts as available; None while it is not ready."""
        if not self.ready or self.ready_since is None:
            return None
        return self.ready_since + timedelta(seconds=min_ready_seconds)

    def is_available(self, min_ready_seconds: int, now: datetime) -> bool:
        since = self.available_at(min_ready_seconds)
        return since is not None and (min_ready_seconds == 0 or since <= now)


def pod_view(obj: CachedObject) -> PodView:
    """Use through `view(obj)`, which remembers it."""
    tree, meta = obj.decode(), obj.meta
    status: Tree = tree.get("status") or {}
    condition = find_condition(status, "Ready")
    statuses: Sequence[Tree] = status.get("containerStatuses") or ()
    finished = [
        moment
        for each in statuses
        if (moment := ((each.get("state") or {}).get("terminated") or {}).get("finishedAt"))
    ]
    return PodView(
        name=meta.name,
        uid=meta.uid,
        created=meta.creation_timestamp or "",
        labels=meta.labels,
        node=(tree.get("spec") or {}).get("nodeName") or "",
        phase=status.get("phase") or "Pending",
        ready=condition.get("status") == "True",
        ready_since=_time(condition.get("lastTransitionTime")),
        terminating=meta.deletion_timestamp is not None,
        restarts=sum(each.get("restartCount") or 0 for each in statuses),
        deletion_cost=_integer(meta.annotations.get("controller.kubernetes.io/pod-deletion-cost")),
        finished_at=_time(max(finished, default=None)),
    )


def view(obj: CachedObject) -> PodView:
    """The pod's view, made once per version."""
    return obj.cached_view(pod_view)


def find_condition(status: Mapping[str, Any], kind: str) -> Tree:
    """The condition of a type, or an empty dict."""
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), {})


def differs(status: Mapping[str, Any], obj: Mapping[str, Any]) -> bool:
    """Whether a status has to be written. Empty values and absent ones are the same to the API."""
    stored = obj.get("status") or {}
    return any((status[key] or None) != (stored.get(key) or None) for key in status)


def _time(text: str | None) -> datetime | None:
    try:
        return parse_time(text) if text else None
    except ValueError:
        return None


def _integer(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0


def controller_uid(obj: CachedObject) -> Iterable[str]:
    controller = obj.meta.controller
    return () if controller is None else (controller.uid,)


def owned_informer(cache: InformerCache, resource: Resource) -> Informer:
    """The informer of a resource whose objects can be looked up by their controller's uid."""
    informer = cache.informer(resource)
    informer.add_indexer(BY_CONTROLLER, controller_uid)
    return informer


def owned_by(informer: Informer, uid: str) -> Sequence[CachedObject]:
    """The objects that this uid controls."""
    return informer.lister.by_index(BY_CONTROLLER, uid)


def pod_from_template(
    owner: Tree, resource: Resource, template: Mapping[str, Any], name: str | None = None
) -> Tree:
    """A pod of `owner`, named `name` or after the owner with a random end."""
    meta: Tree = template.get("metadata") or {}
    naming = {"name": name} if name else {"generateName": f"{owner['metadata']['name']}-"}
    pod: Tree = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **naming,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": [controller_reference(owner, resource)],
        },
        "spec": deepcopy(template.get("spec") or {}),
    }
    if meta.get("finalizers"):
        pod["metadata"]["finalizers"] = list(meta["finalizers"])
    return pod


async def wait_seen(informer: Informer, written: Iterable[Tree | None]) -> None:
    """Waits until the cache holds our own writes, so that the next look at the world counts them."""
    versions = [tree["metadata"]["resourceVersion"] for tree in written if tree and "metadata" in tree]
    numbers = [version for version in versions if str(version).isdecimal()]
    if numbers:
        await informer.wait_seen(max(numbers, key=int), SEEN_TIMEOUT)


async def in_batches(items: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
    """`do` for each item in batches of 1, 2, 4, … 32; a batch with an error is the last.

    If all of them are going to fail (a quota, a bad template), one try tells.
    """
    size, position = 1, 0
    while position < len(items):
        batch = items[position : position + size]
        results = await asyncio.gather(*map(do, batch), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        position, size = position + size, min(size * 2, 32)


async def delete_pod(client: Client, namespace: str | None, pod: PodView) -> None:
    """Deletes gracefully, and only this very pod; one that is already gone is as good."""
    await client.delete(PODS, pod.name, namespace, uid=pod.uid)
