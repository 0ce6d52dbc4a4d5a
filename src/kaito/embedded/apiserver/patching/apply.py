"""Server-side apply, and who owns which field after every other write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from kaito.embedded.apiserver.patching.fieldset import FieldSet, difference, intersection, union
from kaito.embedded.apiserver.patching.managed import APPLY, UPDATE, Owner, conflict, decode, encode, owned
from kaito.embedded.apiserver.patching.typed import check_applied, compare, fields_of, merge, remove
from kaito.embedded.apiserver.strategy import FieldPath, MergeSchema, Object
from kaito.runtime.errors import BadRequest

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL = "kubectl"
_BEFORE = "before-first-apply"


def server_side_apply(
    live: Object | None,
    applied: Object,
    *,
    manager: str,
    force: bool,
    schema: MergeSchema,
    now: str,
    subresource: str = "",
    reset_fields: Sequence[FieldPath] = (),
) -> Object:
    """`live` (None to create) with `applied` in force for `manager`; managedFields are up to date in the result.

    Sets what `applied` says, removes what this manager applied before and nobody else owns, and takes fields over
    from others only with `force`. A result equal to `live` means there is nothing to write. `now` is RFC 3339.

    Raises `Conflict` (409, one cause per field) and `BadRequest` (another apiVersion, or lists with missing or
    repeated keys).
    """
    _check(live, applied, schema)
    wanted = owned(fields_of(applied, schema), reset_fields)
    api_version = applied["apiVersion"]
    base = live or {}
    owners = _owners_before_apply(live, schema, reset_fields)
    mine = next((each for each in owners if each.same(manager, APPLY, api_version, subresource)), None)
    others = [each for each in owners if each is not mine]
    merged = merge(base, applied, schema)
    if mine is not None:
        if mine.fields == wanted and merged is base and mine.api_version == api_version:
            return live or {}
        kept = wanted
        for each in others:
            kept = union(kept, each.fields)
        merged = remove(merged, mine.fields, kept, schema)
    others = _taken_from_others(base, merged, others, manager, applied, force, schema)
    unchanged = mine is not None and mine.fields == wanted and merged is base
    time = mine.time if unchanged and mine else now
    owners = [*others, Owner(manager, APPLY, api_version, subresource, wanted, time)]
    result = dict(merged)
    result["metadata"] = dict(merged.get("metadata") or {})
    if manager == _KUBECTL and not subresource:
        _refresh_last_applied(result["metadata"], applied)
    if entries := encode(owners):
        result["metadata"]["managedFields"] = entries
    else:
        result["metadata"].pop("managedFields", None)
    return result


def _check(live: Object | None, applied: Object, schema: MergeSchema) -> None:
    if live is not None and live.get("apiVersion") != applied.get("apiVersion"):
        raise BadRequest(
            "Incorrect version specified in apply patch. Specified patch version: "
            f"{applied.get('apiVersion')}, expected: {live.get('apiVersion')}"
        )
    if (applied.get("metadata") or {}).get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    check_applied(applied, schema)


def _owners_before_apply(
    live: Object | None, schema: MergeSchema, reset_fields: Sequence[FieldPath]
) -> list[Owner]:
    """Present owners; what was written before anybody kept count belongs to `before-first-apply`."""
    if live is None:
        return []
    owners = decode(live["metadata"].get("managedFields"))
    if owners:
        return owners
    changed, _ = compare({}, live, schema)
    return [Owner(_BEFORE, UPDATE, live.get("apiVersion", ""), "", owned(changed, reset_fields))]


def _taken_from_others(
    live: Object,
    merged: Object,
    others: list[Owner],
    manager: str,
    applied: Object,
    force: bool,
    schema: MergeSchema,
) -> list[Owner]:
    """The other owners after this apply. Raises Conflict when it would change what is theirs without force."""
    if merged is live:
        return others
    changed, removed = compare(live, merged, schema)
    conflicts = [(each, both) for each in others if (both := intersection(each.fields, changed))]
    if conflicts and not force and not _explained_by_last_applied(live, manager, conflicts, schema):
        raise conflict(conflicts)
    return [_less(each, changed, removed) for each in others]


def _less(owner: Owner, changed: FieldSet, removed: FieldSet) -> Owner:
    fields = difference(difference(owner.fields, changed), removed)
    if fields == owner.fields:
        return owner
    return Owner(owner.manager, owner.operation, owner.api_version, owner.subresource, fields, owner.time)


def _explained_by_last_applied(
    live: Object, manager: str, conflicts: list[tuple[Owner, FieldSet]], schema: MergeSchema
) -> bool:
    """Whether kubectl set all conflicting fields itself, by its older client-side apply."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    if manager != _KUBECTL or not text:
        return False
    try:
        fields = fields_of(orjson.loads(text), schema)
    except orjson.JSONDecodeError:
        return False
    return not any(difference(both, fields) for _, both in conflicts)


def _refresh_last_applied(meta: Object, applied: Object) -> None:
    """Keep the annotation of client-side apply true, so that going back to it is safe."""
    annotations = meta.get("annotations") or {}
    if LAST_APPLIED not in annotations:
        return
    text = orjson.dumps(applied, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    meta["annotations"] = {**annotations, LAST_APPLIED: text}


def track_update(
    live: Object | None,
    new: Object,
    *,
    manager: str,
    schema: MergeSchema,
    now: str,
    subresource: str = "",
    reset_fields: Sequence[FieldPath] = (),
) -> None:
    """Set `new["metadata"]["managedFields"]` for a create, an update or a patch that is no apply.

    What changed belongs to `manager`, and to nobody else any more. A client may rewrite the list (kubectl does so
    when it moves from client-side to server-side apply) or empty it (`[{}]`), which ends the tracking.
    """
    meta = new["metadata"]
    sent = meta.get("managedFields")
    before = [] if live is None else (live["metadata"].get("managedFields") or [])
    if sent is not None and not subresource and _is_reset(sent) and live is not None:
        meta.pop("managedFields", None)
        return
    owners = None if subresource or live is None or sent == before else decode(sent)
    if not owners:
        owners = decode(before) or []
    if live is not None and not owners:
        meta.pop("managedFields", None)
        return
    changed, removed = compare(live or {}, new, schema)
    api_version = new.get("apiVersion", "")
    mine = next((each for each in owners if each.same(manager, UPDATE, api_version, subresource)), None)
    result = [_less(each, changed, removed) for each in owners if each is not mine]
    mine_now = owned(union(difference(mine.fields, removed) if mine else {}, changed), reset_fields)
    if mine_now:
        time = mine.time if mine is not None and mine.fields == mine_now else now
        result.append(Owner(manager, UPDATE, api_version, subresource, mine_now, time))
    entries = encode(result)
    if entries:
        meta["managedFields"] = entries
    else:
        meta.pop("managedFields", None)


def _is_reset(entries: Any) -> bool:
    return entries in ([], [{}])
