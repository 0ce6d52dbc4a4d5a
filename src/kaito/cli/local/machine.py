"""What this machine can serve models with: its memory, what the engine computes on, and the weights that are here."""

from __future__ import annotations

import os
from collections.abc import Collection

from kaito.catalog import Catalog
from kaito.catalog.one_machine import GIB
from kaito.cli.local.images import held_presets
from kaito.controllers.workspace import OneMachine


def this_machine(catalog: Catalog, downloaded: Collection[str] = ()) -> OneMachine:
    """The machine as the operator plans for it. downloaded: presets whose real weights are here already."""
    from kaito_presets.engines.device import on_gpu

    return OneMachine(memory_gib(), on_gpu(), frozenset(held_presets(catalog, downloaded)))


def memory_gib() -> float | None:
    """All memory of the machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (ValueError, OSError):
        return None
