"""Deletion: at once, or by marking the object and waiting for finalizers, a grace period or its dependents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from kaito.embedded.apiserver.admission.attributes import DELETE, Attributes, kind_of
from kaito.embedded.apiserver.admission.review import options_of
from kaito.embedded.apiserver.core import CRDS, NAMESPACES, Core
from kaito.embedded.apiserver.messages import success_status
from kaito.embedded.apiserver.parameters import DeleteOptions
from kaito.embedded.apiserver.reading import require
from kaito.embedded.apiserver.selection import Selection
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import DELETED, Object, Record
from kaito.embedded.apiserver.writing import conflict
from kaito.runtime.clock import parse_time, rfc3339
from kaito.runtime.errors import Forbidden

ORPHAN: Final = "orphan"
FOREGROUND: Final = "foregroundDeletion"
CRD_CLEANUP: Final = "customresourcecleanup.apiextensions.k8s.io"

IMMORTAL: Final = frozenset({"default", "kube-system", "kube-public"})

DEFAULT_GRACE: Final = 30
"""Seconds a pod gets to end when its spec names none."""

JOBS: Final = "jobs.batch"
ORPHANS_WARNING: Final = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)
"""For the deletion of a Job that says nothing of its pods."""

_RETURNS_OBJECT: Final = frozenset(
    {
        *("pods", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims"),
        *("podtemplates", "volumeattachments.storage.k8s.io"),
    }
)
"""Kinds whose deletion answers with the object instead of a Status."""


class Deleter:
    """Marks and removes objects."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def delete(
        self, served: Served, namespace: str | None, name: str, options: DeleteOptions
    ) -> tuple[int, Object]:
        """Deletes one object; the HTTP status and body of the answer.

        Raises:
            NotFound: there is none.
            Conflict: a precondition does not hold.
        """
        record = require(served, namespace, name)
        metadata = record.metadata
        if served.resource.name == NAMESPACES and name in IMMORTAL:
            raise Forbidden(
                f'namespaces "{name}" is forbidden: this namespace may not be deleted',
                details={"name": name, "kind": NAMESPACES},
            )
        for what, wanted, found in (
            ("UID", options.uid, metadata["uid"]),
            ("ResourceVersion", options.revision, metadata["resourceVersion"]),
        ):
            if wanted and wanted != found:
                failed = conflict(
                    served,
                    name,
                    f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}",
                )
                failed.details["kind"] = served.resource.kind
                raise failed
        _admit(served, record, options)
        left = record if options.dry_run else self.begin(served, record, options.propagation, options.grace)
        if left is not None and not options.dry_run:
            waits = options.propagation == "Foreground" and served.resource.name not in (NAMESPACES, "pods")
            return (202 if waits else 200), served.view(left)
        if served.resource.name in _RETURNS_OBJECT:
            return 200, served.view(record if options.dry_run else _removed(served, record))
        details: dict[str, Any] = {"name": name, "kind": served.resource.plural, "uid": metadata["uid"]}
        if served.resource.group:
            details["group"] = served.resource.group
        return 200, success_status(details)

    def delete_all(self, selection: Selection, options: DeleteOptions) -> Object:
        """Deletes everything selected; the list of it."""
        served = selection.served
        records = list(selection.filter(served.collection.select(selection.namespace)))
        for record in records:
            _admit(served, record, options, named=False)
        if not options.dry_run:
            for record in records:
                self.begin(served, record, options.propagation, options.grace)
        untyped = not served.custom
        return {
            "kind": served.strategy.list_kind,
            "apiVersion": served.resource.api_version,
            "metadata": {
                "resourceVersion": str(self._core.store.revision),
                **({} if untyped else {"continue": ""}),
            },
            "items": [_item(served.view(record), untyped=untyped) for record in records],
        }

    def begin(
        self, served: Served, record: Record, propagation: str = "", grace: int | None = None
    ) -> Record | None:
        """Starts (or hastens) a deletion. What is left of the object, None if it is gone."""
        if not propagation and served.resource.name == JOBS:
            propagation = "Orphan"
        obj, metadata = record.obj, record.metadata
        finalizers = _finalizers(served, metadata.get("finalizers") or [], propagation)
        seconds = _grace(served, obj, grace)
        pending = served.resource.name == NAMESPACES and bool((obj.get("spec") or {}).get("finalizers"))
        if not finalizers and not seconds and not pending:
            if served.resource.name == "pods":
                self._mark_forced(served, record)
            self._core.remove(served, record.key)
            return None
        marked = {**metadata, "finalizers": finalizers}
        if not finalizers:
            del marked["finalizers"]
        deadline = rfc3339(self._core.clock.wall() + timedelta(seconds=seconds))
        stamp = metadata.get("deletionTimestamp")
        if stamp is None and served.resource.name == CRDS:
            marked["deletionTimestamp"] = deadline
        elif stamp is None:
            marked["deletionTimestamp"], marked["deletionGracePeriodSeconds"] = deadline, seconds
            if isinstance(metadata.get("generation"), int):
                marked["generation"] = metadata["generation"] + 1
        elif seconds < (metadata.get("deletionGracePeriodSeconds") or 0):
            marked["deletionGracePeriodSeconds"] = seconds
            marked["deletionTimestamp"] = min(stamp, deadline, key=parse_time)
        if marked == metadata:
            return record
        new = {**obj, "metadata": marked}
        if pending:
            new["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        return self._core.store.put(served.collection, record.key, new)

    def _mark_forced(self, served: Served, record: Record) -> None:
        """A pod that goes at once is told so first: its kubelet learns that nobody waits any more."""
        metadata = {**record.metadata, "deletionGracePeriodSeconds": 0}
        if "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = self._core.now()
            metadata["generation"] = metadata.get("generation", 0) + 1
        if metadata != record.metadata:
            self._core.store.put(served.collection, record.key, {**record.obj, "metadata": metadata})

    def drop_finalizer(self, served: Served, record: Record, finalizer: str) -> Record | None:
        """Takes one finalizer away; the object goes with its last one."""
        metadata = record.metadata
        left = [each for each in metadata.get("finalizers") or [] if each != finalizer]
        if not left and metadata.get("deletionTimestamp") and not metadata.get("deletionGracePeriodSeconds"):
            self._core.remove(served, record.key)
            return None
        changed = {**metadata, "finalizers": left}
        if not left:
            del changed["finalizers"]
        return self._core.store.put(served.collection, record.key, {**record.obj, "metadata": changed})


def _admit(served: Served, record: Record, options: DeleteOptions, *, named: bool = True) -> None:
    """Asks the admission webhooks about the deletion of an object; whether the request has `named` it."""
    if options.review is None:
        return
    preconditions = {"uid": options.uid, "resourceVersion": options.revision}
    options.review.check(
        Attributes(
            operation=DELETE,
            served=served,
            namespace=record.key.namespace,
            name=record.key.name if named else "",
            object=None,
            old_object=served.view(record),
            kind=kind_of(served),
            options=options_of(
                "DeleteOptions",
                {
                    "dryRun": ["All"] if options.dry_run else [],
                    "propagationPolicy": options.propagation,
                    "gracePeriodSeconds": options.grace,
                    "preconditions": {name: value for name, value in preconditions.items() if value} or None,
                },
            ),
            dry_run=options.dry_run,
            identity=f"{record.metadata['uid']}/{record.metadata['resourceVersion']}",
        )
    )


def _removed(served: Served, record: Record) -> Record:
    """The last state of an object that has just gone: it carries the version of its removal."""
    for event in reversed(served.collection.history):
        if event.type == DELETED and event.record.key == record.key:
            return event.record
    return record


def _item(obj: Object, *, untyped: bool) -> Object:
    """As an item of a list: those of builtin kinds leave apiVersion and kind to the list."""
    if not untyped:
        return obj
    return {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}


def _finalizers(served: Served, present: list[str], propagation: str) -> list[str]:
    """The finalizers of an object that is to be deleted that way."""
    kept = list(present)
    if propagation:
        kept = [each for each in kept if each not in (ORPHAN, FOREGROUND)]
        if propagation == "Orphan":
            kept.append(ORPHAN)
        elif propagation == "Foreground":
            kept.append(FOREGROUND)
    if served.resource.name == CRDS and CRD_CLEANUP not in kept:
        kept.append(CRD_CLEANUP)
    return kept


def _grace(served: Served, obj: Object, asked: int | None) -> int:
    """Seconds to wait for the kubelet. Only pods that a kubelet has and that still run are waited for."""
    if served.resource.name != "pods":
        return 0
    spec, status, metadata = obj.get("spec") or {}, obj.get("status") or {}, obj["metadata"]
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    if asked is None:
        asked = metadata.get("deletionGracePeriodSeconds")
    if asked is None:
        asked = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE)
    return int(asked)
