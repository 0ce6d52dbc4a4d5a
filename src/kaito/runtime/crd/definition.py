"""A CustomResourceDefinition from models: names, versions, subresources, printer columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from kaito.runtime.crd.models import CustomObject
from kaito.runtime.crd.schema import CrdError, schema_of
from kaito.runtime.crd.structural import problems

ColumnType = Literal["string", "integer", "number", "boolean", "date"]


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of `kubectl get` (NAME is kubectl's own). Priority 0 is always shown, above it with -o
    wide.

    json_path: from the root, starting with a dot: `.status.conditions[?(@.type=="Ready")].status`.
    """

    name: str
    json_path: str
    type: ColumnType = "string"
    priority: int = 0
    description: str = ""
    format: str = ""

    def to_dict(self) -> dict[str, Any]:
        if not self.json_path.startswith("."):
            raise CrdError(f"column {self.name}: the JSONPath {self.json_path!r} must start with a dot")
        optional = {"priority": self.priority, "description": self.description, "format": self.format}
        return {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.json_path,
            **{key: value for key, value in optional.items() if value},
        }


def condition_column(type: str, *, name: str = "", priority: int = 0) -> Column:
    """The usual column: the status of one condition."""
    return Column(name or type, f'.status.conditions[?(@.type=="{type}")].status', priority=priority)


AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, slots=True)
class Scale:
    """Paths of the scale subresource."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    label_selector: str | None = None

    def to_dict(self) -> dict[str, str]:
        paths = {"specReplicasPath": self.spec_replicas, "statusReplicasPath": self.status_replicas}
        return paths if self.label_selector is None else {**paths, "labelSelectorPath": self.label_selector}


@dataclass(frozen=True, slots=True)
class Version:
    """One served version. Several versions may share one model: then they differ in name only.

    deprecation: warning that clients of this version see; None: not deprecated.
    """

    name: str
    model: type[CustomObject]
    columns: tuple[Column, ...] = ()
    served: bool = True
    storage: bool = False
    status: bool = True
    scale: Scale | None = None
    deprecation: str | None = None

    def to_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": self.name,
            "served": self.served,
            "storage": self.storage,
            "schema": {"openAPIV3Schema": root_schema(self.model)},
        }
        if self.columns:
            entry["additionalPrinterColumns"] = [column.to_dict() for column in self.columns]
        subresources: dict[str, Any] = {"status": {}} if self.status else {}
        if self.scale is not None:
            subresources["scale"] = self.scale.to_dict()
        if subresources:
            entry["subresources"] = subresources
        if self.deprecation is not None:
            entry |= {"deprecated": True, "deprecationWarning": self.deprecation}
        return entry


@dataclass(frozen=True, slots=True)
class CustomResource:
    """One CRD. Several versions mean conversion strategy None: the API server rewrites apiVersion and
    prunes."""

    group: str
    kind: str
    plural: str
    versions: tuple[Version, ...]
    singular: str = ""
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the CRD object: `<plural>.<group>`."""
        return f"{self.plural}.{self.group}"

    def manifest(self) -> dict[str, Any]:
        """The CustomResourceDefinition as a dict. Raises `CrdError`."""
        if [version.storage for version in self.versions].count(True) != 1:
            raise CrdError(f"{self.name}: exactly one version must be the stored one")
        names: dict[str, Any] = {
            "kind": self.kind,
            "listKind": f"{self.kind}List",
            "plural": self.plural,
            "singular": self.singular or self.kind.lower(),
        }
        if self.short_names:
            names["shortNames"] = list(self.short_names)
        if self.categories:
            names["categories"] = list(self.categories)
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name},
            "spec": {
                "group": self.group,
                "names": names,
                "scope": "Namespaced" if self.namespaced else "Cluster",
                "conversion": {"strategy": "None"},
                "versions": [version.to_dict() for version in self.versions],
            },
        }


def root_schema(model: type[CustomObject]) -> dict[str, Any]:
    """The schema of a whole object: apiVersion, kind and metadata are the API server's, the rest is the
    model's."""
    schema = schema_of(model)
    schema["properties"] |= {
        "apiVersion": {"type": "string", "description": "Group and version of this object."},
        "kind": {"type": "string", "description": "Kind of this object."},
        "metadata": {"type": "object"},
    }
    if found := problems(schema):
        raise CrdError(f"{model.__name__} is not structural: " + "; ".join(found))
    return schema


def to_yaml(manifest: Mapping[str, Any]) -> str:
    """One YAML document with sorted keys, so that a small change of a model is a small change of the file."""
    return yaml.dump(dict(manifest), Dumper=_Dumper, sort_keys=True, width=110, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Without aliases: a shared list is written twice, as a reader of the file expects."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
