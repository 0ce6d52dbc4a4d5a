"""What a claim and its node amount to: one entry of `status.nodes`. The same whoever makes the claims."""

from __future__ import annotations

from dataclasses import dataclass

from kaito.catalog import Catalog
from kaito.controllers.workspace.decide.claims import claim_ready, describe, instance_type
from kaito.controllers.workspace.decide.node_state import Part, node_fault
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.wanted import Problem
from kaito.controllers.workspace.model import Object, Observed, metadata


@dataclass(frozen=True, slots=True)
class Judge:
    """Looks at the claims of one Workspace."""

    observed: Observed
    plan: Plan
    catalog: Catalog

    def part(self, claim: Object, entry: Object, stage: Problem | None, *, was_ready: bool) -> Part:
        """The claim's part, told in `entry`, which becomes its own. `stage`: what the claim waits for."""
        entry["claimUID"] = metadata(claim)["uid"]
        size = self.plan.size(entry.get("attempt") or 0)
        entry["instanceType"] = instance_type(claim) or (size.name if size else "")
        name = (claim.get("status") or {}).get("nodeName") or ""
        if name:
            entry["nodeName"] = name
        if not claim_ready(claim):
            message = stage.message if stage else f"waiting for {describe(claim)} to become ready"
            reason = stage.reason if stage else "NodeClaimNotReady"
            return Part(entry, "Pending", reason, message, was_ready=was_ready)
        fault = node_fault(self.observed.nodes.get(name), name, self.plan, self.gpus(entry["instanceType"]))
        if fault is not None:
            return Part(entry, "Pending", fault.reason, fault.message, was_ready=was_ready)
        for key in ("failedAt", "failures"):
            entry.pop(key, None)
        return Part(entry, "Ready", node=name)

    def gpus(self, name: str) -> int:
        """GPUs that a node of this size must offer before pods are sent there."""
        sku = self.catalog.sku(name)
        return sku.gpus if sku is not None and sku.nvidia and self.plan.needs_gpu else 0
