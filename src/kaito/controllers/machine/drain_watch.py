"""Pods and volumes of Nodes that are going away: seen while a Node is drained, and at no other time.

Following all pods of a cluster would be the provisioner's largest cache, for the few minutes in which a few Nodes go.
So each Node that is drained has a small informer of its own (the API server finds the pods of a Node by an index), and
nothing is kept of a pod but what the rules read. Events wake the claim; nobody polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from kaito.controllers.machine.decide.drain_steps import PodsOnNode, VolumesOfNode
from kaito.controllers.machine.drain import Pod, read_pod, slim_pod
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, Conflict, NotFound, TransportError
from kaito.runtime.informer import Informer, Transform
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import PODS, PVCS, VOLUME_ATTACHMENTS, Resource
from kaito.runtime.selection import Selection

FOLLOWED_LIMIT: Final = 64
"""Nodes followed at the same time: each costs a connection. Further ones take turns."""
TURN: Final = 60.0
"""Seconds for which a Node is followed at least before another may take its turn."""
FIRST_RETRY: Final = 5.0
"""Seconds after the first refusal of an eviction; doubled each time, since nothing tells when a budget allows more."""
LAST_RETRY: Final = 40.0
EVICTION_TIMEOUT: Final = 8.0
"""Seconds for one eviction; less than the API server's Retry-After for budgets, which must not hold a worker."""
SEEN_WITHIN: Final = 30.0
"""Seconds for which a pod counts as on its way out although its deletion has not been seen yet."""

EVICTED: Final = "evicted"
REFUSED: Final = "refused"
FAILED: Final = "failed"
OUTCOMES: Final = (EVICTED, REFUSED, FAILED)

Wake = Callable[[], object]
Owner = Hashable
"""Whose Nodes are followed: a claim's kind and name."""


class _Refusal(NamedTuple):
    text: str
    until: float
    pause: float


@dataclass(slots=True)
class _Followed:
    """One informer, and whom its news concern."""

    informer: Informer
    since: float
    wakes: dict[Owner, Wake] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    asked: dict[str, tuple[datetime, float]] = field(default_factory=dict)
    refused: dict[str, _Refusal] = field(default_factory=dict)
    bound: dict[tuple[str, str], str] = field(default_factory=dict)

    def wake(self) -> None:
        for wake in tuple(self.wakes.values()):
            wake()

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self.informer.abandon()


class DrainWatch:
    """What drains see and do; the only place that evicts and deletes pods. Add it to the manager.

    evictions: requests for an eviction, by outcome. drained: Nodes that were ended with nothing left to wait for.
    """

    needs_leader_election = False

    def __init__(self, client: Client, clock: Clock) -> None:
        self.evictions = dict.fromkeys(OUTCOMES, 0)
        self.drained = 0
        self._client = client
        self._evictor = client.named(client.user_agent, client.field_manager)
        self._evictor.timeout = EVICTION_TIMEOUT
        self._clock = clock
        self._group: asyncio.TaskGroup | None = None
        self._nodes: dict[str, _Followed] = {}
        self._attachments: _Followed | None = None
        self._done: dict[Owner, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await asyncio.Event().wait()
                finally:
                    self._group = None
        finally:
            self._attachments = None
            self._nodes.clear()

    # -- what the claims' passes ask --------------------------------------------------------------------------

    def pods(self, node: str, owner: Owner, wake: Wake) -> PodsOnNode:
        """The Node's pods as far as known; `wake` is called when that changes."""
        followed = self._nodes.get(node) or self._follow_node(node)
        if followed is None:
            return PodsOnNode()
        followed.wakes[owner] = wake
        if not followed.informer.has_synced:
            return PodsOnNode(problem=str(followed.informer.last_error or ""))
        return self._seen(followed, [pod.cached_view(read_pod) for pod in followed.informer.lister.list()])

    async def volumes(
        self, node: str, owner: Owner, wake: Wake, *, staying: Iterable[Pod] = ()
    ) -> VolumesOfNode:
        """What is attached to the Node, without the volumes of pods that stay. Where those cannot be told from the
        others all count, since a volume that is still written to must not be torn away, and the problem says why."""
        followed = self._attachments or self._follow_attachments()
        if followed is None:
            return VolumesOfNode()
        followed.wakes[owner] = wake
        informer = followed.informer
        if not informer.has_synced:
            if isinstance(informer.last_error, NotFound):
                return VolumesOfNode(())  # this API server has no such thing
            return VolumesOfNode(problem=str(informer.last_error or ""))
        names, problem = {_volume(each) for each in informer.lister.by_index("node", node)} - {""}, ""
        for stays, claim in ((pod, claim) for pod in staying for claim in pod.claims if names):
            try:
                names.discard(await self._bound(followed, stays, claim))
            except (ApiError, TransportError) as error:
                problem = problem or str(error)
        return VolumesOfNode(tuple(sorted(names)), problem if names else "")

    async def evict(self, node: str, pods: Iterable[Pod]) -> PodsOnNode:
        """Asks pods to go, one after the other; the Node's pods as they are after that."""
        return await self._ask(node, [(pod, pod.grace, self._evict) for pod in pods])

    async def delete(self, node: str, pods: Iterable[tuple[Pod, int]]) -> PodsOnNode:
        """Deletes pods, each with its seconds; the Node's pods as they are after that."""
        return await self._ask(node, [(pod, grace, self._delete) for pod, grace in pods])

    def is_done(self, owner: Owner, uid: str) -> bool:
        """Whether the Nodes of the claim with this uid were drained by this process."""
        return self._done.get(owner) == uid

    def done(self, owner: Owner, uid: str) -> None:
        """Nothing keeps the claim's Nodes any more: they are followed no longer."""
        if not self.is_done(owner, uid):
            self._done[owner] = uid
            self.drained += sum(owner in followed.wakes for followed in self._nodes.values())
        self._let_go(owner)

    def forget(self, owner: Owner) -> None:
        """There is no such claim any more."""
        self._done.pop(owner, None)
        self._let_go(owner)

    # -- following --------------------------------------------------------------------------------------------

    def _follow_node(self, node: str) -> _Followed | None:
        if len(self._nodes) >= FOLLOWED_LIMIT:
            longest = min(self._nodes, key=lambda each: self._nodes[each].since)
            if self._clock.now() - self._nodes[longest].since < TURN:
                return None
            dropped = self._nodes.pop(longest)
            dropped.stop()
            dropped.wake()
        followed = self._follow(PODS, slim_pod, f"spec.nodeName={node}")
        if followed is not None:
            followed.informer.add_handler(_OnPods(followed))
            self._nodes[node] = followed
        return followed

    def _follow_attachments(self) -> _Followed | None:
        followed = self._follow(VOLUME_ATTACHMENTS, _slim_attachment)
        if followed is not None:
            followed.informer.add_indexer("node", _attached_to)
            followed.informer.add_handler(_OnAttachments(followed))
            self._attachments = followed
        return followed

    def _follow(self, resource: Resource, transform: Transform, fields: str = "") -> _Followed | None:
        if self._group is None:
            return None
        informer = Informer(self._client, Selection(resource, field_selector=fields), transform=transform)
        followed = _Followed(informer, self._clock.now())
        # A context of its own: what the informer logs does not belong to the pass that began it.
        followed.task = self._group.create_task(
            _run(followed), name=f"drain of {fields or resource}", context=Context()
        )
        return followed

    def _let_go(self, owner: Owner) -> None:
        for node, followed in tuple(self._nodes.items()):
            followed.wakes.pop(owner, None)
            if not followed.wakes:
                followed.stop()
                del self._nodes[node]
        if self._attachments is not None:
            self._attachments.wakes.pop(owner, None)
            if not self._attachments.wakes:
                self._attachments.stop()
                self._attachments = None

    # -- asking pods to go ------------------------------------------------------------------------------------

    async def _ask(self, node: str, requests: list[tuple[Pod, int, Any]]) -> PodsOnNode:
        followed = self._nodes.get(node)
        if followed is None:
            return PodsOnNode()
        for pod, grace, send in requests:
            refusal = await send(pod, grace)
            if refusal is None:
                ends = self._clock.wall() + timedelta(seconds=grace)
                followed.asked[pod.uid] = (ends, self._clock.now() + SEEN_WITHIN)
                followed.refused.pop(pod.uid, None)
            else:
                text, least = refusal
                before = followed.refused.get(pod.uid)
                pause = FIRST_RETRY if before is None else min(LAST_RETRY, 2 * before.pause)
                followed.refused[pod.uid] = _Refusal(text, self._clock.now() + max(pause, least), pause)
        return self._seen(followed, [pod.cached_view(read_pod) for pod in followed.informer.lister.list()])

    async def _evict(self, pod: Pod, grace: int) -> tuple[str, float] | None:
        """None: it goes, or is gone. Else why not, and the seconds the API server wants to be left in peace."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        try:
            await self._evictor.create(PODS, body, subresource="eviction")
        except (NotFound, Conflict):
            pass  # gone, or another pod of that name
        except ApiError as error:
            budget = error.status == 429 or "PodDisruptionBudget" in error.message
            self.evictions[REFUSED if budget else FAILED] += 1
            return _said(error), error.retry_after or 0.0
        except TransportError as error:
            self.evictions[FAILED] += 1
            return str(error), 0.0
        self.evictions[EVICTED] += 1
        return None

    async def _delete(self, pod: Pod, grace: int) -> tuple[str, float] | None:
        try:
            await self._client.delete(PODS, pod.name, pod.namespace, uid=pod.uid, grace_period=grace)
        except Conflict:
            pass
        except ApiError as error:
            return _said(error), error.retry_after or 0.0
        except TransportError as error:
            return str(error), 0.0
        return None

    def _seen(self, followed: _Followed, pods: list[Pod]) -> PodsOnNode:
        """The pods, with what was asked of them and has not been seen yet."""
        now, here = self._clock.now(), {pod.uid for pod in pods}
        followed.asked = {uid: each for uid, each in followed.asked.items() if uid in here and each[1] > now}
        followed.refused = {uid: each for uid, each in followed.refused.items() if uid in here}
        shown = tuple(
            replace(pod, ends=followed.asked[pod.uid][0])
            if pod.uid in followed.asked and (pod.ends is None or pod.ends > followed.asked[pod.uid][0])
            else pod
            for pod in pods
        )
        waits = {uid: each for uid, each in followed.refused.items() if each.until > now}
        retry = min((each.until - now for each in waits.values()), default=None)
        return PodsOnNode(shown, refused={uid: each.text for uid, each in waits.items()}, retry=retry)

    async def _bound(self, followed: _Followed, pod: Pod, claim: str) -> str:
        """The PersistentVolume behind a pod's claim; "" where there is none. Raises what a client raises."""
        key = (pod.namespace, claim)
        if key not in followed.bound:
            try:
                found = await self._client.get(PVCS, claim, pod.namespace)
            except NotFound:
                found = {}
            followed.bound[key] = (found.get("spec") or {}).get("volumeName") or ""
        return followed.bound[key]


async def _run(followed: _Followed) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(followed.informer.run())
        await followed.informer.wait_synced()
        followed.wake()


class _OnPods:
    """Wakes whoever drains the Node when a pod that matters comes, changes or goes."""

    def __init__(self, followed: _Followed) -> None:
        self._followed = followed

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        if not initial:
            self._followed.wake()

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        if old.cached_view(read_pod) != new.cached_view(read_pod):
            self._followed.wake()

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self._followed.wake()


class _OnAttachments:
    """Wakes everybody who waits for volumes when one is detached: few do, and not often."""

    def __init__(self, followed: _Followed) -> None:
        self._followed = followed

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        """One more volume ends no wait."""

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        """What an attachment is for never changes."""

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self._followed.wake()


def _slim_attachment(attachment: CachedObject) -> CachedObject:
    tree = attachment.decode()
    metadata, spec = tree["metadata"], tree.get("spec") or {}
    kept = {
        "metadata": {key: metadata[key] for key in ("name", "uid", "resourceVersion") if key in metadata},
        "spec": {key: spec[key] for key in ("nodeName", "source") if key in spec},
    }
    return CachedObject.from_dict(kept, attachment.resource)


def _attached_to(attachment: CachedObject) -> tuple[str, ...]:
    node = (attachment.decode().get("spec") or {}).get("nodeName")
    return (node,) if node else ()


def _volume(attachment: CachedObject) -> str:
    source = (attachment.decode().get("spec") or {}).get("source") or {}
    return source.get("persistentVolumeName") or ""


def _said(error: ApiError) -> str:
    """What the API server said, the budget's own words first."""
    causes = error.details.get("causes") or ()
    words = [str(each["message"]) for each in causes if isinstance(each, dict) and each.get("message")]
    return " ".join(words) or error.message
