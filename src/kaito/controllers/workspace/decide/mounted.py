"""Adapters as a Workspace names them, and what is known of their ranks: room for them is part of what a model needs.

No node is asked for before every adapter was read, so nodes are counted with real ranks. Until then, and in a plan for
a file, each counts as one of the usual rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kaito.api.adapter import READY
from kaito.api.conditions import find_condition
from kaito.catalog import AdapterFacts
from kaito.catalog.adapters import ASSUMED_RANK
from kaito.controllers.workspace.compare import difference
from kaito.controllers.workspace.model import Object, conditions, metadata
from kaito.controllers.workspace.names import adapter_name


@dataclass(frozen=True, slots=True)
class AdapterWanted:
    """One entry of `inference.adapters`."""

    name: str
    """Directory under /mnt/adapter and name in requests."""
    path: str
    """Its field in the Workspace, for messages."""
    object_name: str
    source: Object | None
    """Where it is, for an inline adapter; None for one that is referred to."""
    strength: str


@dataclass(frozen=True, slots=True)
class Mounted:
    """ranks: of each adapter, in the Workspace's order. read: whether all of them are known as far as they ever are.
    assumed: whether one of them is a guess, since only the pod that serves it reads it, or it was not read yet."""

    ranks: tuple[int, ...] = ()
    read: bool = True
    assumed: bool = False


def adapters_wanted(workspace: Object) -> tuple[AdapterWanted, ...]:
    """The entries of a Workspace whose fields have the types of the API's model. One that was stored before the rules
    of the CRD came may name no adapter at all: it is left out."""
    entries = (workspace.get("inference") or {}).get("adapters") or ()
    name = metadata(workspace)["name"]
    return tuple(
        _wanted(name, index, each)
        for index, each in enumerate(entries)
        if (each.get("source") or each.get("adapterRef") or {}).get("name")
    )


def _wanted(workspace: str, index: int, entry: Object) -> AdapterWanted:
    path = f"inference.adapters[{index}]"
    source = entry.get("source")
    strength = str(entry.get("strength") or "1.0")
    if source is None:
        name = entry["adapterRef"]["name"]
        return AdapterWanted(name, path, name, None, strength)
    return AdapterWanted(source["name"], path, adapter_name(workspace, source["name"]), source, strength)


def mounted(workspace: Object, adapters: Mapping[str, Object]) -> Mounted:
    """What is known of the Workspace's adapters; `adapters`: the Adapter objects of its namespace that it may use."""
    ranks = [_rank(each, adapters.get(each.object_name)) for each in adapters_wanted(workspace)]
    return Mounted(tuple(each or ASSUMED_RANK for each in ranks), None not in ranks, not all(ranks))


def _rank(wanted: AdapterWanted, live: Object | None) -> int | None:
    """0 for one that was read and does not say its rank; None for one that was not read."""
    ready = find_condition(conditions(live), READY) if live is not None else None
    if live is None or ready is None or ready.get("status") != "True" or not current(live, ready):
        return None
    spec = live.get("spec") or {}
    if wanted.source is not None and difference({"source": wanted.source}, spec) is not None:
        return None  # what its status says is not about the new source
    return AdapterFacts.from_status(live.get("status") or {}).rank or 0


def current(live: Object, ready: Mapping[str, Any]) -> bool:
    """Whether the Adapter's condition is about its present spec."""
    seen = ready.get("observedGeneration")
    return seen is None or seen >= (metadata(live).get("generation") or 0)
