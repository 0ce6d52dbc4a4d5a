"""Nodes by way of a NodePool (`--node-provisioner=karpenter`): how many it is asked for, and what came of it.

A Karpenter makes, replaces and names the claims; here they are only counted. The pool is made once and then belongs to
its administrator but for `spec.replicas`, which rises with the need and falls only when the Workspace asks for fewer
nodes: a node that comes back must not cost another one its life. What is there without the pool counts first: nodes
with the Workspace's labels that nobody made for it, and claims from before.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import orjson

from kaito.api.labels import (
    INSTANCE_TYPE_LABEL,
    KARPENTER_WORKSPACE_LABEL,
    NODE_SLOT_LABEL,
    NODEPOOL_LABEL,
    WORKSPACE_LABEL,
    WORKSPACE_UID_LABEL,
)
from kaito.api.resources import NODECLAIMS, NODEPOOLS
from kaito.catalog import Catalog
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.claims import AWAITING, claim_ready, failure, progress
from kaito.controllers.workspace.decide.existing import fault_of
from kaito.controllers.workspace.decide.failures import sentences, with_failure
from kaito.controllers.workspace.decide.judge import Judge
from kaito.controllers.workspace.decide.node_state import NodesOutcome, Part, waiting
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.pool import (
    not_served,
    of_pool,
    patience_left,
    pool_manifest,
    pool_problem,
    replicas_manifest,
    whose,
)
from kaito.controllers.workspace.decide.tolerations import Landing
from kaito.controllers.workspace.decide.wanted import Problem, node_class_problem
from kaito.controllers.workspace.model import (
    Deletion,
    Event,
    Object,
    Observed,
    Write,
    deleting,
    labels_of,
    metadata,
)
from kaito.controllers.workspace.names import pool_name
from kaito.controllers.workspace.node_facts import NodeFacts


@dataclass(frozen=True, slots=True)
class Slot:
    """One wanted node: the claim that stands for it, and what the status remembers."""

    number: int
    attempt: int
    claim: Object | None
    failures: tuple[Object, ...]
    was_ready: bool


def _as_made(plan: Plan, pool: Object | None, catalog: Catalog) -> Plan:
    """The plan on sizes that serve alike: on those of the pool, which keeps what it was made with, where there is one.

    Otherwise a pool of large machines would be scaled to as many as are needed of small ones.
    """
    alike = plan.alike()
    made = _sizes_of(pool) if pool is not None else []
    if pool is None or not made or alike.choice is None or alike.choice.instance_type in made:
        return alike
    return plan.running(made[0], 0, int(pool["spec"].get("replicas") or 1), catalog).alike()


def _sizes_of(pool: Object) -> list[str]:
    spec = (((pool.get("spec") or {}).get("template") or {}).get("spec")) or {}
    for requirement in spec.get("requirements") or ():
        if requirement.get("key") == INSTANCE_TYPE_LABEL and requirement.get("operator", "In") == "In":
            return list(requirement.get("values") or ())
    return []


class PoolPass:
    """One pass over a Workspace's pool; collects what is to be done."""

    def __init__(
        self, observed: Observed, plan: Plan, catalog: Catalog, config: WorkspaceConfig, now: datetime
    ) -> None:
        self._observed = observed
        self._config = config
        self._now = now
        found = observed.pool
        self._whose = whose(found, observed.workspace) if found is not None else None
        self._pool = found if self._whose == "ours" else None
        self._plan = _as_made(plan, self._pool, catalog)
        self._judge = Judge(observed, self._plan, catalog)
        present = [claim for claim in observed.claims if not deleting(claim)]
        self._pooled = [claim for claim in present if of_pool(claim, self._pool)]
        self._before = sorted((claim for claim in present if self._is_before(claim)), key=_slot_label)
        self._writes: list[Write] = []
        self._deletions: list[Deletion] = []

    @property
    def has_claims(self) -> bool:
        """Whether anything was asked for already."""
        return self._pool is not None or bool(self._before)

    def decide(self) -> NodesOutcome:
        others = self._covering()
        before = self._keep_before()
        obstacle = self._obstacle()
        if obstacle is None:
            self._scale(max(0, self._plan.count - len(others) - len(before)))
        needed = max(0, self._plan.count - len(others))
        claims = sorted([*before, *self._pooled], key=_age)
        slots = self._slots(claims, min(self._plan.count, max(needed, len(claims))))
        silent = self._unserved(slots)
        parts = [self._part(slot, obstacle) for slot in slots]
        outcome = waiting(parts, self._plan, "NodeClaim", [name for name, _ in others])
        wait = patience_left(self._pool, self._now) if self._pool is not None else 0.0
        return replace(
            outcome,
            claims=self._claims_part(slots, claims, needed, obstacle, silent),
            instance_type=outcome.instance_type or next((size for _, size in others), ""),
            writes=tuple(self._writes),
            deletions=tuple(self._deletions),
            requeue_after=wait if wait > 0 and self._awaits_first(slots) else None,
            plan=self._plan,
        )

    # --- the pool -------------------------------------------------------------------------------------------

    def _obstacle(self) -> Problem | None:
        """Why the pool can neither be made nor changed for now."""
        found = self._observed.pool
        if found is None:
            return node_class_problem(self._observed.workspace, self._config)
        name = metadata(found)["name"]
        if deleting(found):
            return Problem("NodeClaimNotReady", f"the former NodePool {name} is being deleted")
        if self._whose == "other":
            return Problem(
                "NameTaken",
                f"a NodePool {name} exists already and is not this Workspace's: delete it, or give the Workspace "
                "another name",
            )
        if self._whose == "earlier":
            meta = metadata(found)
            self._deletions.append(Deletion(NODEPOOLS, None, meta["name"], meta["uid"]))
            return Problem("NodeClaimNotReady", f"NodePool {name} of a former Workspace is being deleted")
        if (found.get("spec") or {}).get("replicas") is None:
            return Problem(
                "NameTaken", f"NodePool {name} has no spec.replicas, and it cannot be added later: delete it"
            )
        return None

    def _scale(self, wanted: int) -> None:
        pool, plan = self._pool, self._plan
        name = pool_name(plan.namespace, plan.name)
        if pool is None:
            if wanted:
                body = pool_manifest(self._observed.workspace, plan, self._config, wanted)
                sizes = ", ".join(size.name for size in plan.sizes)
                text = f"asked for {_nodes(wanted)}: NodePool {name}, {sizes}"
                event = Event("Normal", "NodePoolCreated", text)
                self._writes.append(Write(NODEPOOLS, body, "create", event))
            return
        has = int(pool["spec"]["replicas"])
        before = (self._observed.workspace.get("status") or {}).get("targetNodeCount") or plan.count
        if wanted > has or (plan.count < before and wanted < has):
            event = Event("Normal", "NodePoolScaled", f"NodePool {name}: {_nodes(wanted)} instead of {has}")
            self._writes.append(Write(NODEPOOLS, replicas_manifest(pool, wanted), event=event))

    # --- what is there without it ---------------------------------------------------------------------------

    def _is_before(self, claim: Object) -> bool:
        """Whether the claim was made for this Workspace by an operator that makes them itself."""
        labels = labels_of(claim)
        return WORKSPACE_LABEL in labels and labels.get(WORKSPACE_UID_LABEL) in (self._plan.uid, None)

    def _keep_before(self) -> list[Object]:
        """Claims from before that still count: neither failed for good nor more than are wanted."""
        kept: list[Object] = []
        for claim in self._before:
            if failure(claim) is None and len(kept) < self._plan.count:
                kept.append(claim)
            else:
                meta = metadata(claim)
                self._deletions.append(Deletion(NODECLAIMS, None, meta["name"], meta["uid"]))
        return kept

    def _covering(self) -> tuple[tuple[str, str], ...]:
        """(name, machine size) of nodes with the Workspace's labels that nobody made for any Workspace, no more than
        are wanted."""
        landing = Landing.of(self._plan.template)
        sizes = {size.name: self._judge.gpus(size.name) for size in self._plan.sizes}
        most = self._plan.count

        def find(nodes: Sequence[NodeFacts]) -> tuple[tuple[str, str], ...]:
            fit = (
                (node.name, size)
                for node in nodes
                if (size := node.labels.get(INSTANCE_TYPE_LABEL, "")) in sizes
                and not _made_for_somebody(node.labels)
                and fault_of(node, sizes[size], "", landing) is None
            )
            return tuple(itertools.islice(fit, most))

        question = ("covering", most, orjson.dumps([sizes, landing]))
        return self._observed.existing.answer(question, find)

    # --- what came of it ------------------------------------------------------------------------------------

    def _slots(self, claims: Sequence[Object], count: int) -> list[Slot]:
        """Every claim keeps the slot that the status knows it by; others take the first that are free."""
        entries = {int(each.get("slot") or 0): each for each in self._entries()}
        known = {entry.get("claimUID"): number for number, entry in entries.items() if number < count}
        placed: dict[int, Object] = {}
        strangers: list[Object] = []
        for claim in claims:
            number = known.get(metadata(claim)["uid"])
            if number is None:
                strangers.append(claim)
            else:
                placed[number] = claim
        free = (number for number in range(count) if number not in placed)
        placed.update(zip(list(free), strangers, strict=False))
        return [_slot(number, placed.get(number), entries.get(number, {})) for number in range(count)]

    def _entries(self) -> Sequence[Mapping[str, Any]]:
        return (self._observed.workspace.get("status") or {}).get("nodes") or ()

    def _part(self, slot: Slot, obstacle: Problem | None) -> Part:
        entry: Object = {"slot": slot.number, "attempt": slot.attempt}
        if slot.failures:
            entry["failures"] = list(slot.failures)
        if slot.claim is not None:
            entry["claimName"] = metadata(slot.claim)["name"]
            stage = progress([slot.claim])
            return self._judge.part(slot.claim, entry, stage, was_ready=slot.was_ready)
        if self._plan.sizes:
            entry["instanceType"] = self._plan.sizes[0].name
        said = obstacle or self._last_words([slot]) or self._own_problem()
        if said is None:
            name = pool_name(self._plan.namespace, self._plan.name)
            said = Problem("NodeClaimNotReady", f"a NodeClaim of NodePool {name} is awaited")
        return Part(entry, "Pending", said.reason, said.message)

    def _claims_part(
        self,
        slots: Sequence[Slot],
        claims: Sequence[Object],
        needed: int,
        obstacle: Problem | None,
        silent: Problem | None,
    ) -> Part:
        """The condition NodeClaimReady."""
        ready = sum(map(claim_ready, claims))
        if ready >= needed:
            return Part({}, "Ready", "NodeClaimsReady", f"{ready} of {needed} ready")
        stage = progress(claims)
        if stage is not None and stage.reason != AWAITING:
            return Part({}, "Pending", stage.reason, stage.message)
        broken = obstacle or self._own_problem() or silent
        if broken is not None:
            waits = broken.reason == "NodeClaimNotReady"
            state: Literal["Pending", "Failed"] = "Pending" if waits else "Failed"
            return Part({}, state, broken.reason, broken.message)
        told = self._last_words(slots) or stage
        if told is not None:
            return Part({}, "Pending", told.reason, told.message)
        text = f"{ready} of {needed} NodeClaims ready"
        if len(claims) < needed:
            name = pool_name(self._plan.namespace, self._plan.name)
            text += f"; {needed - len(claims)} of NodePool {name} are still to be made by its Karpenter"
        return Part({}, "Pending", "NodeClaimNotReady", text)

    def _own_problem(self) -> Problem | None:
        return pool_problem(self._pool) if self._pool is not None else None

    @staticmethod
    def _last_words(slots: Sequence[Slot]) -> Problem | None:
        """What the claims said that their Karpenter has taken away since, where no other is there yet."""
        failures = next((slot.failures for slot in slots if slot.claim is None and slot.failures), ())
        if not failures:
            return None
        return Problem(str(failures[-1].get("reason")), sentences(failures))

    def _awaits_first(self, slots: Sequence[Slot]) -> bool:
        """Whether the pool is asked for nodes and no claim has ever come of it, as far as is known."""
        return (
            self._pool is not None
            and not self._pooled
            and bool((self._pool.get("spec") or {}).get("replicas"))
            and not any(slot.attempt or slot.failures for slot in slots)
        )

    def _unserved(self, slots: Sequence[Slot]) -> Problem | None:
        if self._pool is None or not self._awaits_first(slots) or patience_left(self._pool, self._now) > 0:
            return None
        return not_served(self._pool, int(self._pool["spec"]["replicas"]))


def _slot(number: int, claim: Object | None, entry: Mapping[str, Any]) -> Slot:
    attempt, failures = entry.get("attempt") or 0, tuple(entry.get("failures") or ())
    was_ready = entry.get("state") in ("Ready", "NotReady")
    seen = entry.get("claimUID")
    if seen and (claim is None or metadata(claim)["uid"] != seen):
        attempt += 1
        if not was_ready and entry.get("reason"):
            why = Problem(str(entry["reason"]), str(entry.get("message") or ""))
            failures = with_failure(failures, str(entry.get("instanceType") or ""), why)
        was_ready = False
    return Slot(number, attempt, claim, failures, was_ready)


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _made_for_somebody(labels: Mapping[str, str]) -> bool:
    return any(key in labels for key in (NODEPOOL_LABEL, WORKSPACE_LABEL, KARPENTER_WORKSPACE_LABEL))


def _slot_label(claim: Object) -> tuple[int, str]:
    text = labels_of(claim).get(NODE_SLOT_LABEL) or "0"
    return (int(text) if text.isdecimal() else 0, str(metadata(claim)["name"]))


def _age(claim: Object) -> tuple[str, str]:
    return str(metadata(claim).get("creationTimestamp") or ""), str(metadata(claim)["name"])
