"""CustomResourceDefinitions from wherever a project keeps them: classes, manifests, files, folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

Manifest = dict[str, Any]


@runtime_checkable
class HasManifest(Protocol):
    """A `CustomResource`, or anything else that can write its definition."""

    def manifest(self) -> Manifest: ...


Source = HasManifest | Mapping[str, Any] | Path | str
"""A CustomResource made from pydantic classes, a manifest, or the path of a YAML or JSON file or a folder of them."""


def manifests(source: Source, base: Path) -> list[Manifest]:
    """The definitions that a source holds; relative paths start at `base`. What else stands in its files is left.

    Raises:
        ValueError: there are none, or the source is something else.
    """
    if isinstance(source, Mapping):
        return _definitions([dict(source)], "the manifest given")
    if isinstance(source, str | Path):
        path = base / source
        if path.is_dir():
            files = sorted(each for each in path.rglob("*") if each.suffix in (".yaml", ".yml", ".json"))
            return _definitions([document for each in files for document in _read(each)], f"{path}/")
        return _definitions(_read(path), str(path))
    if isinstance(source, HasManifest):
        return [source.manifest()]
    raise ValueError(
        f"{source!r} is no source of CustomResourceDefinitions: give a kaito.runtime.crd.CustomResource, a manifest, "
        "or the path of a file or folder"
    )


def _read(path: Path) -> list[Any]:
    try:
        return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from None


def _definitions(documents: list[Any], where: str) -> list[Manifest]:
    maps = [document for document in documents if isinstance(document, dict)]
    found = [document for document in maps if document.get("kind") == "CustomResourceDefinition"]
    if not found:
        kinds = ", ".join(sorted({str(document.get("kind")) for document in maps})) or "nothing"
        raise ValueError(f"{where}: no CustomResourceDefinition in it, but {kinds}")
    for document in found:
        if not isinstance(document.get("metadata"), dict) or not document["metadata"].get("name"):
            raise ValueError(f"{where}: a CustomResourceDefinition without metadata.name")
    return found
