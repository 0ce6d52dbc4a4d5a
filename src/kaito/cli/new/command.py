"""`kaito new`: prints a Workspace that the controller accepts, or says what is missing for one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer
import yaml

from kaito.api import sentences
from kaito.catalog import Catalog
from kaito.catalog.hub import is_hub_id
from kaito.cli.catalogs import read_catalog
from kaito.cli.errors import CliError
from kaito.cli.new.sources import read_adapter, read_weights
from kaito.cli.new.text import Wish, workspace_yaml
from kaito.cli.plan.accepted import LONGEST_NAME, is_name
from kaito.controllers.admission import Findings
from kaito.controllers.workspace import WorkspaceConfig, parse_cloud
from kaito.controllers.workspace.admission import judge
from kaito.controllers.workspace.decide.weights_source import downloaded

SECRET = "hf-token"
"""Name of the Secret for a gated model, where none is given."""


@dataclass(frozen=True, slots=True)
class NewFlags:
    """The flags of `kaito new`, as given."""

    model: str
    name: str | None
    instance_type: str | None
    weights: str | None
    adapters: Sequence[str]
    secret: str | None
    cloud: str
    catalogs: Sequence[Path] | None = None


def run_new(flags: NewFlags) -> None:
    """Prints the Workspace. Raises CliError with the reasons where it could not be applied."""
    catalog = read_catalog(flags.catalogs)
    try:
        config = WorkspaceConfig(cloud=parse_cloud(flags.cloud))
    except ValueError as error:
        raise CliError(str(error)) from None
    wish = make_wish(flags, catalog)
    if wish.instance_type is None and wish.preset is not None and wish.preset.gpus == 0:
        wish = replace(wish, instance_type=_smallest(catalog, config))
    text = workspace_yaml(wish)
    found = _judged(text, catalog, config)
    if found.refusals:
        raise CliError("; ".join(f"{each.path}: {each.sentence}" for each in found.refusals))
    typer.echo(text, nl=False)
    for each in found.warnings:
        typer.echo(f"Warning: {each.path}: {each.sentence}", err=True)


def make_wish(flags: NewFlags, catalog: Catalog) -> Wish:
    """What the flags mean. Raises CliError."""
    preset = catalog.preset(flags.model)
    if preset is None and not is_hub_id(flags.model):
        nearest = ", ".join(catalog.nearest_presets(flags.model))
        raise CliError(
            f"{flags.model} is not known; nearest: {nearest}. A model of the hub is named organisation/model."
        )
    weights = read_weights(flags.weights) if flags.weights else None
    if preset is not None and preset.private and weights is None:
        raise CliError(
            f"{preset.name} may not be published as an image; say where your copy of its weights is, with --weights."
        )
    hub = weights is None and preset is not None and downloaded(preset)
    secret = flags.secret or (SECRET if hub and preset is not None and preset.gated else None)
    name = flags.name or workspace_name(preset.name if preset is not None else flags.model)
    if not is_name(name):
        raise CliError(f"--name {name}: {sentences.WORKSPACE_NAME}.")
    adapters = tuple(read_adapter(each) for each in flags.adapters)
    return Wish(name, flags.model, preset, flags.instance_type, weights, secret, adapters)


def _smallest(catalog: Catalog, config: WorkspaceConfig) -> str | None:
    """The smallest size on offer: what runs without GPUs runs on any, so there is nothing to choose by."""
    offered = (
        each
        for each in catalog.skus
        if each.cloud == config.cloud and each.retired is None and not each.unusable
    )
    return min(
        ((each.memory_gib, each.gpus, len(each.name), each.name) for each in offered),
        default=(0, 0, 0, None),
    )[3]


def workspace_name(model: str) -> str:
    """A name for a Workspace of that model, which has to be a Service's, too."""
    plain = re.sub("[^a-z0-9]+", "-", model.lower().rpartition("/")[2]).strip("-")
    return f"workspace-{plain}"[:LONGEST_NAME].rstrip("-")


def _judged(text: str, catalog: Catalog, config: WorkspaceConfig) -> Findings:
    document = yaml.safe_load(text)
    document["metadata"]["namespace"] = "default"
    return judge(document, catalog, config, {})
