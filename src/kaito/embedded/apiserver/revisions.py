"""Questions about two revisions of one object: does an update change anything, and does it end the object's life."""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.store import Object


def says_the_same(new: Object, old: Object, *, managed: bool) -> bool:
    """Whether two revisions say the same; `managed` compares managedFields always, not only where `new` has them.

    An update that leaves managedFields out does not mean to remove them. When each manager last wrote does not count:
    what is applied again may differ from what is stored until it has its defaults.
    """
    if new.keys() != old.keys():
        return False
    for name, value in new.items():
        if name != "metadata" and value != old[name]:
            return False
    return _bare(new["metadata"]) == _bare(old["metadata"]) and (
        (not managed and not new["metadata"].get("managedFields"))
        or _timeless(new["metadata"]) == _timeless(old["metadata"])
    )


def _timeless(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    entries = metadata.get("managedFields") or ()
    return [{name: value for name, value in entry.items() if name != "time"} for entry in entries]


def _bare(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in metadata.items()
        if name != "managedFields" and value not in ({}, [], None)
    }


def is_finished(obj: Object, old: dict[str, Any]) -> bool:
    """Whether this update took the last finalizer from an object that was waiting for it to go away."""
    metadata = obj["metadata"]
    return bool(
        metadata.get("deletionTimestamp")
        and not metadata.get("finalizers")
        and old.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
        and not (obj.get("kind") == "Namespace" and (obj.get("spec") or {}).get("finalizers"))
    )
