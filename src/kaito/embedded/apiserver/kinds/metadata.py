"""What holds for the metadata of every object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kaito.embedded.apiserver.kinds import names
from kaito.embedded.apiserver.strategy import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    REQUIRED,
    TOO_LONG,
    FieldError,
    Object,
)

IMMUTABLE = "field is immutable"
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations of one object together (Kubernetes' TotalAnnotationSizeLimitB)."""

_SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
STANDARD_FINALIZERS = ("foregroundDeletion", "orphan", "kubernetes")


def carry_over(new: Object, old: Object) -> None:
    """Fill in the system metadata that an update may leave out, from the stored object."""
    meta, old_meta = new.setdefault("metadata", {}), old["metadata"]
    for name in _SYSTEM_FIELDS:
        if name not in meta and name in old_meta:
            meta[name] = old_meta[name]
    if "generation" in old_meta:
        meta["generation"] = old_meta["generation"]
    else:
        meta.pop("generation", None)
    meta.pop("selfLink", None)


def validate_metadata(
    obj: Object, old: Object | None, *, namespaced: bool, name_check: names.Check, builtin: bool = True
) -> list[FieldError]:
    """Errors in `metadata`, for a create (`old` is None) or an update.

    `builtin`: the kind is one of Kubernetes' own, whose finalizers must be standard or hold a domain; custom
    resources take any qualified name.
    """
    meta = obj.get("metadata", {})
    errors: list[FieldError] = []
    if old is None:
        errors += _validate_identity(meta, namespaced, name_check)
    else:
        # Kubernetes checks this twice: once for all kinds, once with the kind's own rules.
        errors += 2 * _validate_update(meta, old["metadata"])
    annotations = meta.get("annotations")
    errors += validate_labels(meta.get("labels") or {}, "metadata.labels")
    errors += _validate_keys([key.lower() for key in annotations or ()], "metadata.annotations")
    if (
        annotations
        and sum(len(key) + len(str(value)) for key, value in annotations.items()) > MAX_ANNOTATIONS
    ):
        errors.append(
            FieldError("metadata.annotations", TOO_LONG, f"may not be more than {MAX_ANNOTATIONS} bytes")
        )
    errors += _validate_owners(meta.get("ownerReferences") or [])
    for index, finalizer in enumerate(meta.get("finalizers") or []):
        path = "metadata.finalizers"
        errors += [
            FieldError(path, INVALID, message, finalizer) for message in names.qualified_name(finalizer)
        ]
        if builtin and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            message = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(FieldError(f"{path}[{index}]", INVALID, message, finalizer))
    return errors


def _validate_identity(meta: Object, namespaced: bool, name_check: names.Check) -> list[FieldError]:
    errors: list[FieldError] = []
    prefix = meta.get("generateName")
    if prefix:
        # The prefix must become a name once a suffix is appended, so a trailing '-' is fine.
        masked = prefix[:-1] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix
        errors += [FieldError("metadata.generateName", INVALID, text, prefix) for text in name_check(masked)]
    name = meta.get("name")
    if not name:
        errors.append(FieldError("metadata.name", REQUIRED, "name or generateName is required"))
    else:
        errors += [FieldError("metadata.name", INVALID, text, name) for text in name_check(name)]
    namespace = meta.get("namespace")
    if namespaced and not namespace:
        errors.append(FieldError("metadata.namespace", REQUIRED))
    elif namespaced:
        errors += [
            FieldError("metadata.namespace", INVALID, text, namespace) for text in names.dns_label(namespace)
        ]
    elif namespace:
        errors.append(FieldError("metadata.namespace", FORBIDDEN, "not allowed on this type"))
    return errors


def _validate_update(meta: Object, old: Object) -> list[FieldError]:
    errors = [
        FieldError(f"metadata.{name}", INVALID, IMMUTABLE, meta.get(name, ""))
        for name in ("name", "namespace", *_SYSTEM_FIELDS)
        if meta.get(name) != old.get(name)
    ]
    if old.get("deletionTimestamp"):
        added = [item for item in meta.get("finalizers") or [] if item not in (old.get("finalizers") or [])]
        if added:
            text = f"no new finalizers can be added if the object is being deleted, found new finalizers {added!r}"
            errors.append(FieldError("metadata.finalizers", FORBIDDEN, text))
    return errors


def _validate_keys(keys: Iterable[str], path: str) -> list[FieldError]:
    return [FieldError(path, INVALID, text, key) for key in keys for text in names.qualified_name(key)]


def validate_labels(labels: Object, path: str) -> list[FieldError]:
    """Keys and values of labels at `path`."""
    return _validate_keys(labels, path) + [
        FieldError(path, INVALID, text, value)
        for value in labels.values()
        for text in names.label_value(value)
    ]


def _validate_owners(owners: list[Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for owner in owners:
        path = "metadata.ownerReferences"
        if not owner.get("apiVersion"):
            errors.append(FieldError(f"{path}.apiVersion", INVALID, "version must not be empty", ""))
        errors += [
            FieldError(f"{path}.{name}", INVALID, "must not be empty", "")
            for name in ("kind", "name", "uid")
            if not owner.get(name)
        ]
        if owner.get("kind") == "Event" and owner.get("apiVersion") == "v1":
            errors.append(
                FieldError(path, INVALID, "/v1, Kind=Event is disallowed from being an owner", owner)
            )
        if owner.get("controller"):
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {owner.get('name')}"
                )
                errors.append(FieldError("metadata.ownerReferences", INVALID, text, owners))
            controller = owner.get("name", "")
    return errors


def validate_selector(selector: Any, path: str, *, allow_empty: bool = True) -> list[FieldError]:
    """A LabelSelector: operators, values where they belong, key and value syntax."""
    errors: list[FieldError] = []
    if selector is None:
        return errors
    labels, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not allow_empty and not labels and not expressions:
        errors.append(FieldError(path, INVALID, "empty selector is invalid for deployment", selector))
    errors += validate_labels(labels, f"{path}.matchLabels")
    for index, item in enumerate(expressions):
        here = f"{path}.matchExpressions[{index}]"
        operator, values = item.get("operator", ""), item.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be specified when `operator` is 'In' or 'NotIn'"
                errors.append(FieldError(f"{here}.values", REQUIRED, text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(FieldError(f"{here}.values", FORBIDDEN, text))
        else:
            errors.append(FieldError(f"{here}.operator", INVALID, "not a valid selector operator", operator))
        key = item.get("key", "")
        errors += [FieldError(f"{here}.key", INVALID, text, key) for text in names.qualified_name(key)]
    return errors


def selector_matches(selector: Any, labels: Object) -> bool:
    """Whether a LabelSelector selects an object with these labels."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for item in selector.get("matchExpressions") or []:
        key, operator, values = item.get("key"), item.get("operator"), item.get("values") or []
        present = key in labels
        matched = {
            "In": present and labels.get(key) in values,
            "NotIn": not present or labels.get(key) not in values,
            "Exists": present,
            "DoesNotExist": not present,
        }.get(operator, False)
        if not matched:
            return False
    return True


def duplicates(values: list[Any], path: str, field: str = "") -> list[FieldError]:
    """A duplicate error for each value seen before; `path[i].field`."""
    seen: set[Any] = set()
    errors: list[FieldError] = []
    for index, value in enumerate(values):
        if value in seen:
            errors.append(FieldError(f"{path}[{index}]{'.' + field if field else ''}", DUPLICATE, "", value))
        seen.add(value)
    return errors
