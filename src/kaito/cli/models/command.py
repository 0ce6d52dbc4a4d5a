"""`kaito models`: which models there are, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from kaito.catalog import Catalog, Preset
from kaito.cli.catalogs import read_catalog
from kaito.cli.errors import CliError

WIDTH: Final = 180
"""Characters of a line where the output is no terminal."""


def run_models(words: Sequence[str], *, json: bool, catalogs: Sequence[Path] | None = None) -> None:
    """Prints the models that all words are about; without words, all. catalogs: files of the user's own.

    Raises CliError, with the nearest names, when there is none.
    """
    catalog = read_catalog(catalogs)
    found = search(catalog, words)
    if not found:
        asked = " ".join(words)
        nearest = ", ".join(catalog.nearest_presets(asked))
        raise CliError(f"no model is about {asked!r}; the nearest names are {nearest}")
    if json:
        typer.echo(orjson.dumps([as_json(each) for each in found], option=orjson.OPT_INDENT_2).decode())
        return
    console = Console()
    show(found, console if console.is_terminal else Console(width=WIDTH))


def search(catalog: Catalog, words: Iterable[str]) -> list[Preset]:
    """Presets, by name, in whose names, licence, architecture, runtimes or properties every word occurs. Letter case
    means nothing. A preset's own name, alias or hub id finds that one alone."""
    wanted = [word.strip().lower() for word in words if word.strip()]
    if len(wanted) == 1 and (exact := catalog.preset(wanted[0])) is not None:
        return [exact]
    found = [each for each in catalog.presets if all(word in _about(each) for word in wanted)]
    return sorted(found, key=lambda each: each.name)


def _about(preset: Preset) -> str:
    said = [
        *preset.answers_to(),
        preset.licence or "",
        preset.architecture or "",
        preset.task or "",
        preset.quantization.method if preset.quantization is not None else "",
        *preset.runtimes,
        *properties(preset),
    ]
    return "\n".join(said).lower()


def properties(preset: Preset) -> list[str]:
    """What is particular about it, in words."""
    said = {
        "deprecated": preset.deprecated,
        "token": preset.gated,
        "own image": preset.private,
        "tuning": preset.tuning,
        "no adapters": not preset.lora,
        "experts": bool(preset.mixture_of_experts),
        "several nodes": preset.multi_node,
        "unpinned": preset.repo is not None and preset.revision is None,
        "no GPU": preset.gpus == 0,
    }
    return [word for word, holds in said.items() if holds]


def as_json(preset: Preset) -> dict[str, Any]:
    """All that the catalogue knows of it, by the names of its schema; null is what nobody has stated."""
    return preset.model_dump(mode="json")


def show(presets: Sequence[Preset], console: Console) -> None:
    """Prints a table, and what its words mean."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("NAME", no_wrap=True)
    table.add_column("WEIGHTS", justify="right", no_wrap=True)
    table.add_column("CONTEXT", justify="right", no_wrap=True)
    for name in ("LICENCE", "RUNTIMES", "PROPERTIES", "HUB"):
        table.add_column(name, overflow="fold")
    for each in presets:
        table.add_row(
            each.name,
            f"{each.weights_gib:g} GiB" if each.weights_gib is not None else "?",
            f"{each.context_tokens:,}" if each.context_tokens is not None else "?",
            each.licence or "?",
            ", ".join(each.runtimes),
            ", ".join(properties(each)),
            each.repo or "",
        )
    console.print(table)
    models = "1 model" if len(presets) == 1 else f"{len(presets)} models"
    console.print(
        f"{models}. Write a name or the hub's id into inference.preset.name of a Workspace.", soft_wrap=True
    )
    console.print(
        "token: the hub wants one. own image: you bring one, in presetOptions.image. unpinned: no commit of the "
        "weights is recorded. ?: nobody has stated it.",
        soft_wrap=True,
    )
