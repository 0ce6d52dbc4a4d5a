"""What is left over: instances whose claim is gone, Nodes of claims that are gone, claims whose instance is gone.

Pure. An instance counts only by the stamp of the claim that it was made for: what nobody stamped is nobody's to end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from kaito.api import labels
from kaito.api.conditions import is_true
from kaito.controllers.machine.nodes import is_lent, provider_key
from kaito.controllers.machine.shapes import SHAPES, ClaimShape
from kaito.provisioner.cloud import Instance
from kaito.runtime.objects import ObjectMeta

Object = Mapping[str, Any]

YOUNGEST: Final = timedelta(seconds=30)
"""Age below which an instance is no orphan yet: its claim may not have been seen (gpu-provisioner)."""
_MARKS: Final = (labels.WORKSPACE_LABEL, labels.RAGENGINE_LABEL, labels.NODE_CLASS_LABEL)
_KINDS: Final = {(each.resource.api_version, each.resource.kind): each for each in SHAPES}


def orphans(instances: Iterable[Instance], claim_uids: Collection[str], now: datetime) -> list[Instance]:
    """Instances made for claims that are not there; those without a claim's name cannot be looked up and stay."""
    return [
        each
        for each in instances
        if each.claim_uid
        and each.claim_name
        and each.claim_uid not in claim_uids
        and (each.created is None or now - each.created > YOUNGEST)
    ]


def is_kept(shape: ClaimShape, claim: Object) -> bool:
    """Whether the claim lives by an instance of its own: it was registered, and is not on its way out.

    Never one that was not registered: its Node may still come.
    """
    status = claim.get("status") or {}
    if claim["metadata"].get("deletionTimestamp") or is_lent(claim) or not status.get("providerID"):
        return False
    return is_true(status.get("conditions"), shape.registered)


def has_instance(claim: Object, instances: Iterable[Instance]) -> bool:
    """Whether the cloud lists an instance of this claim, in whatever state."""
    uid, provider_id = claim["metadata"]["uid"], provider_key(claim["status"]["providerID"])
    return any(each.claim_uid == uid or provider_key(each.provider_id) == provider_id for each in instances)


def left_behind(node: ObjectMeta, claim_uids: Collection[str], served: Collection[ClaimShape]) -> str:
    """Uid of the claim that the Node belonged to, where it is gone and the Node still waits for it; "" for others.

    served: the kinds whose claims are among `claim_uids`. A Node of another kind's is its provisioner's.
    """
    if labels.TERMINATION_FINALIZER not in node.finalizers:
        return ""
    if not any(label in node.labels for label in _MARKS):
        return ""
    owners = {each.uid: _KINDS.get((each.api_version, each.kind)) for each in node.owner_references}
    claims = {uid: shape for uid, shape in owners.items() if shape is not None}
    if not all(shape in served for shape in claims.values()) or any(uid in claim_uids for uid in claims):
        return ""
    return next(iter(claims), "")
