"""What the user wants, read against the catalogue: a Plan that can be carried out, or the Problem that prevents it.

Looks at the Workspace alone, never at what exists, so the same Workspace always means the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito.api.labels import without_tracking
from kaito.api.views import InvalidSpec
from kaito.catalog import Catalog, GpuSku, Preset
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.wanted import Problem, Size, read_wanted, user_labels
from kaito.controllers.workspace.model import Object, metadata
from kaito.controllers.workspace.names import adapter_name

USABLE_GPU_MEMORY: Final = 0.84
"""Share of a GPU's memory that weights and cache may take; the rest is the engine's own."""
WEIGHT_EXPANSION: Final = 1.02
"""Weights in GPU memory against their files."""
GPU_OVERHEAD_GIB: Final = 2.3
"""Per GPU: 0.6 GiB outside the framework's allocator and 1.7 GiB of activations."""


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
class Plan:
    """A Workspace that can be carried out."""

    name: str
    namespace: str
    uid: str
    count: int
    sizes: tuple[Size, ...]
    """In the order they are tried; empty where nodes are not ours to ask for."""
    match_labels: Mapping[str, str]
    preset: Preset | None
    preset_options: Mapping[str, Any]
    template: Object | None
    config_map: str | None
    adapters: tuple[AdapterWanted, ...]
    distributed: bool
    """Whether all nodes serve one copy of the model together."""

    def size(self, attempt: int) -> Size | None:
        """The instance type of a claim's attempt: the list is gone through again and again."""
        return self.sizes[attempt % len(self.sizes)] if self.sizes else None

    @property
    def needs_gpu(self) -> bool:
        """Whether the pods that we write ask for GPUs; a user's own template says so itself."""
        return self.preset is not None and self.preset.gpus > 0


def make_plan(
    workspace: Object, invalid: InvalidSpec | None, catalog: Catalog, config: WorkspaceConfig
) -> Plan | tuple[Problem, ...]:
    """The plan, or everything that prevents one, the gravest first.

    The Workspace's fields have the types of the API's model unless `invalid` says otherwise.
    """
    if invalid is not None:
        return (Problem("InvalidSpec", f"{invalid.path}: {invalid.message}"),)
    wanted = read_wanted(workspace, catalog, config)
    if wanted.problems:
        return wanted.problems
    inference = workspace.get("inference") or {}
    resource = workspace.get("resource") or {}
    preset, sizes = wanted.preset, wanted.sizes
    count = resource.get("count") or 1
    meta = metadata(workspace)
    match_labels = user_labels(resource)
    if config.node_provisioner.claims is not None:
        match_labels = without_tracking(match_labels)  # claims and nodes are made with them
    return Plan(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        count=count,
        sizes=sizes,
        match_labels=match_labels,
        preset=preset,
        preset_options=(inference.get("preset") or {}).get("presetOptions") or {},
        template=inference.get("template"),
        config_map=inference.get("config") or None,
        adapters=tuple(
            _adapter(meta["name"], index, each) for index, each in enumerate(inference.get("adapters") or ())
        ),
        distributed=_distributed(preset, sizes, count),
    )


def _adapter(workspace: str, index: int, entry: Object) -> AdapterWanted:
    path = f"inference.adapters[{index}]"
    source = entry.get("source")
    strength = str(entry.get("strength") or "1.0")
    if source is None:
        name = entry["adapterRef"]["name"]
        return AdapterWanted(name, path, name, None, strength)
    return AdapterWanted(source["name"], path, adapter_name(workspace, source["name"]), source, strength)


def _distributed(preset: Preset | None, sizes: tuple[Size, ...], count: int) -> bool:
    """Whether the model is too large for one node, can be spread, and has the nodes for it."""
    if preset is None or not preset.multi_node or count < 2 or preset.weights_gib is None:
        return False
    known = [size.sku for size in sizes if size.sku is not None]
    return any(preset.weights_gib * WEIGHT_EXPANSION > sku.memory_gib * USABLE_GPU_MEMORY for sku in known)


def context_limit(preset: Preset, sku: GpuSku) -> int | None:
    """Tokens of context for which one node's GPUs have cache, where that is below the model's own limit.

    A multiple of 1024; None where the model's own limit fits or a figure is missing.
    """
    if preset.weights_gib is None or preset.bytes_per_token is None or preset.context_tokens is None:
        return None
    free = (
        sku.memory_gib * USABLE_GPU_MEMORY
        - preset.weights_gib * WEIGHT_EXPANSION
        - GPU_OVERHEAD_GIB * sku.gpus
    )
    tokens = int(free * 2**30 / preset.bytes_per_token) // 1024 * 1024
    if tokens <= 0 or tokens >= preset.context_tokens:
        return None
    return tokens
