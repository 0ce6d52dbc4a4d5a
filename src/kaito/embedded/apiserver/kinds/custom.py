"""The strategy of kinds that a CustomResourceDefinition defines."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from kaito.embedded.apiserver.kinds import names
from kaito.embedded.apiserver.kinds.metadata import STANDARD_FINALIZERS, carry_over, validate_metadata
from kaito.embedded.apiserver.kinds.normalise import normalise_metadata
from kaito.embedded.apiserver.kinds.openapi import openapi_schemas
from kaito.embedded.apiserver.kinds.tables import TABLE
from kaito.embedded.apiserver.schema.node import Node, drop_nulls, fill_defaults, prune
from kaito.embedded.apiserver.schema.rules import RuleSet
from kaito.embedded.apiserver.schema.validate import ABSENT, TYPE_REASON, validate, validate_list_types
from kaito.embedded.apiserver.strategy import (
    INVALID,
    NOT_SUPPORTED,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    Column,
    FieldError,
    FieldPath,
    KindStrategy,
    MergeSchema,
    Object,
    ScalePaths,
)
from kaito.runtime.resources import Resource

_BLOCKING = (NOT_SUPPORTED, REQUIRED, TOO_LONG, TOO_MANY)
_NOT_CHECKED = FieldError(
    "<nil>",
    INVALID,
    "some validation rules were not checked because the object was invalid; correct the existing errors to "
    "complete validation",
    None,
)


class CustomStrategy(KindStrategy):
    """One version of a custom kind."""

    def __init__(
        self,
        resource: Resource,
        *,
        schema: Object,
        node: Node,
        rules: RuleSet | None,
        stored: Node,
        same_as_storage: bool,
        storage: Resource,
        singular: str = "",
        list_kind: str = "",
        short_names: Sequence[str] = (),
        categories: Sequence[str] = (),
        subresources: Sequence[str] = (),
        scale: ScalePaths | None = None,
        columns: Sequence[Column] = (),
        warning: str = "",
        selectable_fields: Sequence[str] = (),
    ) -> None:
        super().__init__(
            resource,
            singular=singular,
            list_kind=list_kind,
            short_names=short_names,
            categories=categories,
            subresources=subresources,
            scale=scale,
            columns=columns,
            warning=warning,
            selectable_fields=selectable_fields,
            storage=storage,
            merge_schema=_merge_schema(node),
        )
        self._schema = schema
        self._node = node
        self._rules = rules
        self._stored = stored
        self._same = same_as_storage

    def prune(self, obj: Object) -> list[str]:
        unknown = normalise_metadata(obj, self.resource)
        prune(self._node, obj, "", unknown, root=True)
        return unknown

    def preset(self, obj: Object, old: Object | None) -> None:
        fill_defaults(self._node, obj)

    def prepare_create(self, obj: Object) -> None:
        if self.has_status:
            obj.pop("status", None)
        meta = obj.setdefault("metadata", {})
        meta.pop("selfLink", None)
        meta["generation"] = 1
        fill_defaults(self._node, obj)
        drop_nulls(self._node, obj)

    def prepare_update(self, new: Object, old: Object) -> None:
        carry_over(new, old)
        if self.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        fill_defaults(self._node, new)
        drop_nulls(self._node, new)
        if _desired(new) != _desired(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def prepare_status_update(self, new: Object, old: Object) -> None:
        status, meta = new.get("status"), new.get("metadata", {})
        kept = dict(old["metadata"])
        for name in ("resourceVersion", "managedFields"):
            if name in meta:
                kept[name] = meta[name]
        new.clear()
        new.update(old)
        new["metadata"] = kept
        new.pop("status", None)
        if status is not None:
            new["status"] = status
            fill_defaults(self._node, new)
            drop_nulls(self._node, new)

    def reset_fields(self, subresource: str = "") -> tuple[FieldPath, ...]:
        if subresource == "status":
            return (("metadata",), ("spec",))
        return (("status",),) if self.has_status else ()

    def validate(self, new: Object, old: Object | None = None, subresource: str = "") -> list[FieldError]:
        errors = validate_metadata(
            new, old, namespaced=self.resource.namespaced, name_check=names.dns_subdomain, builtin=False
        )
        before: Any = ABSENT if old is None else old
        validate(self._node, new, before, "", errors)
        errors += self._check_scale(new)
        self._check_list_types(new, old, errors)
        if self._rules is not None:
            if any(error.type in _BLOCKING or error.reason == TYPE_REASON for error in errors):
                errors.append(_NOT_CHECKED)
            else:
                errors += self._rules.check(self._node, new, before, "", root=True)
        return errors

    def _check_scale(self, obj: Object) -> list[FieldError]:
        """The two numbers that a Scale shows are numbers, and not negative."""
        errors: list[FieldError] = []
        for path in () if self.scale is None else (self.scale.spec_replicas, self.scale.status_replicas):
            value: Any = obj
            for part in path.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                text = "should be a non-negative integer"
                errors.append(FieldError(f".{path}", INVALID, text, value))
        return errors

    def _check_list_types(self, new: Object, old: Object | None, errors: list[FieldError]) -> None:
        if not self._node.has_list_types:
            return
        found: list[FieldError] = []
        validate_list_types(self._node, new, "", found)
        if found and old is not None:
            known: list[FieldError] = []
            validate_list_types(self._node, old, "", known)
            if known:
                return
        errors += found

    def warnings(self, obj: Object) -> list[str]:
        return [
            f'metadata.finalizers: "{each}": prefer a domain-qualified finalizer name to avoid accidental conflicts '
            "with other finalizer writers"
            for each in obj["metadata"].get("finalizers") or ()
            if "/" not in each and each not in STANDARD_FINALIZERS
        ]

    def from_storage(self, obj: Object) -> Object:
        if self.storage is self.resource:
            return obj
        if self._same:
            return {**obj, "apiVersion": self.resource.api_version}
        served = copy.deepcopy(obj)
        served["apiVersion"] = self.resource.api_version
        prune(self._node, served, "", [], root=True)
        return served

    def to_storage(self, obj: Object) -> Object:
        """Under the stored version, without what that version does not know: nothing else would be read back."""
        obj = super().to_storage(obj)
        if not self._same:
            obj = copy.deepcopy(obj)
            prune(self._stored, obj, "", [], root=True)
            fill_defaults(self._stored, obj)
        return obj

    def openapi(self) -> tuple[str, dict[str, Object]]:
        parts = [*reversed(self.resource.group.split(".")), self.resource.version, self.resource.kind]
        meta, schemas = openapi_schemas(TABLE["ObjectMeta"])
        properties = {
            **(self._schema.get("properties") or {}),
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": f"#/components/schemas/{meta}"},
        }
        return ".".join(parts), {**schemas, ".".join(parts): {**self._schema, "properties": properties}}


def _desired(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key != "metadata"}


def _merge_schema(node: Node) -> MergeSchema:
    schema = node.merge_schema()
    root = MergeSchema("object", fields=dict(schema.fields), items=schema.items)
    for name in ("apiVersion", "kind"):
        root.fields[name] = MergeSchema("scalar")
    root.fields["metadata"] = TABLE.merge_schema("Opaque").fields["metadata"]
    return root
