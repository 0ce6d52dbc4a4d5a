"""Models and machine sizes of the user's own, beside those that come with this program. Pure.

An addition is the text of a catalogue file. What it names anew is added; an entry with the name of one that is there
already takes its place, whole: so a commit is recorded, or a size corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import ValidationError

from kaito.catalog.load import LOADER, CatalogError, sections_of
from kaito.catalog.models import Catalog, GpuSku, Preset

Entry = TypeVar("Entry", Preset, GpuSku)

DEEPEST: Final = 10_000
"""Brackets that a text may have: the parser goes one level deeper for each."""


@dataclass(frozen=True, slots=True)
class Addition:
    """Entries of one source; `name` is told in messages."""

    name: str
    presets: tuple[Preset, ...] = ()
    skus: tuple[GpuSku, ...] = ()


def read_addition(name: str, text: str) -> Addition:
    """Raises CatalogError with the source's name and the wrong field."""
    if text.count("[") + text.count("{") > DEEPEST:
        raise CatalogError(f"{name}: more than {DEEPEST} brackets")
    try:
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, Loader=LOADER)):
            raise CatalogError(f"{name}: write entries in full; *aliases are not read here")
        document = yaml.load(text, Loader=LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(f"{name}: not YAML: {' '.join(str(error).split())[:200]}") from None
    if document is None:
        return Addition(name)
    return read_sections(name, document)


def read_sections(name: str, document: Any) -> Addition:
    """The same of what a YAML parser made of the text. Raises CatalogError."""
    sections = sections_of(document, name)
    return Addition(
        name,
        tuple(
            _entry(Preset, name, "presets", at, each) for at, each in enumerate(sections.get("presets", ()))
        ),
        tuple(_entry(GpuSku, name, "skus", at, each) for at, each in enumerate(sections.get("skus", ()))),
    )


def read_file(path: Path) -> list[Addition]:
    """Additions in a file: a catalogue file, or manifests of ConfigMaps that hold some. Raises CatalogError."""
    try:
        documents = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=LOADER))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise CatalogError(f"{path}: {' '.join(str(error).split())[:200]}") from None
    found: list[Addition] = []
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "ConfigMap":
            data = document.get("data") or {}
            found += [read_addition(f"{path}, {key}", str(text)) for key, text in sorted(data.items())]
        elif document is not None:
            found.append(read_sections(str(path), document))
    if not found:
        raise CatalogError(f"{path} holds neither a catalogue nor a ConfigMap with one")
    return found


def added(base: Catalog, additions: Iterable[Addition]) -> Catalog:
    """The catalogue with them, a later one before an earlier. Raises CatalogError with the name of the one that does
    not go with the rest."""
    catalog = base
    for each in additions:
        try:
            catalog = Catalog(
                presets=_replaced(catalog.presets, each.presets), skus=_replaced(catalog.skus, each.skus)
            )
        except ValidationError as error:
            raise CatalogError(f"{each.name}: {_first(error)}") from None
    return catalog


def _replaced(old: Iterable[Entry], new: Iterable[Entry]) -> tuple[Entry, ...]:
    by_name = {each.name: each for each in old}
    by_name.update((each.name, each) for each in new)
    return tuple(by_name.values())


def _entry(kind: type[Entry], source: str, section: str, at: int, value: Any) -> Entry:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        named = value.get("name") if isinstance(value, Mapping) else None
        which = f"{section}[{at}]" + (f" ({named})" if isinstance(named, str) else "")
        raise CatalogError(f"{source}: {which}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
