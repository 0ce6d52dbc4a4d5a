"""`kaito models pin`: asks the hub at which commit models are, and prints entries of a catalogue that say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from kaito.catalog import Catalog, Preset
from kaito.catalog.hub import is_hub_id
from kaito.cli.catalogs import ask_hub, read_catalog
from kaito.cli.errors import CliError
from kaito.controllers.workspace.decide.hub_model import FACTS
from kaito.controllers.workspace.model import Answer, Need
from kaito.controllers.workspace.own_catalog import LABEL

NOT_PINNED = 1
"""Exit status where a model could not be pinned."""


@dataclass(frozen=True, slots=True)
class PinFlags:
    """The flags of `kaito models pin`, as given."""

    models: Sequence[str]
    unpinned: bool = False
    newest: bool = False
    config_map: str | None = None
    namespace: str = "kaito-system"
    catalogs: Sequence[Path] | None = None


async def run_pin(flags: PinFlags) -> None:
    """Prints the entries. Raises CliError for a name that is no model's, typer.Exit(1) where a commit was not found;
    what was found is printed all the same."""
    catalog = read_catalog(flags.catalogs)
    wanted = models_to_pin(flags, catalog)
    needs = {
        name: Need("model", preset.repo if preset and preset.repo else name)
        for name, preset in wanted.items()
    }
    asked = {
        name: need
        for name, need in needs.items()
        if (preset := wanted[name]) is None or preset.revision is None or flags.newest
    }
    answers = await ask_hub(asked.values())
    entries: list[dict[str, Any]] = []
    failed: list[str] = []
    for name, preset in wanted.items():
        answer = answers.get(asked[name]) if name in asked else None
        if answer is not None and answer.facts is None:
            failed.append(f"{name}: {answer.message}")
        else:
            entries.append(entry(preset, answer))
    if entries:
        typer.echo(_shown(entries, flags), nl=False)
    for each in failed:
        typer.echo(f"Not pinned: {each}.", err=True)
    if failed:
        raise typer.Exit(NOT_PINNED)


def models_to_pin(flags: PinFlags, catalog: Catalog) -> dict[str, Preset | None]:
    """By the name that was given: the catalogue's model, None for one that only the hub may know. Raises CliError."""
    if flags.unpinned == bool(flags.models):
        raise CliError("Name the models to pin, or give --unpinned for all whose commit is not recorded.")
    if flags.unpinned:
        return {
            each.name: each
            for each in catalog.presets
            if each.repo is not None and each.revision is None and not each.deprecated
        }
    found: dict[str, Preset | None] = {}
    for name in flags.models:
        preset = catalog.preset(name)
        if preset is None and not is_hub_id(name):
            nearest = ", ".join(catalog.nearest_presets(name))
            raise CliError(
                f"{name} is not known; nearest: {nearest}. A model of the hub is written org/name."
            )
        if preset is not None and preset.repo is None:
            raise CliError(f"{preset.name} has no repository on the hub, so there is no commit to pin.")
        found[name] = preset
    return found


def entry(preset: Preset | None, answer: Answer | None) -> dict[str, Any]:
    """The entry, at the commit that the hub answered; without an answer as it is."""
    if answer is None:
        assert preset is not None  # only what the catalogue has is pinned already
        return preset.model_dump(mode="json", exclude_defaults=True)
    assert answer.facts is not None
    if preset is None:
        facts: dict[str, Any] = answer.facts[FACTS]
        return facts
    revision = answer.facts["revision"]
    earlier = tuple(
        dict.fromkeys(
            each for each in (preset.revision, *preset.earlier_revisions) if each not in (None, revision)
        )
    )
    pinned = preset.model_copy(update={"revision": revision, "earlier_revisions": earlier})
    return pinned.model_dump(mode="json", exclude_defaults=True)


def _shown(entries: Sequence[dict[str, Any]], flags: PinFlags) -> str:
    text: str = yaml.safe_dump({"presets": list(entries)}, sort_keys=False, width=120)
    if flags.config_map is None:
        return text
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": flags.config_map, "namespace": flags.namespace, "labels": {LABEL: "true"}},
        "data": {"models.yaml": text},
    }
    shown: str = yaml.dump(manifest, Dumper=_Readable, sort_keys=False, width=120)
    return shown


class _Readable(yaml.SafeDumper):
    """Writes text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Readable.add_representer(str, _text)
