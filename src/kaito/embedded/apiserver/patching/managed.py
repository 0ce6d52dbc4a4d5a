"""`metadata.managedFields` as a list of owners."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kaito.embedded.apiserver.patching.fieldset import FieldSet, members, union, well_formed, without
from kaito.embedded.apiserver.strategy import FieldPath, Object
from kaito.runtime.errors import Conflict

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATERS = 10
"""Update entries kept apart; older ones are joined (Kubernetes' DefaultMaxUpdateManagers)."""
ANCIENT = "ancient-changes"
_SYSTEM: tuple[FieldPath, ...] = (
    ("apiVersion",),
    ("kind",),
    *(
        ("metadata", name)
        for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation",
            "managedFields", "resourceVersion",
        )
    ),
)  # fmt: skip


@dataclass(slots=True)
class Owner:
    """One entry: who set which fields, and how."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    fields: FieldSet
    time: str = ""

    def same(self, manager: str, operation: str, api_version: str, subresource: str) -> bool:
        """Whether this entry is that identity; an applier is the same at every version."""
        return (
            self.manager == manager
            and self.operation == operation
            and self.subresource == subresource
            and (operation == APPLY or self.api_version == api_version)
        )

    def shown(self) -> str:
        """As conflicts name it: `"kubectl" using apps/v1 at 2026-…`."""
        text = f'"{self.manager}"'
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        if self.operation == UPDATE:
            text += f" using {self.api_version}"
            if self.time:
                text += f" at {self.time}"
        return text

    def to_json(self) -> Object:
        """The entry of managedFields."""
        entry: Object = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
        }
        if self.time:
            entry["time"] = self.time
        entry["fieldsType"] = "FieldsV1"
        entry["fieldsV1"] = self.fields
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry


def decode(entries: Any) -> list[Owner] | None:
    """Owners of a managedFields list; None if it is malformed."""
    if not isinstance(entries, list):
        return None if entries else []
    owners: list[Owner] = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("operation") not in (APPLY, UPDATE):
            return None
        texts = [
            entry.get(name) or "" for name in ("manager", "operation", "apiVersion", "subresource", "time")
        ]
        fields = entry.get("fieldsV1")
        if not all(isinstance(text, str) for text in texts) or not well_formed(fields):
            return None
        manager, operation, api_version, subresource, time = texts
        owners.append(Owner(manager, operation, api_version, subresource, fields, time))
    return owners


def encode(owners: Iterable[Owner]) -> list[Object]:
    """The managedFields list: appliers first, then by time."""
    kept = _capped([owner for owner in owners if owner.fields])
    kept.sort(
        key=lambda owner: (owner.operation, owner.time, owner.manager, owner.api_version, owner.subresource)
    )
    return [owner.to_json() for owner in kept]


def _capped(owners: list[Owner]) -> list[Owner]:
    updates = sorted((owner for owner in owners if owner.operation == UPDATE), key=lambda owner: owner.time)
    surplus = len(updates) - MAX_UPDATERS
    if surplus <= 0:
        return owners
    old = updates[: surplus + 1]
    joined: dict[str, Owner] = {}
    for owner in old:
        known = joined.get(owner.api_version)
        fields = union(known.fields, owner.fields) if known else owner.fields
        joined[owner.api_version] = Owner(ANCIENT, UPDATE, owner.api_version, "", fields, owner.time)
    return [owner for owner in owners if not any(owner is item for item in old)] + list(joined.values())


def owned(fields: FieldSet, reset: Sequence[FieldPath]) -> FieldSet:
    """The part of a set that can be owned: no system fields, nothing this verb ignores."""
    for path in (*_SYSTEM, *reset):
        fields = without(fields, path)
    if fields.get("f:metadata") == {}:
        fields = without(fields, ("metadata",))
    return fields


def conflict(conflicts: Sequence[tuple[Owner, FieldSet]]) -> Conflict:
    """The 409 that names every manager and field in the way of an apply."""
    listed = [(owner, path) for owner, fields in conflicts for path in members(fields)]
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner.shown()}", "field": path}
        for owner, path in listed
    ]
    if len(listed) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {listed[0][1]}"
    else:
        grouped: dict[str, list[str]] = {}
        for owner, path in listed:
            grouped.setdefault(owner.shown(), []).append(path)
        lines = [
            line
            for shown in sorted(grouped)
            for line in (f"conflicts with {shown}:", *(f"- {path}" for path in grouped[shown]))
        ]
        message = f"Apply failed with {len(listed)} conflicts: " + "\n".join(lines)
    return Conflict(message, details={"causes": causes})
