"""create, update and patch: one path for all kinds, from a decoded body to the stored object.

Objects that arrive here are the request's own and may be changed in place; stored ones never are. A write that
changes nothing is not stored, so it neither moves the resourceVersion nor wakes a watcher.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from kaito.embedded.apiserver.admission.attributes import CREATE, UPDATE, Attributes, kind_of
from kaito.embedded.apiserver.admission.review import options_of
from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.naming import check_type, metadata_of, settle_namespace, stamp_new
from kaito.embedded.apiserver.parameters import IGNORE, STRICT, WARN, WriteOptions
from kaito.embedded.apiserver.patching.apply import track_update
from kaito.embedded.apiserver.reading import not_found
from kaito.embedded.apiserver.revisions import is_finished, says_the_same
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Key, Object, Record
from kaito.embedded.apiserver.strategy import (
    INVALID,
    FieldError,
    Unreadable,
    invalid,
)
from kaito.runtime.errors import AlreadyExists, ApiError, BadRequest, Conflict

CREATE_ON_UPDATE: Final = frozenset(
    {"endpoints", "events", "leases.coordination.k8s.io", "limitranges", "services"}
)
"""Kinds that a PUT creates where they do not exist."""

_CARRIED: Final = (
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "generation",
)
"""Metadata that no client may change: it is taken from the stored object without complaint."""

_OF_STATUS: Final = frozenset({"apiVersion", "kind", "metadata", "status"})
"""What a write to the status may bring; all else is taken from the stored object, which was pruned when it came."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write left behind; `warnings` are for the client's eyes."""

    record: Record
    created: bool = False
    warnings: list[str] = field(default_factory=list)


def conflict(served: Served, name: str, why: str) -> Conflict:
    resource = served.resource
    return Conflict(
        f'Operation cannot be fulfilled on {resource.name} "{name}": {why}',
        details={"name": name, "group": resource.group, "kind": resource.plural},
    )


def stale(served: Served, name: str) -> Conflict:
    return conflict(
        served,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


class Writer:
    """Stores new and changed objects."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(
        self,
        served: Served,
        namespace: str | None,
        obj: Object,
        options: WriteOptions,
        manager: str,
        *,
        name: str = "",
        track: bool = True,
    ) -> Outcome:
        """Stores a new object. `name` is the URL's, for writes that create what they name.

        `track` is off where the caller has written managedFields already (server-side apply).

        Raises:
            ApiError: 400, 403, 404, 409 or 422, whatever Kubernetes would answer.
        """
        check_type(served, obj)
        metadata = metadata_of(obj)
        settle_namespace(served, metadata, namespace)
        if name and not metadata.get("name"):
            metadata["name"] = name
        managed = metadata.get("managedFields")
        strategy = served.strategy
        warnings = self.prune(served, obj, options)
        if served.resource.namespaced:
            self._core.admit_namespace(served, namespace or "", metadata.get("name") or "")
        refusal = strategy.refuse(obj)
        if refusal:
            raise ApiError(refusal, status=501, reason="NotImplemented")
        review = options.review
        if review is not None:
            self._mutate(served, obj, None, options, namespace, metadata.get("name") or "")
            metadata = metadata_of(obj)
            settle_namespace(served, metadata, namespace)
        now = self._core.now()
        stamp_new(served, obj, now)
        if review is not None:
            review.identify(metadata)
        if not track and managed:
            metadata["managedFields"] = managed
        strategy.prepare_create(obj)
        if track:
            track_update(
                None,
                obj,
                manager=options.field_manager or manager,
                schema=strategy.merge_schema,
                now=now,
                reset_fields=strategy.reset_fields(""),
            )
        try:
            strategy.complete_create(obj)
            self._check(served, obj, None, "")
            key = Key(namespace or "" if served.resource.namespaced else "", metadata["name"])
            if review is not None:
                review.validate(_attributes(served, obj, None, options, namespace, key.name))
            if served.collection.get(key) is not None:
                raise already_exists(served, key.name)
        except Exception:
            strategy.release(obj)
            raise
        warnings += strategy.warnings(obj)
        if options.dry_run:
            strategy.release(obj)
            return Outcome(Record(key, strategy.to_storage(obj), 0), True, warnings)
        return Outcome(self._core.store.put(served.collection, key, strategy.to_storage(obj)), True, warnings)

    def replace(
        self,
        served: Served,
        namespace: str | None,
        name: str,
        obj: Object,
        options: WriteOptions,
        manager: str,
        subresource: str = "",
    ) -> Outcome:
        """A PUT: the body replaces the object (or, on `status`, its status)."""
        check_type(served, obj)
        metadata = metadata_of(obj)
        settle_namespace(served, metadata, namespace)
        if metadata.get("name") != name:
            given = metadata.get("name") or "none"
            raise BadRequest(f"the name of the object ({given}) does not match the name on the URL ({name})")
        record = served.collection.get(Key(namespace or "", name))
        if record is None:
            if served.resource.name in CREATE_ON_UPDATE and not subresource:
                metadata.pop("resourceVersion", None)
                return self.create(served, namespace, obj, options, manager)
            raise not_found(served, name)
        uid = metadata.get("uid")
        if uid and uid != record.metadata["uid"]:
            raise conflict(
                served,
                name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {record.metadata['uid']}",
            )
        if not metadata.get("resourceVersion") and served.custom:
            error = FieldError("metadata.resourceVersion", INVALID, "must be specified for an update", 0)
            raise invalid(replace(served.resource, kind=served.resource.plural), name, [error])
        return self.change(served, record, obj, options, manager, subresource)

    def change(
        self,
        served: Served,
        record: Record,
        new: Object,
        options: WriteOptions,
        manager: str,
        subresource: str = "",
        *,
        track: bool = True,
    ) -> Outcome:
        """Puts `new` in the place of what is stored, by the rules of the kind and the subresource.

        Raises:
            Conflict: `new` carries another resourceVersion than the stored object.
            Invalid: it does not validate.
        """
        strategy, old = served.strategy, served.view(record)
        emptied = metadata_of(new).get("managedFields") == []
        warnings = self._prune_change(served, new, old, options, subresource)
        if emptied:
            # To say that there are none is not to say nothing: it ends the tracking.
            new["metadata"]["managedFields"] = []
        # A Scale is shown to the webhooks as a Scale, by whoever turned it into this change.
        review = None if subresource == "scale" else options.review
        about = (options, record.key.namespace or None, record.key.name, subresource)
        if review is not None:
            self._mutate(served, new, old, *about)
        self._carry_metadata(served, record, new)
        if subresource == "status":
            strategy.prepare_status_update(new, old)
        else:
            strategy.prepare_update(new, old)
        metadata = new["metadata"]
        sent = metadata.get("managedFields")
        if subresource == "scale" and not any(
            "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
            for entry in old["metadata"].get("managedFields") or ()
        ):
            # Replicas that nobody owned stay so when they are scaled.
            track, sent = False, old["metadata"].get("managedFields")
            _set(metadata, "managedFields", sent)
        if track:
            track_update(
                old,
                new,
                manager=options.field_manager or manager,
                schema=strategy.merge_schema,
                now=self._core.now(),
                subresource=subresource,
                reset_fields=strategy.reset_fields(subresource),
            )
        managed = metadata.get("managedFields")
        strategy.complete_update(new, old, subresource)
        self._check(served, new, old, subresource)
        warnings += strategy.warnings(new)
        new["metadata"]["resourceVersion"] = record.metadata["resourceVersion"]
        if not managed and not old["metadata"].get("managedFields"):
            sent = managed = None
        _set(new["metadata"], "managedFields", sent)
        given_up = sent is not None and managed is None and bool(old["metadata"].get("managedFields"))
        unchanged = not given_up and says_the_same(new, old, managed=not track)
        _set(new["metadata"], "managedFields", managed)
        if review is not None:
            review.validate(_attributes(served, new, old, *about))
        if unchanged:
            return Outcome(record, False, warnings)
        stored = strategy.to_storage(new)
        if options.dry_run:
            return Outcome(Record(record.key, stored, record.revision), False, warnings)
        if is_finished(stored, record.metadata):
            self._core.remove(served, record.key)
            return Outcome(Record(record.key, stored, record.revision), False, warnings)
        return Outcome(self._core.store.put(served.collection, record.key, stored), False, warnings)

    def working_copy(self, served: Served, record: Record) -> Object:
        """A copy of the stored object that may be changed freely."""
        return orjson.loads(served.encoded(record))  # type: ignore[no-any-return] # an object went in

    def _prune_change(
        self, served: Served, new: Object, old: Object, options: WriteOptions, subresource: str
    ) -> list[str]:
        """The same for a new revision. Of a status write only the part that counts, where the rest is as it was."""
        kept = (new.keys() | old.keys()) - _OF_STATUS
        whole = subresource != "status" or options.review is not None
        if whole or any(new.get(name) != old.get(name) for name in kept):
            return self.prune(served, new, options)
        part = {name: value for name, value in new.items() if name in _OF_STATUS}
        warnings = self.prune(served, part, options)
        new.clear()
        new.update(part)
        return warnings

    @staticmethod
    def prune(served: Served, obj: Object, options: WriteOptions) -> list[str]:
        """Drops unknown fields; the warnings about them.

        Raises:
            BadRequest: there are some and the client asked for strictness.
        """
        problems = [f'unknown field "{path}"' for path in served.strategy.prune(obj)] + list(
            options.duplicates
        )
        if not problems or options.field_validation == IGNORE:
            return []
        if options.field_validation == STRICT:
            resource = served.resource
            message = "strict decoding error: " + ", ".join(problems)
            raise Unreadable(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {message}'
            )
        return problems

    @staticmethod
    def _carry_metadata(served: Served, record: Record, new: Object) -> None:
        """Settles the metadata that identifies the object and is not the client's to change."""
        metadata, old = metadata_of(new), record.metadata
        revision = metadata.get("resourceVersion")
        if revision and revision != old["resourceVersion"]:
            raise stale(served, record.key.name)
        for each in ("name", "namespace"):
            if metadata.get(each, old.get(each)) != old.get(each):
                raise BadRequest(
                    f"the {each} of the object ({metadata.get(each)}) does not match the {each} on the URL "
                    f"({old.get(each)})"
                )
        if metadata.get("uid") and metadata["uid"] != old["uid"]:
            error = FieldError("metadata.uid", INVALID, "field is immutable", metadata["uid"])
            # Kubernetes checks metadata twice, once for all kinds and once for this one.
            raise invalid(served.resource, record.key.name, [error, error])
        for each in ("name", "namespace", "uid", *_CARRIED):
            if each in old:
                metadata[each] = old[each]
            else:
                metadata.pop(each, None)

    def _mutate(
        self,
        served: Served,
        new: Object,
        old: Object | None,
        options: WriteOptions,
        namespace: str | None,
        name: str,
        subresource: str = "",
    ) -> None:
        """Lets the mutating webhooks change `new`. What they add and the kind does not know goes without a word."""
        assert options.review is not None

        def refresh(obj: Object) -> None:
            served.strategy.prune(obj)
            served.strategy.preset(obj, old)

        served.strategy.preset(new, old)
        options.review.mutate(_attributes(served, new, old, options, namespace, name, subresource), refresh)

    @staticmethod
    def _check(served: Served, new: Object, old: Object | None, subresource: str) -> None:
        errors = served.strategy.validate(new, old, subresource)
        if errors:
            raise invalid(served.resource, new["metadata"].get("name") or "", errors)


def _attributes(
    served: Served,
    new: Object,
    old: Object | None,
    options: WriteOptions,
    namespace: str | None,
    name: str,
    subresource: str = "",
) -> Attributes:
    """The request as the rules of webhooks see it."""
    operation = CREATE if old is None else UPDATE
    return Attributes(
        operation=operation,
        served=served,
        namespace=namespace or "",
        name=name,
        object=new,
        old_object=old,
        kind=kind_of(served),
        subresource=subresource,
        options=write_options(options, operation),
        dry_run=options.dry_run,
        identity="" if old is None else f"{old['metadata']['uid']}/{old['metadata']['resourceVersion']}",
    )


def write_options(options: WriteOptions, operation: str) -> Object:
    """The options object that webhooks are shown; that of a patch is the one of the create or update it comes to."""
    return options_of(
        "CreateOptions" if operation == CREATE else "UpdateOptions",
        {
            "dryRun": ["All"] if options.dry_run else [],
            "fieldManager": options.field_manager,
            "fieldValidation": "" if options.field_validation == WARN else options.field_validation,
        },
    )


def already_exists(served: Served, name: str) -> AlreadyExists:
    resource = served.resource
    return AlreadyExists(
        f'{resource.name} "{name}" already exists',
        details={"name": name, "group": resource.group, "kind": resource.plural},
    )


def _set(metadata: dict[str, Any], name: str, value: Any) -> None:
    """Sets a field, or takes it away for None."""
    if value is None:
        metadata.pop(name, None)
    else:
        metadata[name] = value
