"""Adapters of a Workspace: an Adapter object for each inline one, and whether each can be mounted on the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kaito.api.adapter import READ_BY_POD, READY
from kaito.api.conditions import find_condition
from kaito.api.resources import ADAPTERS
from kaito.catalog import AdapterFacts, Catalog, adapter_fits
from kaito.controllers.workspace.compare import difference
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.children import cut, manifest, ours, write_if_needed
from kaito.controllers.workspace.decide.mounted import AdapterWanted, current
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.decide.weights_source import Baked
from kaito.controllers.workspace.model import (
    Deletion,
    Object,
    Observed,
    Write,
    conditions,
    controller_uid,
    deleting,
    metadata,
)

State = Literal["Pending", "Ready", "Failed"]


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """What has become of one adapter."""

    wanted: AdapterWanted
    state: State
    reason: str
    message: str = ""
    source: Object | None = None
    """Where its files are, once its Adapter is there."""

    def entry(self) -> Object:
        """Its entry in `status.adapters`."""
        entry = {
            "name": self.wanted.name,
            "adapter": self.wanted.object_name,
            "state": self.state,
            "reason": self.reason,
        }
        if self.message:
            entry["message"] = self.message
        return entry


@dataclass(frozen=True, slots=True)
class AdaptersOutcome:
    """All adapters of a Workspace."""

    uses: tuple[AdapterUse, ...] = ()
    writes: tuple[Write, ...] = ()
    deletions: tuple[Deletion, ...] = ()

    @property
    def problem(self) -> Problem | None:
        """Why the model cannot be served as asked yet: the first failure, else the first wait."""
        for state in ("Failed", "Pending"):
            for use in self.uses:
                if use.state == state:
                    return Problem(use.reason, use.message)
        return None


def decide_adapters(
    observed: Observed, plan: Plan, catalog: Catalog, config: WorkspaceConfig
) -> AdaptersOutcome:
    """Adapter objects to write and to delete, and the state of each adapter."""
    uses: list[AdapterUse] = []
    writes: list[Write] = []
    for wanted in plan.adapters:
        live = observed.adapters.get(wanted.object_name)
        if wanted.source is not None:
            if live is not None and not ours(live, observed.workspace):
                uses.append(_name_taken(wanted, plan))
                continue
            body = manifest(
                "adapter",
                observed.workspace,
                {"adapter": {"object_name": wanted.object_name, "source": wanted.source}},
            )
            write = write_if_needed(ADAPTERS, body, live)
            if write is not None:
                writes.append(write)
            if live is not None and difference(body["spec"], live.get("spec") or {}) is not None:
                live = None  # what the old one's status says is not about the new source
        uses.append(_use(wanted, live, plan, catalog, config))
    return AdaptersOutcome(tuple(uses), tuple(writes), _unwanted(observed, plan))


def _unwanted(observed: Observed, plan: Plan) -> tuple[Deletion, ...]:
    """Adapters that we made for entries that are gone. One that a user made is never among them."""
    wanted = {each.object_name for each in plan.adapters if each.source is not None}
    return tuple(
        Deletion(ADAPTERS, plan.namespace, name, metadata(live)["uid"])
        for name, live in sorted(observed.adapters.items())
        if controller_uid(live) == plan.uid and name not in wanted and not deleting(live)
    )


def _name_taken(wanted: AdapterWanted, plan: Plan) -> AdapterUse:
    return AdapterUse(
        wanted,
        "Failed",
        "AdapterNameTaken",
        f"an Adapter {wanted.object_name} exists already and is not this Workspace's: rename "
        f"{wanted.path}.source.name {wanted.name}, or use that Adapter with adapterRef",
    )


def _use(
    wanted: AdapterWanted, live: Object | None, plan: Plan, catalog: Catalog, config: WorkspaceConfig
) -> AdapterUse:
    if live is None and wanted.source is None:
        return AdapterUse(
            wanted,
            "Failed",
            "AdapterNotFound",
            f"there is no Adapter {wanted.object_name} in namespace {plan.namespace}: create it, or correct "
            f"{wanted.path}.adapterRef.name",
        )
    ready = find_condition(conditions(live), READY) if live is not None else None
    if live is None or ready is None or ready.get("status") == "Unknown" or not current(live, ready):
        return AdapterUse(wanted, "Pending", "AdapterPending", f"adapter {wanted.name} is being read")
    if ready.get("status") != "True":
        return _unreadable(wanted, str(ready.get("reason") or ""), str(ready.get("message") or ""))
    use = _judged(wanted, live, plan, catalog, config)
    if use.state == "Ready" and ready.get("reason") == READ_BY_POD:
        return replace(
            use, reason=READ_BY_POD, message=f"adapter {wanted.name} is read by the pod that serves it"
        )
    return use


def _unreadable(wanted: AdapterWanted, reason: str, message: str) -> AdapterUse:
    known = reason if reason == "InvalidImageReference" else "AdapterUnreadable"
    if wanted.source is not None:
        message = message.replace("spec.source", f"{wanted.path}.source")  # the field that the user wrote
    return AdapterUse(wanted, "Failed", known, cut(f"adapter {wanted.name}: {message or reason}"))


def _judged(
    wanted: AdapterWanted, live: Object, plan: Plan, catalog: Catalog, config: WorkspaceConfig
) -> AdapterUse:
    source = (live.get("spec") or {}).get("source") or {}
    if plan.preset is None:
        return AdapterUse(wanted, "Ready", "Fits", source=source)
    stands_in = config.stand_in_weights if isinstance(plan.weights, Baked) else ""
    serving = catalog.preset(stands_in) if stands_in else None
    verdict = adapter_fits(AdapterFacts.from_status(live.get("status") or {}), plan.preset, serving)
    if verdict.ok:
        return AdapterUse(wanted, "Ready", verdict.reason, verdict.message, source)
    return AdapterUse(
        wanted, "Failed", "AdapterDoesNotFit", f"adapter {wanted.name}: {verdict.message}", source
    )
