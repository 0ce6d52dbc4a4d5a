"""Nodes: which claims to make and to give up, and whether enough nodes are ready.

Each wanted node is a slot. A slot has one claim at a time; when that is gone or has failed for good, the slot's attempt
rises and the next claim gets another name and, where the user listed several, another machine size. So it does when the
cloud refuses a size that may come later and there is another to try, and once when a node has no GPU. `status.nodes`
keeps slot, attempt and what former attempts said, so every pass after a crash computes the same names and counts on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from kaito.api.labels import (
    DESIRED_HASH_ANNOTATION,
    NODE_ATTEMPT_LABEL,
    NODE_SLOT_LABEL,
    WORKSPACE_UID_LABEL,
)
from kaito.api.reasons import DEAD_GPU
from kaito.catalog import Catalog
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.claims import (
    claim_manifest,
    claim_ready,
    dead_gpu,
    failure,
    instance_type,
    progress,
    refusal,
    retired,
)
from kaito.controllers.workspace.decide.existing import decide_existing
from kaito.controllers.workspace.decide.failures import failed_before, no_longer, sentences, with_failure
from kaito.controllers.workspace.decide.judge import Judge
from kaito.controllers.workspace.decide.node_state import NodesOutcome, Part, waiting
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.pools import PoolPass
from kaito.controllers.workspace.decide.slots import Slot
from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.decide.workload import rolled_out
from kaito.controllers.workspace.model import (
    Deletion,
    Event,
    Object,
    Observed,
    Write,
    annotations_of,
    deleting,
    labels_of,
    metadata,
)
from kaito.controllers.workspace.names import claim_name
from kaito.runtime.clock import rfc3339
from kaito.runtime.resources import Resource


def decide_nodes(
    observed: Observed,
    plan: Plan,
    catalog: Catalog,
    config: WorkspaceConfig,
    now: datetime,
    hold: Problem | None = None,
) -> NodesOutcome:
    """Claims to write and delete, and the state of the nodes. `hold`: why no first node is asked for yet."""
    resource = config.node_provisioner.claims
    if resource is None:
        return decide_existing(observed, plan, catalog)
    if config.node_provisioner.pools is not None:
        pool = PoolPass(observed, plan, catalog, config, now)
        return pool.decide() if hold is None or pool.has_claims else _held(observed, hold)
    claims = _Claims(observed, plan, catalog, config, now, resource)
    return claims.decide() if hold is None or claims.has_claims else _held(observed, hold)


def _held(observed: Observed, hold: Problem) -> NodesOutcome:
    """No claim exists and none is made; what the status remembers of attempts stays."""
    pending = hold.reason in ("AdapterPending", "WeightsLookup")
    when = "known" if pending else "mended"
    message = f"no node is asked for before this is {when}: {hold.message}"
    part = Part({}, "Pending" if pending else "Failed", hold.reason, message)
    entries = (observed.workspace.get("status") or {}).get("nodes") or ()
    return NodesOutcome(nodes=part, claims=part, entries=tuple(entries))


class _Claims:
    """One pass over the slots; collects what is to be done."""

    def __init__(
        self,
        observed: Observed,
        plan: Plan,
        catalog: Catalog,
        config: WorkspaceConfig,
        now: datetime,
        resource: Resource,
    ) -> None:
        self._observed = observed
        self._config = config
        self._now = now
        self._resource = resource
        self._mine = {
            metadata(claim)["name"]: claim
            for claim in observed.claims
            if labels_of(claim).get(WORKSPACE_UID_LABEL) in (plan.uid, None)
        }
        self._plan = self._as_made(plan, catalog)
        self._judge = Judge(observed, self._plan, catalog)
        self._used: set[str] = set()
        self._writes: list[Write] = []
        self._deletions: list[Deletion] = []
        self._lost = False
        self._retries: list[float] = []

    @property
    def has_claims(self) -> bool:
        """Whether the Workspace has claims, be they on their way out."""
        return bool(self._mine)

    def decide(self) -> NodesOutcome:
        slots = self._in_step([self._slot(number) for number in range(self._plan.most_nodes)])
        slots = self._in_step([self._settle(slot) for slot in slots])
        slots = [slot if slot.claim is not None else self._ask(slot) for slot in slots]
        self._drop_surplus()
        parts = [self._part(slot) for slot in slots]
        outcome = waiting(parts, self._plan, self._resource.kind)
        live = [slot.claim for slot in slots if slot.claim is not None]
        claims = self._claims_part(slots, live)
        return replace(
            outcome,
            claims=claims,
            writes=tuple(self._writes),
            deletions=tuple(self._deletions),
            replaces=self._known() if self._lost or self._asks_again() else None,
            requeue_after=min(self._retries, default=None),
            plan=self._plan,
        )

    def _as_made(self, plan: Plan, catalog: Catalog) -> Plan:
        """The plan in which attempts have the sizes that claims were made with for them."""
        made = [
            (int(text), name)
            for claim in self._mine.values()
            if not deleting(claim)
            and WORKSPACE_UID_LABEL in labels_of(claim)
            and (text := labels_of(claim).get(NODE_ATTEMPT_LABEL) or "0").isdecimal()
            and (name := instance_type(claim))
        ]
        if not made:
            return plan
        newest = max(made)
        return plan.running(newest[1], newest[0], made.count(newest), catalog)

    def _in_step(self, slots: list[Slot]) -> list[Slot]:
        """The slots that are wanted. Where sizes serve the model in different ways all go on to the size of the newest
        attempt, and their number is what the model needs on that one."""
        if not self._plan.together:
            self._plan = self._plan.at(max((slot.attempt for slot in slots), default=0))
            return slots[: self._plan.count]
        lead = max(slots, key=lambda slot: slot.attempt)
        self._plan = self._plan.at(lead.attempt)
        for slot in slots[self._plan.count :]:
            if slot.claim is not None:
                self._used.discard(metadata(slot.claim)["name"])
        more = range(len(slots), self._plan.count)
        slots = [*slots, *(self._slot(number) for number in more)][: self._plan.count]
        return [self._following(slot, lead) for slot in slots]

    def _following(self, slot: Slot, lead: Slot) -> Slot:
        """The slot at the newest attempt, unless it has a node of that size, or of nobody's choice."""
        alike = self._plan.size(slot.attempt) == self._plan.size(lead.attempt)
        if (
            slot.attempt == lead.attempt
            or slot.adopted
            or (alike and (slot.claim is not None or slot.claim_uid))
        ):
            return slot
        if slot.claim is not None:
            self._deletions.append(self._deletion(slot.claim))
        return Slot(slot.number, lead.attempt, failed_at=lead.failed_at, failures=slot.failures)

    def _asks_again(self) -> bool:
        """Whether a node is asked for after the first pass: there may be claims that a cache does not show."""
        return bool(self._writes and self._observed.workspace.get("status"))

    def _known(self) -> frozenset[str]:
        return frozenset(str(metadata(claim)["uid"]) for claim in self._observed.claims)

    def _slot(self, number: int) -> Slot:
        """The slot as the status remembers it, or, where it does not, as the claims' labels tell."""
        for entry in (self._observed.workspace.get("status") or {}).get("nodes") or ():
            if entry.get("slot") == number:
                attempt = entry.get("attempt") or 0
                if (later := self._highest_attempt(number)) > attempt:
                    return Slot(number, later)  # made, and its maker did not live to write it down
                name = entry.get("claimName") or ""
                return Slot(
                    number,
                    attempt,
                    claim_uid=entry.get("claimUID") or "",
                    was_ready=entry.get("state") in ("Ready", "NotReady"),
                    reason=entry.get("reason") or "",
                    message=entry.get("message") or "",
                    failed_at=entry.get("failedAt") or "",
                    failures=tuple(entry.get("failures") or ()),
                    adopted="" if name == claim_name(self._plan.uid, number, attempt) else name,
                )
        return Slot(number, attempt=self._highest_attempt(number))

    def _highest_attempt(self, number: int) -> int:
        """The newest attempt that the slot's claims tell of: of those that stay, else of those on their way out."""
        return max(self._attempts(number), default=(False, 0))[1]

    def _attempts(self, number: int) -> list[tuple[bool, int]]:
        """Of each claim of the slot: whether it stays, and its attempt."""
        return [
            (not deleting(claim), int(text))
            for claim in self._mine.values()
            if labels_of(claim).get(NODE_SLOT_LABEL) == str(number)
            and (text := labels_of(claim).get(NODE_ATTEMPT_LABEL) or "0").isdecimal()
        ]

    def _settle(self, slot: Slot) -> Slot:
        """Find the slot's claim, or give it up where that is due; without one the slot's node is to be asked for."""
        claim = self._mine.get(slot.adopted or claim_name(self._plan.uid, slot.number, slot.attempt))
        if claim is None and not slot.claim_uid and (legacy := next(self._unlabelled(), None)) is not None:
            claim = legacy
            slot = replace(slot, adopted=metadata(legacy)["name"])
        if claim is None and slot.claim_uid:
            self._lost = True
            return self._next(slot, self._last_words(slot))
        if claim is None:
            return slot
        self._used.add(metadata(claim)["name"])
        if slot.claim_uid and metadata(claim)["uid"] != slot.claim_uid:
            self._lost = True  # a predecessor of the one that was seen: this cache is older than the status
        broken = self._broken(slot, claim)
        if deleting(claim):
            # Its maker may have been stopped before it wrote down why.
            return self._next(slot, broken or self._last_words(slot))
        if broken is not None:
            self._deletions.append(self._deletion(claim))
            return self._next(replace(slot, was_ready=False), broken)
        return replace(slot, claim=claim, claim_uid=metadata(claim)["uid"])

    def _broken(self, slot: Slot, claim: Object) -> Problem | None:
        """Why the claim is given up: its launch has failed for good, another size may be had, or its node's GPU is dead
        and none has been replaced for that yet."""
        found = failure(claim)
        if found is None and len(self._plan.sizes) > 1:
            found = refusal(claim)
        if found is None and not failed_before(slot.failures, DEAD_GPU):
            found = dead_gpu(claim)
        return found

    @staticmethod
    def _last_words(slot: Slot) -> Problem | None:
        """What the status remembers of a claim that somebody else took away before its node was ready."""
        return Problem(slot.reason, slot.message) if slot.reason and not slot.was_ready else None

    def _next(self, slot: Slot, why: Problem | None) -> Slot:
        """The slot's next attempt. One that had a ready node starts at once, any other after a pause. Nothing is wrong
        with a size whose claim somebody took away: it is asked for again."""
        made = (attempt for _, attempt in self._attempts(slot.number))
        attempt = max((slot.attempt, *made)) + 1
        if why is None or slot.was_ready:
            sizes = max(len(self._plan.sizes), 1)
            attempt += (slot.attempt - attempt) % sizes
        size = self._plan.size(slot.attempt)
        name = size.name if size is not None else ""
        return Slot(
            slot.number,
            attempt,
            reason=why.reason if why is not None else "",
            message=why.message if why is not None else "",
            failed_at="" if slot.was_ready else rfc3339(self._now),
            failures=with_failure(slot.failures, name, why),
        )

    def _ask(self, slot: Slot) -> Slot:
        """Ask for the slot's node unless a pause is on or too many old ones are still going."""
        name = claim_name(self._plan.uid, slot.number, slot.attempt)
        left = slot.pause_left(len(self._plan.sizes), self._now)
        if left > 0:
            self._retries.append(left)
            return slot
        if sum(deleting(claim) for claim in self._mine.values()) > self._plan.count:
            return slot  # their departure brings the key back
        body = claim_manifest(self._observed.workspace, self._plan, self._config, slot.number, slot.attempt)
        size = self._plan.size(slot.attempt)
        text = f"asked for a node: {self._resource.kind} {name}" + (f", {size.name}" if size else "")
        if slot.failures:
            text += f"; {sentences(slot.failures)}"
        self._writes.append(Write(self._resource, body, "create", Event("Normal", "NodeClaimCreated", text)))
        return slot

    def _unlabelled(self) -> Iterator[Object]:
        """Claims of the Go KAITO, which has no uid label, that no slot uses yet."""
        for name, claim in sorted(self._mine.items()):
            if WORKSPACE_UID_LABEL not in labels_of(claim) and name not in self._used and not deleting(claim):
                if any(entry.get("claimName") == name for entry in self._entries()):
                    continue
                yield claim

    def _entries(self) -> list[dict[str, Any]]:
        return list((self._observed.workspace.get("status") or {}).get("nodes") or ())

    def _drop_surplus(self) -> None:
        for name, claim in sorted(self._mine.items()):
            if name not in self._used and not deleting(claim) and self._idle(claim):
                self._deletions.append(self._deletion(claim))

    def _idle(self, claim: Object) -> bool:
        """Whether a claim that fills no slot is of no use. One of the Go KAITO, which chose the number of nodes by
        itself, may be until a workload of ours runs elsewhere."""
        if WORKSPACE_UID_LABEL in labels_of(claim):
            return True
        live = self._observed.stateful_set or self._observed.deployment
        if live is None or DESIRED_HASH_ANNOTATION not in annotations_of(live):
            return False
        node = (claim.get("status") or {}).get("nodeName")
        taken = [(pod.get("spec") or {}).get("nodeName") for pod in self._observed.pods]
        return rolled_out(live, self._plan.count)[0] and node not in taken

    def _deletion(self, claim: Object) -> Deletion:
        meta = metadata(claim)
        return Deletion(self._resource, None, meta["name"], meta["uid"])

    def _part(self, slot: Slot) -> Part:
        """What the status says of the slot."""
        name = slot.adopted or claim_name(self._plan.uid, slot.number, slot.attempt)
        size = self._plan.size(slot.attempt)
        entry: Object = {"slot": slot.number, "attempt": slot.attempt, "claimName": name}
        if slot.failed_at:
            entry["failedAt"] = slot.failed_at
        if slot.failures:
            entry["failures"] = list(slot.failures)
        if slot.claim is None:
            if size is not None:
                entry["instanceType"] = size.name
            paused = slot.failed_at and slot.pause_left(len(self._plan.sizes), self._now) > 0
            state: Literal["Pending", "Failed"] = "Failed" if paused else "Pending"
            reason = slot.reason or "NodeClaimNotReady"
            return Part(entry, state, reason, slot.message or f"{self._resource.kind} {name} is being made")
        return self._judge.part(slot.claim, entry, self._stage([slot]), was_ready=slot.was_ready)

    @staticmethod
    def _stage(slots: Sequence[Slot]) -> Problem | None:
        """The first thing that the slots' claims wait for."""
        found = progress([slot.claim for slot in slots if slot.claim is not None])
        if found is None or found.reason != DEAD_GPU:
            return found
        before = next((slot.failures for slot in slots if failed_before(slot.failures, DEAD_GPU)), ())
        return Problem(found.reason, f"{found.message}; {no_longer(before)}")

    def _claims_part(self, slots: list[Slot], live: list[Object]) -> Part:
        """The condition NodeClaimReady."""
        ready = sum(claim_ready(claim) for claim in live)
        if ready >= self._plan.count:
            return Part({}, "Ready", "NodeClaimsReady", f"{ready} of {self._plan.count} ready")
        stage = self._stage(slots)
        failed = next((slot for slot in slots if slot.claim is None and slot.reason), None)
        if stage is not None and (failed is None or stage.reason != "AwaitingReconciliation"):
            return Part({}, "Pending", stage.reason, stage.message)
        if failed is not None:
            size = self._plan.size(failed.attempt - 1) if failed.attempt else None
            note = f"; {retired(size)}" if size is not None and retired(size) else ""
            state: Literal["Pending", "Failed"] = "Failed" if failed.failed_at else "Pending"
            said = sentences(failed.failures) if len(failed.failures) > 1 else failed.message
            return Part({}, state, failed.reason, f"{said}{note}")
        kind = self._resource.kind
        return Part({}, "Pending", "NodeClaimNotReady", f"{ready} of {self._plan.count} {kind}s ready")
