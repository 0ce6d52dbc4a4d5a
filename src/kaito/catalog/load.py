"""Read the catalogue's YAML: from the wheel (`kaito/catalog/data`) or a source tree (`presets/catalog`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from kaito.catalog.models import Catalog

_IN_WHEEL: Final = Path(__file__).parent / "data"
_IN_SOURCE_TREE: Final = Path(__file__).parents[3] / "presets" / "catalog"
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: every command reads the catalogue, and this takes a quarter of the time."""
_SECTIONS: Final = frozenset({"presets", "skus"})


class CatalogError(ValueError):
    """The catalogue is missing, or one of its files does not hold what it should."""


def catalog_directory() -> Path:
    """Where the catalogue's files lie. Raises CatalogError when neither place has them."""
    for directory in (_IN_WHEEL, _IN_SOURCE_TREE):
        if directory.is_dir() and any(directory.glob("*.yaml")):
            return directory
    raise CatalogError(f"no catalogue: neither {_IN_WHEEL} nor {_IN_SOURCE_TREE} holds a .yaml file")


def load_catalog(path: Path | str | None = None) -> Catalog:
    """Read every `*.yaml` of a directory (default: our own), or one file, in order of file name.

    Each file is a map with `presets` and/or `skus`. Raises CatalogError naming the file and the wrong field.
    """
    source = Path(path) if path is not None else catalog_directory()
    files = sorted(source.glob("*.yaml")) if source.is_dir() else [source]
    if not files:
        raise CatalogError(f"{source} holds no .yaml file")
    merged: dict[str, list[Any]] = {section: [] for section in sorted(_SECTIONS)}
    for file in files:
        for section, entries in _read(file).items():
            merged[section].extend(entries)
    try:
        return Catalog.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "catalogue"
        raise CatalogError(f"{source}: {where}: {first['msg']}") from error


def _read(file: Path) -> dict[str, list[Any]]:
    try:
        document = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER)
    except (OSError, yaml.YAMLError) as error:
        raise CatalogError(f"{file}: {error}") from error
    return sections_of(document, str(file))


def sections_of(document: Any, name: str) -> dict[str, list[Any]]:
    """The lists of a catalogue file that is read already. Raises CatalogError; `name` is the file's."""
    if not isinstance(document, dict) or not set(document) <= _SECTIONS:
        raise CatalogError(f"{name}: expected a map with the keys {' and '.join(sorted(_SECTIONS))}")
    for section, entries in document.items():
        if not isinstance(entries, list):
            raise CatalogError(f"{name}: {section}: expected a list")
    return document
