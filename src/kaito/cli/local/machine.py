"""What this machine can serve models with: its memory, what the engine computes on, and the weights that are here."""

from __future__ import annotations

from collections.abc import Collection

from kaito.catalog import Catalog
from kaito.cli.local.images import held_presets
from kaito.cli.local.memory import memory_gib
from kaito.controllers.workspace import OneMachine


def this_machine(catalog: Catalog, downloaded: Collection[str] = ()) -> OneMachine:
    """The machine as the operator plans for it. downloaded: presets whose real weights are here already."""
    from kaito_presets.engines.device import on_gpu

    return OneMachine(memory_gib(), on_gpu(), frozenset(held_presets(catalog, downloaded)))
