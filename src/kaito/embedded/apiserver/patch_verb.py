"""PATCH in its four types; each yields a whole object that then goes the way of every update."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from kaito.embedded.apiserver.bodies import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    PATCH_TYPES,
    STRATEGIC_PATCH,
    body_of,
    media_type,
    parse_json,
    parse_yaml,
)
from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.messages import invalid_parameter
from kaito.embedded.apiserver.naming import check_type, metadata_of, settle_namespace
from kaito.embedded.apiserver.parameters import WriteOptions
from kaito.embedded.apiserver.patching.apply import server_side_apply
from kaito.embedded.apiserver.patching.jsonpatch import json_patch
from kaito.embedded.apiserver.patching.merge import merge_patch
from kaito.embedded.apiserver.patching.strategic import strategic_merge
from kaito.embedded.apiserver.patching.typed import unreadable
from kaito.embedded.apiserver.reading import not_found, require
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Key, Object
from kaito.embedded.apiserver.strategy import INVALID, FieldError, MergeSchema, Unreadable, invalid
from kaito.embedded.apiserver.writing import Outcome, Writer
from kaito.runtime.errors import BadRequest, Invalid, UnsupportedMediaType
from kaito.runtime.transport import Request


def patched(target: Object, media: str, body: bytes, schema: MergeSchema, *, custom: bool) -> Object:
    """`target` after a JSON, merge or strategic merge patch; `target` may be consumed.

    Raises:
        UnsupportedMediaType: the type is unknown, or strategic for a custom resource.
        BadRequest: the patch is malformed.
    """
    if media == JSON_PATCH:
        operations = parse_json(body)
        if not isinstance(operations, list):
            raise BadRequest("a JSON patch must be a list of operations")
        result: Any = json_patch(target, operations)
    elif media == MERGE_PATCH:
        result = merge_patch(target, _mapping(parse_json(body)))
    elif media == STRATEGIC_PATCH and not custom:
        result = strategic_merge(target, _mapping(parse_json(body)), schema)
    else:
        raise unsupported_patch(media, custom=custom)
    if not isinstance(result, dict):
        raise BadRequest("the patch does not leave an object behind")
    return result


def unreadable_patch(why: str) -> Invalid:
    """422 for a patch after which the object cannot be read as its kind any more."""
    cause = {"reason": "FieldValueInvalid", "message": f"Invalid value: {why}", "field": "patch"}
    return Invalid(f' "" is invalid: patch: Invalid value: {why}', details={"causes": [cause]})


def unsupported_patch(media: str, *, custom: bool) -> UnsupportedMediaType:
    known = ", ".join(each for each in PATCH_TYPES if not (custom and each == STRATEGIC_PATCH))
    return UnsupportedMediaType(
        f"the body of the request was in an unknown format ({media or 'no content type'}) - "
        f"accepted media types include: {known}"
    )


def _mapping(value: Any) -> Object:
    if not isinstance(value, dict):
        raise BadRequest("the patch must be an object")
    return value


class Patcher:
    """Applies patches through the writer."""

    def __init__(self, core: Core, writer: Writer) -> None:
        self._core = core
        self._writer = writer

    def patch(
        self,
        served: Served,
        namespace: str | None,
        name: str,
        request: Request,
        options: WriteOptions,
        manager: str,
        subresource: str = "",
    ) -> Outcome:
        media, body = media_type(request), body_of(request)
        if media == APPLY_PATCH:
            return self._apply(served, namespace, name, body, options, subresource)
        check_not_forced(options)
        if media not in PATCH_TYPES or (served.custom and media == STRATEGIC_PATCH):
            raise unsupported_patch(media, custom=served.custom)
        record = require(served, namespace, name)
        target = self._writer.working_copy(served, record)
        new = patched(target, media, body, served.strategy.merge_schema, custom=served.custom)
        if served.custom and new.get("kind") != served.resource.kind:
            error = FieldError("kind", INVALID, f"must be {served.resource.kind}", new.get("kind"))
            raise invalid(replace(served.resource, kind=str(new.get("kind"))), name, [error])
        if not new.get("kind") and not new.get("apiVersion"):
            raise BadRequest("the patch removes kind and apiVersion")
        if new.get("metadata") is None:
            raise BadRequest("the name of the object (none) does not match the name on the URL")
        try:
            check_type(served, new)
            return self._writer.change(served, record, new, options, manager, subresource)
        except Unreadable as error:
            raise unreadable_patch(str(error)) from None

    def _apply(
        self,
        served: Served,
        namespace: str | None,
        name: str,
        body: bytes,
        options: WriteOptions,
        subresource: str,
    ) -> Outcome:
        """Server-side apply: creates what is not there, except through a subresource."""
        check_apply_options(options)
        applied = _mapping(parse_yaml(body))
        for field in ("apiVersion", "kind"):
            if not applied.get(field):
                raise BadRequest(f"{field} must be set in the applied object")
        check_type(served, applied)
        metadata = metadata_of(applied)
        settle_namespace(served, dict(metadata), namespace)
        if metadata.setdefault("name", name) != name:
            raise BadRequest(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        if metadata.get("managedFields"):
            raise BadRequest("metadata.managedFields must be nil")
        given = copy.deepcopy(applied)
        if unknown := served.strategy.prune(applied):
            fields = ", ".join(f".{path}: field not declared in schema" for path in unknown)
            raise unreadable(fields)
        record = served.collection.get(Key(namespace or "", name))
        if record is None and subresource:
            raise not_found(served, name)
        _restore_empty(applied, given)
        if record is None:
            metadata.pop("uid", None)
            metadata.pop("resourceVersion", None)
        live = None if record is None else self._writer.working_copy(served, record)
        merged = server_side_apply(
            live,
            applied,
            manager=options.field_manager,
            force=bool(options.force),
            schema=served.strategy.merge_schema,
            now=self._core.now(),
            subresource=subresource,
            reset_fields=served.strategy.reset_fields(subresource),
        )
        if record is None:
            outcome = self._writer.create(served, namespace, merged, options, "", track=False)
        else:
            outcome = self._writer.change(served, record, merged, options, "", subresource, track=False)
        return outcome


def _restore_empty(applied: Any, given: Any) -> None:
    """Puts back the empty maps and lists that reading the kind has dropped: whoever applies one owns it."""
    if isinstance(given, dict) and isinstance(applied, dict):
        for name, value in given.items():
            if name not in applied and value in ({}, []):
                applied[name] = value
            elif isinstance(value, (dict, list)):
                _restore_empty(applied.get(name), value)
    elif isinstance(given, list) and isinstance(applied, list) and len(given) == len(applied):
        for one, other in zip(applied, given, strict=True):
            _restore_empty(one, other)


def check_apply_options(options: WriteOptions) -> None:
    if not options.field_manager:
        raise invalid_parameter(
            "PatchOptions.meta.k8s.io", "fieldManager", "Required value: is required for apply patch"
        )


def check_not_forced(options: WriteOptions) -> None:
    if options.force is not None:
        raise invalid_parameter(
            "PatchOptions.meta.k8s.io", "force", "Forbidden: may not be specified for non-apply patch"
        )
