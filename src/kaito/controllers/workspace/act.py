"""Step three: the only place of this controller that writes.

It does what the Decision says and adds no opinion. What it knows itself is how to write safely: claims are created and
never overwritten, everything else is applied with only the fields we mean, a deletion names the uid it is meant for,
the status is one merge patch of what changed on top of the version that was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kaito.api.labels import (
    NODEPOOL_LABEL,
    WORKSPACE_FINALIZER,
    WORKSPACE_LABEL,
    WORKSPACE_NAMESPACE_LABEL,
    WORKSPACE_UID_LABEL,
)
from kaito.api.resources import MACHINES, NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.look import not_made
from kaito.controllers.workspace.decide.pool import of_pool, whose
from kaito.controllers.workspace.decide.status import refused_status
from kaito.controllers.workspace.model import (
    Decision,
    Deletion,
    Event,
    Object,
    Write,
    deleting,
    labels_of,
    metadata,
)
from kaito.controllers.workspace.names import LABEL_LIMIT, pool_name
from kaito.runtime.client import Client, PatchType
from kaito.runtime.clock import Clock
from kaito.runtime.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound
from kaito.runtime.events import EventRecorder
from kaito.runtime.finalizers import add_finalizer, remove_finalizer
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.result import Result

REFUSALS: Final = frozenset({400, 403, 404, 413, 422})
"""Answers to a write that the same write will get again: the user has to know."""
UNREADABLE_APPLY: Final = "failed to create typed patch object"
"""In the answer, a 500, to a server-side apply of what does not fit the schema."""
CHECK_AGAIN: Final = 1.0
"""Seconds until another look when the cache did not show a claim that is there."""
CLAIM_KINDS: Final = (MACHINES, NODECLAIMS)
"""What may have been bought for a Workspace, whatever `--node-provisioner` says now."""


@dataclass(slots=True)
class Pass:
    """What came of one pass: what the server refused first, and the status that the Workspace has now."""

    refusal: ApiError | None = None
    refused: Write | None = None
    unmade: tuple[Write, str] | None = None
    """A child that the Workspace goes on without, and why the server refused it."""
    status: Object | None = None
    """None where it was left as it is."""


class Actor:
    """Carries out decisions, one at a time for each Workspace."""

    def __init__(
        self, client: Client, recorder: EventRecorder, clock: Clock, config: WorkspaceConfig
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._config = config
        self._status_times: dict[str, float] = {}
        self._status_versions: dict[str, str] = {}
        self._missed: set[str] = set()

    def forget(self, uid: str) -> None:
        """The Workspace is gone."""
        self._status_times.pop(uid, None)
        self._status_versions.pop(uid, None)
        self._missed.discard(uid)

    def wrote(self, workspace: CachedObject) -> bool:
        """Whether this version of the Workspace is our own last write of its status, and so no news."""
        return self._status_versions.get(workspace.meta.uid) == workspace.meta.resource_version

    async def act(
        self, workspace: CachedObject, old: Object, decision: Decision, done: Pass
    ) -> Result | None:
        """Carry the decision out; `old` is the decoded Workspace it was made from.

        Raises ApiError and TransportError; everything already done is safe to do again.
        """
        if decision.finalizer == "add":
            await add_finalizer(self._client, WORKSPACES, workspace, WORKSPACE_FINALIZER)
            return (
                None  # the change brings the key back, and nothing is made that a deletion could leave behind
            )
        if decision.replaces is not None and await self._has_others(workspace, decision.replaces):
            return Result(requeue_after=CHECK_AGAIN)
        missed = workspace.meta.uid in self._missed
        if (missed or decision.confirm) and not await self._is_there(workspace):
            return None  # its end is on the way to the cache
        self._missed.discard(workspace.meta.uid)
        for write in decision.writes:
            await self._write(workspace, old, write, done)
        for deletion in decision.deletions:
            await self._delete(deletion)
        if decision.finalizer == "remove":
            return await self._release(workspace)
        result = await self._status(workspace, old, decision, done)
        if done.refusal is not None:
            raise done.refusal
        return result

    async def end_orphans(self, key: ObjectKey, deletions: Sequence[Deletion]) -> None:
        """Delete claims of a Workspace that the cache does not have, if the server does not have it either."""
        if not deletions:
            return
        try:
            if await self._client.list(WORKSPACES, key.namespace, field_selector=f"metadata.name={key.name}"):
                return  # it comes into the cache, and then brings its key back
        except NotFound:
            return  # Workspaces themselves are not served: that says nothing about this one
        for deletion in deletions:
            await self._delete(deletion)

    async def _is_there(self, workspace: CachedObject) -> bool:
        """Whether the server still has this very Workspace, and nobody asked for it to go."""
        selector = f"metadata.name={workspace.meta.name}"
        found = await self._client.list(WORKSPACES, workspace.meta.namespace, field_selector=selector)
        return any(metadata(each)["uid"] == workspace.meta.uid and not deleting(each) for each in found)

    async def _has_others(self, workspace: CachedObject, known: frozenset[str]) -> bool:
        """Whether the server has claims of the Workspace besides these, on their way out not counted."""
        resource = self._config.node_provisioner.claims
        if resource is None:
            return False
        meta = workspace.meta
        live = await self._client.list(resource, label_selector=_of(meta.name, meta.namespace))
        return any(metadata(claim)["uid"] not in known and not deleting(claim) for claim in live)

    async def _write(self, workspace: CachedObject, old: Object, write: Write, done: Pass) -> None:
        if write.before is not None:
            self._emit(old, write.before)
        try:
            answer = await self._send(write)
        except ApiError as error:
            if not _refuses(error):
                raise
            if write.optional:
                done.unmade = write, error.message
            elif done.refusal is None:
                done.refusal, done.refused = error, write
            return
        if write.event is not None and answer is not None:
            self._emit(old, write.event)

    async def _send(self, write: Write) -> Object | None:
        """The server's answer; None for a claim that had been created before."""
        resource, body = write.resource, write.body
        meta = metadata(body)
        if write.verb == "apply":
            return await self._client.apply(resource, body)
        if write.verb == "adopt":
            patch = [
                {"op": "add", "path": "/spec/template", "value": body["spec"]["template"]},
                {"op": "add", "path": "/spec/replicas", "value": body["spec"]["replicas"]},
            ]
            await self._client.patch(
                resource, meta["name"], meta.get("namespace"), patch=patch, patch_type=PatchType.JSON
            )
            return await self._client.apply(resource, body)
        try:
            return await self._client.create(resource, body)
        except AlreadyExists:
            if write.optional:
                return None  # made a moment ago: its name is that of this very look
            live = await self._client.get(resource, meta["name"], meta.get("namespace"))
            if labels_of(live).get(WORKSPACE_UID_LABEL) != labels_of(body).get(WORKSPACE_UID_LABEL):
                raise
            return None

    async def _delete(self, deletion: Deletion) -> None:
        try:
            await self._client.delete(
                deletion.resource,
                deletion.name,
                deletion.namespace,
                propagation=deletion.propagation,
                uid=deletion.uid,
            )
        except Conflict:
            return  # the one that was meant is gone; this is a namesake

    async def _status(
        self, workspace: CachedObject, old: Object, decision: Decision, done: Pass
    ) -> Result | None:
        wanted, events = decision.status, decision.events
        after = Result(requeue_after=decision.requeue_after) if decision.requeue_after is not None else None
        if wanted is None:
            return after
        if done.refusal is not None and done.refused is not None:
            wanted, events = refused_status(
                old,
                wanted,
                done.refused.resource.kind,
                metadata(done.refused.body)["name"],
                done.refusal.message,
                self._clock.wall(),
            )
        if done.unmade is not None:
            wanted, more = not_made(wanted, done.unmade[0].body, done.unmade[1])
            events = (*events, *more)
        before = old.get("status") or {}
        patch = merge_patch(before, wanted)
        if not patch:
            return after
        wait = 0.0 if events else self._hold_back(workspace.meta.uid, before, wanted)
        if wait > 0:
            return Result(requeue_after=min(wait, decision.requeue_after or wait))
        meta = workspace.meta
        try:
            answer = await self._client.patch_status(
                WORKSPACES, meta.name, meta.namespace, patch, resource_version=meta.resource_version
            )
        except NotFound:
            self._missed.add(meta.uid)  # what was made for it is swept away, which brings the key back
            return None
        except Conflict:
            return Result(requeue_after=0)  # decided from an old version: again, after a moment
        done.status = wanted
        self._status_versions[meta.uid] = str(metadata(answer).get("resourceVersion") or "")
        self._status_times[meta.uid] = self._clock.now()
        for event in events:
            self._emit(old, event)
        return after

    def _hold_back(self, uid: str, before: Object, wanted: Object) -> float:
        """Seconds by which a change of words alone is put off, so that a busy start does not become many writes."""
        last = self._status_times.get(uid)
        if last is None or headline(before) != headline(wanted):
            return 0.0
        return last + self._config.status_interval - self._clock.now()

    async def _release(self, workspace: CachedObject) -> Result | None:
        """Take the finalizer away, once the server itself says that nothing is left: a cache may be behind, and an
        operator that ran with another `--node-provisioner` may have left claims of the other kind, or a pool."""
        pools = await self._pools(workspace)
        found = [(NODEPOOLS, pool) for pool in pools]
        for resource in CLAIM_KINDS:
            found += [(resource, claim) for claim in await self._claims(resource, workspace)]
        for resource, each in found:
            if not deleting(each) and not any(of_pool(each, pool) for pool in pools):
                meta = metadata(each)
                await self._client.delete(resource, meta["name"], uid=meta["uid"])
        if found:
            return Result(requeue_after=CHECK_AGAIN)
        await remove_finalizer(self._client, WORKSPACES, workspace, WORKSPACE_FINALIZER)
        self.forget(workspace.meta.uid)
        return None

    async def _claims(self, resource: Resource, workspace: CachedObject) -> list[Object]:
        """The Workspace's claims of one kind, from the server; those without a uid are the Go KAITO's."""
        meta = workspace.meta
        selector = f"{WORKSPACE_UID_LABEL}={meta.uid}"
        if len(meta.name) <= LABEL_LIMIT:  # a longer name is in no label
            selector = _of(meta.name, meta.namespace)
        selectors = [selector]
        if resource == self._config.node_provisioner.claims and self._config.node_provisioner.pools:
            selectors.append(f"{NODEPOOL_LABEL}={pool_name(meta.namespace or '', meta.name)}")
        try:
            found = [
                each
                for selector in selectors
                for each in await self._client.list(resource, label_selector=selector)
            ]
            return [each for each in found if labels_of(each).get(WORKSPACE_UID_LABEL) in (meta.uid, None)]
        except (NotFound, Forbidden):
            if resource == self._config.node_provisioner.claims:
                raise
            return []  # this cluster does not have the other kind, or never let this operator make one

    async def _pools(self, workspace: CachedObject) -> list[Object]:
        """The Workspace's NodePool, from the server."""
        name = pool_name(workspace.meta.namespace or "", workspace.meta.name)
        try:
            found = await self._client.list(NODEPOOLS, field_selector=f"metadata.name={name}")
            return [pool for pool in found if whose(pool, workspace.decode()) == "ours"]
        except (NotFound, Forbidden):
            if self._config.node_provisioner.pools is not None:
                raise
            return []  # as with claims of the other kind

    def _emit(self, workspace: Object, event: Event) -> None:
        self._recorder.event(workspace, event.type, event.reason, event.message)


def _refuses(error: ApiError) -> bool:
    """Whether the same write will get the same answer."""
    if isinstance(error, AlreadyExists) or error.status in REFUSALS:
        return True
    return error.status == 500 and UNREADABLE_APPLY in error.message


def _of(name: str, namespace: str | None) -> str:
    """Selector of a Workspace's claims."""
    return f"{WORKSPACE_LABEL}={name},{WORKSPACE_NAMESPACE_LABEL}={namespace}"


def merge_patch(before: Object, after: Object) -> Object:
    """The merge patch (RFC 7386) that turns one into the other; empty when they are equal."""
    patch: Object = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        patch[key] = merge_patch(old, new) if isinstance(old, dict) and isinstance(new, dict) else new
    return patch


def headline(status: Object) -> Any:
    """What of a status must be told at once: which conditions hold, the state, the claims' attempts, and what is kept
    for the next pass to follow from."""
    conditions = frozenset((each["type"], each["status"]) for each in status.get("conditions") or ())
    attempts = tuple((each.get("slot"), each.get("attempt")) for each in status.get("nodes") or ())
    return conditions, status.get("state"), attempts, status.get("resolved")
