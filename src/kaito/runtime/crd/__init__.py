"""CustomResourceDefinitions from pydantic classes. Needs the extra `kaito[crd]`.

    from typing import Annotated, Literal
    from kaito.runtime.crd import AGE, Column, CustomObject, CustomResource, Object, Rule, Version, to_yaml

    class BackupSpec(Object):
        schedule: Annotated[str, Rule("self == oldSelf", "schedule cannot change; create another Backup")]
        \"\"\"When to run, as a five-field cron line.\"\"\"
        mode: Literal["full", "incremental"] = "full"
        keep: int | None = None
        validations = (Rule("!has(self.keep) || self.keep > 0", "keep: write 1 or more", ".keep"),)

    class Backup(CustomObject):
        spec: BackupSpec

    crd = CustomResource(
        "example.com", "Backup", "backups", short_names=("bk",),
        versions=(Version("v1", Backup, storage=True, columns=(Column("Schedule", ".spec.schedule"), AGE)),),
    )
    print(to_yaml(crd.manifest()))

How types map: `X | None = None` is optional; another default is the schema's default; `Literal` and `Enum`
are enums; `dict[str, X]` is a map; `list[X]` an array (mark it `ListMap("name")`, `ListSet()` or `Atomic()`);
`Schemaless` is any object, `Quantity` and `IntOrString` take numbers or text; `Field(max_length=…, pattern=…,
ge=…)` become their schema keywords. What a structural schema cannot say raises `CrdError` with the field's
path.

Modules are loaded when a name of theirs is first used: `manifests`, for one, needs no pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaito.runtime.crd.definition import (
        AGE,
        Column,
        CustomResource,
        Scale,
        Version,
        condition_column,
        root_schema,
        to_yaml,
    )
    from kaito.runtime.crd.markers import (
        Atomic,
        AtomicMap,
        Format,
        IntOrString,
        ListMap,
        ListSet,
        Nullable,
        PreserveUnknown,
        Rule,
    )
    from kaito.runtime.crd.models import CustomObject, Metadata, Object, Quantity, Schemaless
    from kaito.runtime.crd.schema import CrdError, schema_of
    from kaito.runtime.crd.sources import Source, manifests
    from kaito.runtime.crd.structural import problems

_MODULES = {
    "definition": (
        "AGE",
        "Column",
        "CustomResource",
        "Scale",
        "Version",
        "condition_column",
        "root_schema",
        "to_yaml",
    ),
    "markers": (
        "Atomic",
        "AtomicMap",
        "Format",
        "IntOrString",
        "ListMap",
        "ListSet",
        "Nullable",
        "PreserveUnknown",
        "Rule",
    ),
    "models": (
        "CustomObject",
        "Metadata",
        "Object",
        "Quantity",
        "Schemaless",
    ),
    "schema": (
        "CrdError",
        "schema_of",
    ),
    "sources": (
        "Source",
        "manifests",
    ),
    "structural": ("problems",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AGE",
    "Atomic",
    "AtomicMap",
    "Column",
    "CrdError",
    "CustomObject",
    "CustomResource",
    "Format",
    "IntOrString",
    "ListMap",
    "ListSet",
    "Metadata",
    "Nullable",
    "Object",
    "PreserveUnknown",
    "Quantity",
    "Rule",
    "Scale",
    "Schemaless",
    "Source",
    "Version",
    "condition_column",
    "manifests",
    "problems",
    "root_schema",
    "schema_of",
    "to_yaml",
]


def __getattr__(name: str) -> Any:
    """Loads the module of a public name when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
