"""What one served kind allows: the seam between the HTTP half and the object half of the API server.

The HTTP half (store, routing, watch, tables) knows verbs and bytes and asks a `KindStrategy` everything that
depends on the kind. The order in which a write passes through it:

    create   prune -> (HTTP half sets uid, name, creationTimestamp) -> prepare_create -> patching.track_update
             -> complete_create -> validate(new, None) -> to_storage
    update   prune -> prepare_update | prepare_status_update -> patching.track_update -> complete_update
             -> validate(new, old, subresource) -> to_storage

What `complete_*` sets belongs to nobody in managedFields: admission and the registry set it in Kubernetes, after the
client's fields have been counted.

Objects are plain `dict`s of JSON values. Methods named `prepare_*`, `complete_*` and `prune` change the object in
place; nothing here does I/O or knows the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from kaito.runtime.errors import BadRequest, Invalid
from kaito.runtime.resources import Resource

Object = dict[str, Any]
"""A Kubernetes object, decoded: JSON values only."""

FieldPath = tuple[str, ...]
"""Names from the root, for example `("spec", "replicas")`."""

REQUIRED = "Required value"
INVALID = "Invalid value"
NOT_SUPPORTED = "Unsupported value"
FORBIDDEN = "Forbidden"
DUPLICATE = "Duplicate value"
TOO_LONG = "Too long"
TOO_MANY = "Too many"
NOT_FOUND = "Not found"
INTERNAL = "Internal error"

CAUSE_REASONS: Mapping[str, str] = {
    REQUIRED: "FieldValueRequired",
    INVALID: "FieldValueInvalid",
    NOT_SUPPORTED: "FieldValueNotSupported",
    FORBIDDEN: "FieldValueForbidden",
    DUPLICATE: "FieldValueDuplicate",
    TOO_LONG: "FieldValueTooLong",
    TOO_MANY: "FieldValueTooMany",
    NOT_FOUND: "FieldValueNotFound",
    INTERNAL: "InternalError",
}
"""`details.causes[].reason` of a 422 Status for each kind of field error."""

_NO_VALUE = object()
_VALUELESS = (REQUIRED, FORBIDDEN, TOO_LONG, INTERNAL)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field; `str()` is Kubernetes' wording.

    `path` is dotted (`spec.containers[0].name`), `type` one of the constants of this module (Kubernetes'
    ErrorType words), `value` the offending value where Kubernetes would print it, `reason` overrides the
    cause's reason.
    """

    path: str
    type: str
    message: str = ""
    value: Any = _NO_VALUE
    reason: str = ""

    def body(self) -> str:
        """The text after the path: `Invalid value: "x": must be …`."""
        text = self.type
        if self.value is not _NO_VALUE and self.type not in _VALUELESS:
            text += f": {go_value(self.value)}"
        return f"{text}: {self.message}" if self.message else text

    def __str__(self) -> str:
        return f"{self.path}: {self.body()}" if self.path else self.body()

    def cause(self) -> dict[str, str]:
        """The entry of `status.details.causes`."""
        return {
            "reason": self.reason or CAUSE_REASONS.get(self.type, "FieldValueInvalid"),
            "message": self.body(),
            "field": self.path or "<nil>",
        }


def go_value(value: Any) -> str:
    """A value as Kubernetes prints it in a field error."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return orjson.dumps(value).decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return orjson.dumps(value).decode()


def aggregate(errors: Sequence[FieldError]) -> str:
    """Several errors as one text, as in `metadata.name is invalid: [a, b]`; one error stands alone."""
    texts = list(dict.fromkeys(str(error) for error in errors))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column: `type` integer|number|string|boolean|date; `priority` > 0: only with -o wide."""

    name: str
    type: str
    json_path: str
    format: str = ""
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where `autoscaling/v1 Scale` finds its three values; dotted paths without a leading dot."""

    spec_replicas: str
    status_replicas: str
    label_selector: str | None = None


@dataclass(slots=True, eq=False)
class MergeSchema:
    """How a value is merged: drives strategic merge patch, server-side apply and managedFields alike.

    One node per type; nodes of recursive types refer to one another: never walk the graph without an object.

    - `kind` "scalar": replaced as a whole (also what is unknown inside a typed object never reaches here).
    - `kind` "object": `fields` by name; `items` (if any) types every other key, as in `map[string]string`.
    - `kind` "list": `items`; `list_type` atomic | set | map; `keys` identify an element of a map list and
      `key_defaults` fills a key that an element leaves out (`protocol: TCP`).
    - `kind` "any": no schema; maps merge key by key, lists are atomic, as Kubernetes treats untyped data.
    - `atomic`: the object is owned and replaced as a whole in server-side apply.
    - `patch_key`: merge key of strategic merge patch ("" replaces the list; "." merges a list of primitives).
    - `implicit`: the typed form of the object always has it, so nobody is recorded as having added it.
    """

    kind: Literal["scalar", "object", "list", "any"]
    fields: dict[str, MergeSchema] = field(default_factory=dict)
    items: MergeSchema | None = None
    list_type: Literal["atomic", "set", "map"] = "atomic"
    keys: tuple[str, ...] = ()
    key_defaults: dict[str, Any] = field(default_factory=dict)
    atomic: bool = False
    patch_key: str = ""
    implicit: bool = False

    def child(self, name: str) -> MergeSchema | None:
        """The node of field `name`, or None if this schema does not know it."""
        return self.fields.get(name) or self.items


ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class KindStrategy:
    """All the API server must know of one served group, version and kind. Base class with neutral answers.

    Attributes
        resource      what is served; `storage` the resource under which objects are stored (it differs for
                      a CRD's non-storage versions and for `events.k8s.io`, which shares the core's events)
        subresources  names such as "status", "scale", "log", "exec", "binding", "eviction"
        verbs         () for kinds that can only be POSTed, such as reviews
        scale         set when "scale" is in `subresources`
        columns       printer columns of a CRD; empty for builtin kinds, whose tables the HTTP half draws
        warning       text of the `Warning:` header for a deprecated version, else ""
        selectable_fields   dotted paths usable in field selectors beside metadata.name and metadata.namespace
    """

    def __init__(
        self,
        resource: Resource,
        *,
        singular: str = "",
        short_names: Sequence[str] = (),
        categories: Sequence[str] = (),
        subresources: Sequence[str] = (),
        verbs: Sequence[str] = ALL_VERBS,
        scale: ScalePaths | None = None,
        columns: Sequence[Column] = (),
        merge_schema: MergeSchema | None = None,
        storage: Resource | None = None,
        list_kind: str = "",
        warning: str = "",
        selectable_fields: Sequence[str] = (),
    ) -> None:
        self.resource = resource
        self.singular = singular or resource.kind.lower()
        self.short_names = tuple(short_names)
        self.categories = tuple(categories)
        self.subresources = frozenset(subresources)
        self.verbs = tuple(verbs)
        self.scale = scale
        self.columns = tuple(columns)
        self.merge_schema = merge_schema or MergeSchema("any")
        self.storage = storage or resource
        self.list_kind = list_kind or resource.kind + "List"
        self.warning = warning
        self.selectable_fields = tuple(selectable_fields)

    @property
    def has_status(self) -> bool:
        """Whether status is written through its own subresource only."""
        return "status" in self.subresources

    def prune(self, obj: Object) -> list[str]:
        """Drop what the kind does not know, in place; the dropped paths (`spec.foo`) in order.

        The caller turns them into a 400 (`fieldValidation=Strict`), warnings (`Warn`) or nothing (`Ignore`). Raises
        `Unreadable` where a builtin kind's field has a wrong JSON type.
        """
        return []

    def preset(self, obj: Object, old: Object | None) -> None:
        """Defaults, which Kubernetes fills in while decoding, so that admission webhooks see them."""

    def prepare_create(self, obj: Object) -> None:
        """Defaults, generation 1, and removal of what a create may not set (status)."""

    def complete_create(self, obj: Object) -> None:
        """What the server itself adds to a new object: allocated addresses, first status, admission's defaults."""

    def complete_update(self, new: Object, old: Object, subresource: str) -> None:
        """What the server itself settles in an update, such as addresses that the change of a type needs."""

    def prepare_update(self, new: Object, old: Object) -> None:
        """Defaults, carry over what this verb may not touch, bump generation if the desired state changed."""

    def prepare_status_update(self, new: Object, old: Object) -> None:
        """Keep only the change of status: everything else becomes what `old` has."""

    def validate(self, new: Object, old: Object | None = None, subresource: str = "") -> list[FieldError]:
        """All field errors of `new`; `old` is None for a create. Empty when the object may be stored."""
        return []

    def refuse(self, obj: Object) -> str:
        """A sentence if creating this kind of object is not implemented here (answer 501), else ""."""
        return ""

    def release(self, obj: Object) -> None:
        """Give back what `complete_create` reserved (cluster IP, node port).

        Call it after the object is gone, and after a create that was a dry run or failed.
        """

    def warnings(self, obj: Object) -> list[str]:
        """Texts for `Warning:` headers about an object that is accepted."""
        return []

    def reset_fields(self, subresource: str = "") -> tuple[FieldPath, ...]:
        """Paths this verb ignores, so nobody comes to own them through it."""
        return ()

    def to_storage(self, obj: Object) -> Object:
        """The object as stored (under `storage`'s apiVersion). May return `obj` itself, changed."""
        if self.storage is not self.resource:
            obj = {**obj, "apiVersion": self.storage.api_version}
        return obj

    def from_storage(self, obj: Object) -> Object:
        """A stored object as this version serves it."""
        if self.storage is not self.resource:
            obj = {**obj, "apiVersion": self.resource.api_version}
        return obj

    def openapi(self) -> tuple[str, dict[str, Object]] | None:
        """(name of this kind's schema, all OpenAPI v3 schemas it needs by name), or None if it has none."""
        return None


class Unreadable(BadRequest):
    """A body that cannot be read as its kind: 400, or 422 where it is what a patch left behind."""


def invalid(resource: Resource, name: str, errors: Sequence[FieldError]) -> Invalid:
    """The 422 for an object that did not validate, with one cause per field."""
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return Invalid(
        f'{kind} "{name}" is invalid: {aggregate(errors)}',
        details={
            "name": name,
            "group": resource.group,
            "kind": resource.kind,
            "causes": [error.cause() for error in errors],
        },
    )
