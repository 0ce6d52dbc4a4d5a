"""The strategy that all builtin kinds share: typed decoding, defaults, generation, status isolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kaito.embedded.apiserver.kinds import names
from kaito.embedded.apiserver.kinds.metadata import carry_over, validate_metadata
from kaito.embedded.apiserver.kinds.normalise import fill_defaults, normalise
from kaito.embedded.apiserver.kinds.openapi import openapi_schemas
from kaito.embedded.apiserver.kinds.tables import TABLE
from kaito.embedded.apiserver.strategy import (
    ALL_VERBS,
    FieldError,
    FieldPath,
    KindStrategy,
    Object,
    ScalePaths,
)
from kaito.runtime.resources import Resource

WORKLOAD_SCALE = ScalePaths("spec.replicas", "status.replicas", "spec.selector")


class BuiltinStrategy(KindStrategy):
    """A builtin kind described by its field table; kinds with rules of their own override the hooks.

    `type_name` is the type of the table if it isn't the kind's name. `generation` says whether the kind counts
    changes of its desired state. `name_check` gives the syntax of names.
    """

    def __init__(
        self,
        resource: Resource,
        *,
        type_name: str = "",
        generation: bool = False,
        name_check: names.Check = names.dns_subdomain,
        short_names: Sequence[str] = (),
        categories: Sequence[str] = (),
        subresources: Sequence[str] = (),
        singular: str = "",
        scale: ScalePaths | None = None,
        storage: Resource | None = None,
        selectable_fields: Sequence[str] = (),
        verbs: Sequence[str] = ALL_VERBS,
        warning: str = "",
    ) -> None:
        type_name = type_name or resource.kind
        super().__init__(
            resource,
            singular=singular,
            short_names=short_names,
            categories=categories,
            subresources=subresources,
            scale=scale,
            storage=storage,
            selectable_fields=selectable_fields,
            merge_schema=TABLE.merge_schema(type_name),
            verbs=verbs,
            warning=warning,
        )
        self.type = TABLE.root(type_name)
        self.generation = generation
        self.name_check = name_check

    def prune(self, obj: Object) -> list[str]:
        return normalise(obj, self.type, self.resource.version)

    def preset(self, obj: Object, old: Object | None) -> None:
        fill_defaults(obj, self.type)
        self.default(obj, old)

    def prepare_create(self, obj: Object) -> None:
        if self.has_status:
            obj.pop("status", None)
        meta = obj.setdefault("metadata", {})
        meta.pop("selfLink", None)
        if self.generation:
            meta["generation"] = 1
        fill_defaults(obj, self.type)
        self.default(obj, None)

    def complete_create(self, obj: Object) -> None:
        self.created(obj)

    def prepare_update(self, new: Object, old: Object) -> None:
        carry_over(new, old)
        if self.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        fill_defaults(new, self.type)
        self.default(new, old)

    def complete_update(self, new: Object, old: Object, subresource: str) -> None:
        if subresource == "status":
            return
        self.updated(new, old)
        if self.generation and self.desired(new) != self.desired(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def prepare_status_update(self, new: Object, old: Object) -> None:
        status, meta = new.get("status"), new.get("metadata", {})
        kept = {**old["metadata"]}
        for name in ("resourceVersion", "managedFields", *self.status_metadata):
            if name in meta:
                kept[name] = meta[name]
            elif name != "resourceVersion":
                kept.pop(name, None)
        new.clear()
        new.update(old)
        new["metadata"] = kept
        new.pop("status", None)
        if status is not None:
            new["status"] = status
        fill_defaults(new, self.type)

    status_metadata: tuple[str, ...] = ()
    """Metadata that may change together with the status."""

    def reset_fields(self, subresource: str = "") -> tuple[FieldPath, ...]:
        if subresource == "status":
            return (("spec",), ("data",))
        return (("status",),) if self.has_status else ()

    def validate(self, new: Object, old: Object | None = None, subresource: str = "") -> list[FieldError]:
        errors = validate_metadata(new, old, namespaced=self.resource.namespaced, name_check=self.name_check)
        if subresource == "status":
            return errors + self.check_status(new, old)
        errors += self.check(new)
        if old is not None:
            errors += self.check_update(new, old)
        return errors

    def openapi(self) -> tuple[str, dict[str, Object]] | None:
        return openapi_schemas(self.type)

    def desired(self, obj: Object) -> Any:
        """What a change of makes a new generation."""
        return obj.get("spec")

    def default(self, obj: Object, old: Object | None) -> None:
        """Defaults that depend on other fields."""

    def created(self, obj: Object) -> None:
        """What only a create sets."""

    def updated(self, new: Object, old: Object) -> None:
        """What an update carries over beside status."""

    def check(self, obj: Object) -> list[FieldError]:
        """Errors of the object as it is."""
        return []

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        """Errors of the change."""
        return []

    def check_status(self, new: Object, old: Object | None) -> list[FieldError]:
        """Errors of a new status."""
        return []


class RefusedStrategy(BuiltinStrategy):
    """A kind that can be listed, always empty, but not created, because nothing here would act on it."""

    def __init__(self, resource: Resource, sentence: str, *, short_names: Sequence[str] = ()) -> None:
        super().__init__(resource, type_name="Opaque", short_names=short_names)
        self._sentence = sentence

    def refuse(self, obj: Object) -> str:
        return self._sentence
