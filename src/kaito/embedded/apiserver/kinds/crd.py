"""CustomResourceDefinitions, and the kinds they define."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from kaito.embedded.apiserver.jsonpath import JsonPathError, compile_path
from kaito.embedded.apiserver.kinds import names
from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.kinds.custom import CustomStrategy
from kaito.embedded.apiserver.kinds.metadata import IMMUTABLE, duplicates
from kaito.embedded.apiserver.schema.keywords import read_schema
from kaito.embedded.apiserver.schema.node import Node
from kaito.embedded.apiserver.schema.rules import RuleSet
from kaito.embedded.apiserver.schema.structural import check_schema
from kaito.embedded.apiserver.strategy import (
    INVALID,
    NOT_SUPPORTED,
    REQUIRED,
    Column,
    FieldError,
    KindStrategy,
    Object,
    ScalePaths,
)
from kaito.runtime.resources import Resource

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_PROTECTED_GROUPS = ("k8s.io", "kubernetes.io")
_APPROVAL = "api-approved.kubernetes.io"
_SIMPLE_PATH = re.compile(r"(?:\.[A-Za-z_][A-Za-z0-9_-]*)+")
"""A path of field names only, as scale and selectable fields have them."""
_NAME_FIELDS = ("plural", "singular", "kind", "listKind")


class DefinitionStrategy(BuiltinStrategy):
    """CustomResourceDefinitions."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(
            resource,
            generation=True,
            short_names=("crd", "crds"),
            categories=("api-extensions",),
            subresources=("status",),
        )

    def prune(self, obj: Object) -> list[str]:
        unknown = super().prune(obj)
        for index, version in enumerate(obj.get("spec", {}).get("versions") or ()):
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            if schema is not None:
                unknown += read_schema(schema, f"spec.versions[{index}].schema.openAPIV3Schema")
        return unknown

    def default(self, obj: Object, old: Object | None) -> None:
        spec = obj["spec"]
        own = spec["names"]
        kind = own.get("kind", "")
        if kind:
            own.setdefault("singular", kind.lower())
            own.setdefault("listKind", kind + "List")
        spec.setdefault("conversion", {"strategy": "None"})

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        own, group = spec["names"], spec.get("group", "")
        errors: list[FieldError] = []
        wanted = f"{own.get('plural', '')}.{group}"
        name = obj["metadata"].get("name", "")
        if name != wanted:
            text = 'must be spec.names.plural+"."+spec.group'
            errors.append(FieldError("metadata.name", INVALID, text, name))
        if not group:
            errors.append(FieldError("spec.group", REQUIRED))
        elif "." not in group:
            text = "should be a domain with at least one dot"
            errors.append(FieldError("spec.group", INVALID, text, group))
        else:
            errors += [FieldError("spec.group", INVALID, text, group) for text in names.dns_subdomain(group)]
        errors += _check_approval(obj, group)
        scopes = ("Cluster", "Namespaced")
        if spec.get("scope") not in scopes:
            text = 'supported values: "Cluster", "Namespaced"'
            kind = REQUIRED if not spec.get("scope") else NOT_SUPPORTED
            errors.append(FieldError("spec.scope", kind, text, spec.get("scope", "")))
        if spec.get("preserveUnknownFields"):
            text = (
                "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
                "spec.versions[*].schema instead"
            )
            errors.append(FieldError("spec.preserveUnknownFields", INVALID, text, True))
        strategy = spec["conversion"].get("strategy")
        if strategy == "Webhook":
            text = "conversion webhooks are not implemented by this API server; use None"
            errors.append(FieldError("spec.conversion.strategy", NOT_SUPPORTED, text, strategy))
        elif strategy != "None":
            text = 'supported values: "None", "Webhook"'
            errors.append(FieldError("spec.conversion.strategy", NOT_SUPPORTED, text, strategy))
        return _hoisted(errors + _check_names(own) + _check_versions(spec), spec)

    def created(self, obj: Object) -> None:
        stored = [version["name"] for version in obj["spec"].get("versions") or () if version.get("storage")]
        obj["status"] = {
            "conditions": None,
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored,
        }

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        before, after = old["spec"], new["spec"]
        errors = [
            FieldError(f"spec.{path}", INVALID, IMMUTABLE, after.get(path))
            for path in ("group", "scope")
            if after.get(path) != before.get(path)
        ]
        errors += [
            FieldError(f"spec.names.{name}", INVALID, IMMUTABLE, after["names"].get(name))
            for name in ("kind", "plural")
            if after["names"].get(name) != before["names"].get(name)
        ]
        present = {version.get("name") for version in after.get("versions") or ()}
        for index, name in enumerate((old.get("status") or {}).get("storedVersions") or ()):
            if name not in present:
                text = (
                    f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                    "spec.versions until a storage migration ensures no data remains persisted in "
                    f"{name} and removes {name} from status.storedVersions"
                )
                errors.append(FieldError(f"status.storedVersions[{index}]", INVALID, text, name))
        return errors


_PER_VERSION = (
    ("schema.", "validation."),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("subresources", "subresources"),
    ("selectableFields", "selectableFields"),
)


def _hoisted(errors: list[FieldError], spec: Object) -> list[FieldError]:
    """Paths as Kubernetes names them: what all versions have in common it keeps, and so reports, above them."""
    versions = spec.get("versions") or []
    if not versions or any(
        not each.get("schema") or each.get(name) != versions[0].get(name)
        for each in versions
        for name in ("schema", "additionalPrinterColumns", "subresources", "selectableFields")
    ):
        return errors
    moved: dict[tuple[str, str], FieldError] = {}
    for error in errors:
        path = error.path
        if found := re.match(r"spec\.versions\[\d+\]\.", path):
            for name, above in _PER_VERSION:
                if path.startswith(name, found.end()):
                    path = f"spec.{above}{path[found.end() + len(name) :]}"
        moved.setdefault((path, error.body()), replace(error, path=path))
    return list(moved.values())


def _check_approval(obj: Object, group: str) -> list[FieldError]:
    if not any(group == item or group.endswith(f".{item}") for item in _PROTECTED_GROUPS):
        return []
    value = (obj["metadata"].get("annotations") or {}).get(_APPROVAL, "")
    if value.startswith(("https://", "unapproved")):
        return []
    text = "protected groups must have approval annotation, see https://github.com/kubernetes/enhancements/pull/1111"
    return [FieldError(f"metadata.annotations[{_APPROVAL}]", REQUIRED, text)]


def _check_names(own: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in _NAME_FIELDS:
        value = own.get(field, "")
        if not value:
            errors.append(FieldError(f"spec.names.{field}", REQUIRED))
            continue
        checked = value.lower() if field in ("kind", "listKind") else value
        problems = names.dns_label_1035(checked)
        errors += [FieldError(f"spec.names.{field}", INVALID, text, value) for text in problems]
    for field in ("shortNames", "categories"):
        for index, value in enumerate(own.get(field) or ()):
            path = f"spec.names.{field}[{index}]"
            errors += [FieldError(path, INVALID, text, value) for text in names.dns_label_1035(value)]
    if own.get("listKind") and own.get("listKind") == own.get("kind"):
        text = "kind and listKind may not be the same"
        errors.append(FieldError("spec.names.listKind", INVALID, text, own["listKind"]))
    return errors


def _check_versions(spec: Object) -> list[FieldError]:
    versions: list[Object] = spec.get("versions") or []
    errors = duplicates([item.get("name") for item in versions], "spec.versions", "name")
    if not versions:
        return [FieldError("spec.versions", REQUIRED)]
    storing = sum(bool(item.get("storage")) for item in versions)
    if storing != 1:
        text = "must have exactly one version marked as storage version"
        errors.append(FieldError("spec.versions", INVALID, text, versions))
    for index, version in enumerate(versions):
        errors += _check_version(version, f"spec.versions[{index}]")
    return errors


def _check_version(version: Object, path: str) -> list[FieldError]:
    name = version.get("name", "")
    errors = [FieldError(f"{path}.name", INVALID, text, name) for text in names.dns_label_1035(name)]
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if not isinstance(schema, dict):
        errors.append(FieldError(f"{path}.schema.openAPIV3Schema", REQUIRED, "schemas are required"))
    else:
        errors += check_schema(schema, f"{path}.schema.openAPIV3Schema")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        here = f"{path}.additionalPrinterColumns[{index}]"
        if not column.get("name"):
            errors.append(FieldError(f"{here}.name", REQUIRED))
        if column.get("type") not in _COLUMN_TYPES:
            text = f"must be one of {','.join(_COLUMN_TYPES)}"
            errors.append(FieldError(f"{here}.type", INVALID, text, column.get("type", "")))
        if not column.get("jsonPath"):
            errors.append(FieldError(f"{here}.JSONPath", REQUIRED))
        elif not column["jsonPath"].startswith("."):
            text = "must be a simple json path starting with ."
            errors.append(FieldError(f"{here}.JSONPath", INVALID, text, column["jsonPath"]))
        else:
            errors += _check_json_path(column["jsonPath"], f"{here}.JSONPath")
    errors += _check_scale((version.get("subresources") or {}).get("scale"), f"{path}.subresources.scale")
    for index, item in enumerate(version.get("selectableFields") or ()):
        value = item.get("jsonPath", "")
        here = f"{path}.selectableFields[{index}].jsonPath"
        if not value:
            errors.append(FieldError(here, REQUIRED))
        elif not _SIMPLE_PATH.fullmatch(value):
            errors.append(FieldError(here, INVALID, "is not a simple json path such as .spec.color", value))
    return errors


def _check_json_path(value: str, path: str) -> list[FieldError]:
    try:
        compile_path(value)
    except JsonPathError as error:
        return [FieldError(path, INVALID, f"is an invalid JSON path: {error}", value)]
    return []


def _check_scale(scale: Object | None, path: str) -> list[FieldError]:
    if scale is None:
        return []
    errors: list[FieldError] = []
    roots = {
        "specReplicasPath": (".spec.",),
        "statusReplicasPath": (".status.",),
        "labelSelectorPath": (".spec.", ".status."),
    }
    for field, allowed in roots.items():
        value, here = scale.get(field, ""), f"{path}.{field}"
        if not value:
            if field != "labelSelectorPath":
                errors.append(FieldError(here, REQUIRED))
        elif not value.startswith(allowed) or not _SIMPLE_PATH.fullmatch(value):
            text = f"should be a json path under {' or '.join(root[:-1] for root in allowed)}"
            errors.append(FieldError(here, INVALID, text, value))
    return errors


def crd_strategy(crd: Object, version: str) -> KindStrategy:
    """The strategy of one version of the kind that `crd` (valid, defaulted) defines.

    Raises KeyError if there is no such version.
    """
    spec = crd["spec"]
    by_name = {item["name"]: item for item in spec["versions"]}
    own, chosen = spec["names"], by_name[version]
    stored = next(item for item in spec["versions"] if item.get("storage"))

    def resource(name: str) -> Resource:
        return Resource(spec["group"], name, own["plural"], own["kind"], spec["scope"] == "Namespaced")

    subresources = chosen.get("subresources") or {}
    scale = subresources.get("scale")
    served = resource(version)
    schema = chosen["schema"]["openAPIV3Schema"]
    node = Node(copy.deepcopy(schema))
    return CustomStrategy(
        served,
        schema=schema,
        node=node,
        rules=RuleSet(node) if node.has_rules else None,
        stored=node if chosen is stored else Node(copy.deepcopy(stored["schema"]["openAPIV3Schema"])),
        same_as_storage=schema == stored["schema"]["openAPIV3Schema"],
        storage=served if chosen is stored else resource(stored["name"]),
        singular=own.get("singular", ""),
        list_kind=own.get("listKind", ""),
        short_names=own.get("shortNames") or (),
        categories=own.get("categories") or (),
        subresources=[name for name in ("status", "scale") if subresources.get(name) is not None],
        scale=None if scale is None else ScalePaths(
            scale["specReplicasPath"].lstrip("."),
            scale["statusReplicasPath"].lstrip("."),
            (scale.get("labelSelectorPath") or "").lstrip(".") or None,
        ),
        columns=_columns(chosen),
        warning=_deprecation(served, chosen, spec["versions"]),
        selectable_fields=[item["jsonPath"].lstrip(".") for item in chosen.get("selectableFields") or ()],
    )  # fmt: skip


def _columns(version: Object) -> list[Column]:
    listed = version.get("additionalPrinterColumns")
    if not listed:
        return [Column("Age", "date", ".metadata.creationTimestamp")]
    return [
        Column(
            item["name"],
            item["type"],
            item["jsonPath"],
            item.get("format", ""),
            item.get("description", ""),
            item.get("priority", 0),
        )
        for item in listed
    ]


def _deprecation(served: Resource, version: Object, versions: list[Any]) -> str:
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning"):
        return str(version["deprecationWarning"])
    newer = [item["name"] for item in versions if item.get("served") and not item.get("deprecated")]
    text = f"{served.api_version} {served.kind} is deprecated"
    return f"{text}; use {served.group}/{newer[0]} {served.kind}" if newer else text


def crd_status(crd: Object, others: Iterable[Object], now: str) -> Object:
    """The status of `crd`: names accepted unless one of `others` has them, Established, stored versions.

    Equal to the present status when nothing changed, so that writing it is no change either.
    """
    status = copy.deepcopy(crd.get("status") or {})
    spec = crd["spec"]
    conflict = _name_conflict(spec, others)
    previous = {item["type"]: item for item in status.get("conditions") or ()}
    established = previous.get("Established", {}).get("status") == "True"
    accepted = conflict is None
    reason, message = conflict or ("NoConflicts", "no conflicts found")
    conditions = [
        _condition(
            previous,
            "NamesAccepted",
            accepted,
            reason,
            message,
            now,
        ),
        _condition(
            previous,
            "Established",
            accepted or established,
            "InitialNamesAccepted" if accepted or established else "NotAccepted",
            "the initial names have been accepted" if accepted or established else "not all names are accepted",
            now,
        ),
    ]  # fmt: skip
    status["conditions"] = conditions + [
        item for kind, item in previous.items() if kind not in ("NamesAccepted", "Established")
    ]
    if accepted:
        status["acceptedNames"] = copy.deepcopy(spec["names"])
    else:
        status.setdefault("acceptedNames", {"plural": "", "kind": ""})
    storage = next((item["name"] for item in spec["versions"] if item.get("storage")), "")
    stored = list(status.get("storedVersions") or ())
    status["storedVersions"] = stored if storage in stored else [*stored, storage]
    return status


def _name_conflict(spec: Object, others: Iterable[Object]) -> tuple[str, str] | None:
    own = spec["names"]
    resources = {own["plural"], own.get("singular", ""), *(own.get("shortNames") or ())} - {""}
    kinds = {own["kind"], own.get("listKind", "")} - {""}
    for other in others:
        if other["spec"]["group"] != spec["group"]:
            continue
        theirs = (other.get("status") or {}).get("acceptedNames") or {}
        taken = {theirs.get("plural"), theirs.get("singular"), *(theirs.get("shortNames") or ())}
        for name in sorted(resources & taken):
            reason = "PluralConflict" if name == own["plural"] else "ShortNamesConflict"
            return reason, f'"{name}" is already in use'
        for name in sorted(kinds & {theirs.get("kind"), theirs.get("listKind")}):
            return (
                "KindConflict" if name == own["kind"] else "ListKindConflict"
            ), f'"{name}" is already in use'
    return None


def _condition(
    previous: dict[str, Any], kind: str, true: bool, reason: str, message: str, now: str
) -> dict[str, Any]:
    status = "True" if true else "False"
    old = previous.get(kind)
    same = old is not None and old.get("status") == status
    changed = old["lastTransitionTime"] if same and old and "lastTransitionTime" in old else now
    return {
        "type": kind,
        "status": status,
        "lastTransitionTime": changed,
        "reason": reason,
        "message": message,
    }
