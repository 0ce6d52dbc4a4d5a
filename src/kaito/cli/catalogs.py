"""The catalogue that a command works with: ours, files of the user's own, and what the hub says of other models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kaito.catalog import Catalog, CatalogError, Preset, load_catalog
from kaito.catalog.additions import added, read_file
from kaito.catalog.hub import HubError, is_hub_id
from kaito.cli.errors import CliError
from kaito.runtime.clock import Clock, LoopClock

if TYPE_CHECKING:
    from kaito.controllers.workspace.model import Answer, Need


def read_catalog(files: Sequence[Path] | None = None) -> Catalog:
    """Ours with what the files add. Raises CliError naming the file and the wrong field."""
    try:
        return added(load_catalog(), [each for file in files or () for each in read_file(file)])
    except CatalogError as error:
        raise CliError(str(error)) from None


async def ask_hub(needs: Iterable[Need], clock: Clock | None = None) -> dict[Need, Answer]:
    """What the hub says to each, asked with HF_TOKEN of the environment. Raises CliError for an HF_ENDPOINT that is
    no URL."""
    from kaito.catalog.hub.client import TOKEN_VARIABLE, HubClient
    from kaito.controllers.workspace.hub_lookup import answered

    wanted = list(dict.fromkeys(needs))
    if not wanted:
        return {}
    try:
        hub = HubClient.of_environment(clock or LoopClock())
    except ValueError as error:
        raise CliError(str(error)) from None
    token = os.environ.get(TOKEN_VARIABLE, "").strip() or None
    return {
        need: await answered(hub, need, token, f"set {TOKEN_VARIABLE} to a token that may read it")
        for need in wanted
    }


async def hub_preset(id: str) -> Preset:
    """A model that the catalogue does not have. Raises CliError with the hub's sentence."""
    from kaito.catalog.hub.client import TOKEN_VARIABLE, HubClient

    try:
        return await HubClient.of_environment(LoopClock()).preset(
            id, token=os.environ.get(TOKEN_VARIABLE, "").strip() or None
        )
    except HubError as error:
        raise CliError(f"{error}.") from None
    except ValueError as error:
        raise CliError(str(error)) from None


async def known(name: str, catalog: Catalog) -> Preset:
    """The model of that name, alias or hub id, asked of the hub where the catalogue lacks it. Raises CliError."""
    preset = catalog.preset(name)
    if preset is not None:
        return preset
    if is_hub_id(name):
        return await hub_preset(name)
    raise CliError(f"{name} is not known; nearest: {', '.join(catalog.nearest_presets(name))}")
