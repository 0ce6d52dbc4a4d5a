"""What the user wants, read against the catalogue: a Plan that can be carried out, or the Problem that prevents it.

Looks at the Workspace alone, never at what exists, so the same Workspace always means the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito.api.labels import BYPASS_RESOURCE_CHECKS_ANNOTATION, without_reserved
from kaito.api.views import InvalidSpec
from kaito.catalog import Catalog, GpuSku, Preset
from kaito.controllers.workspace.config import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.model import Object, annotations_of, metadata
from kaito.controllers.workspace.names import adapter_name

USABLE_GPU_MEMORY: Final = 0.84
"""Share of a GPU's memory that weights and cache may take; the rest is the engine's own."""
WEIGHT_EXPANSION: Final = 1.02
"""Weights in GPU memory against their files."""
GPU_OVERHEAD_GIB: Final = 2.3
"""Per GPU: 0.6 GiB outside the framework's allocator and 1.7 GiB of activations."""

RESERVED_ADAPTER: Final = "base"
"""Name under which the server answers without any adapter; it refuses to start with an adapter of that name."""

TUNING_NOT_IMPLEMENTED: Final = (
    "fine-tuning is not available yet: the Workspace is kept, no node is bought and no job is started; an inference "
    "Workspace works"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing can be planned: a condition of type `reason` is True while it lasts."""

    reason: str
    message: str


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
class Size:
    """An instance type that may be tried; `sku` is None for one the catalogue does not know."""

    name: str
    sku: GpuSku | None


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
    if workspace.get("tuning") is not None:
        return (Problem("TuningNotImplemented", TUNING_NOT_IMPLEMENTED),)
    inference = workspace.get("inference") or {}
    resource = workspace.get("resource") or {}
    unsupported = _unsupported(inference, resource, config)
    if unsupported is not None:
        return (unsupported,)
    wanted = inference.get("preset") or {}
    preset = catalog.preset(wanted["name"]) if wanted else None
    unknown = _preset_problem(inference, catalog)
    count = resource.get("count") or 1
    sizes = _sizes(workspace, resource, None if unknown else preset, count, catalog, config)
    problems = [each for each in (unknown, sizes) if isinstance(each, Problem)]
    if problems or isinstance(sizes, Problem):
        return tuple(problems)
    meta = metadata(workspace)
    return Plan(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        count=count,
        sizes=sizes,
        match_labels=_match_labels(resource),
        preset=preset,
        preset_options=wanted.get("presetOptions") or {},
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


def _unsupported(inference: Object, resource: Object, config: WorkspaceConfig) -> Problem | None:
    if resource.get("partition") is not None:
        return Problem(
            "PartitionNotImplemented",
            "resource.partition: parts of a GPU are not available yet; remove partition to use whole GPUs",
        )
    if inference.get("template") is not None and inference.get("adapters"):
        return Problem(
            "InvalidSpec",
            "inference.adapters: adapters are mounted on presets only; put them into your template, or use a preset",
        )
    for index, entry in enumerate(inference.get("adapters") or ()):
        field = "source" if entry.get("source") is not None else "adapterRef"
        if entry[field]["name"] == RESERVED_ADAPTER:
            return Problem(
                "InvalidSpec",
                f"inference.adapters[{index}].{field}.name: requests say {RESERVED_ADAPTER} for the model without "
                "adapters; give the adapter another name",
            )
    if config.node_provisioner is NodeProvisioner.BYO and not _match_labels(resource):
        return Problem(
            "InvalidSpec",
            "resource.labelSelector: names no label, so every node of the cluster would be taken; "
            "write labels that your GPU nodes carry",
        )
    return None


def _preset_problem(inference: Object, catalog: Catalog) -> Problem | None:
    name = (inference.get("preset") or {}).get("name")
    if name is None:
        return None
    preset = catalog.preset(name)
    if preset is None:
        nearest = ", ".join(catalog.nearest_presets(name))
        return Problem("UnknownPreset", f"inference.preset.name: {name} is not known; nearest: {nearest}")
    if preset.deprecated:
        nearest = ", ".join(catalog.nearest_presets(name))
        return Problem(
            "DeprecatedPreset", f"inference.preset.name: {name} is no longer supported; instead use {nearest}"
        )
    if inference.get("adapters") and not preset.lora:
        return Problem(
            "AdaptersNotSupported",
            f"inference.adapters: {preset.name} cannot be served with LoRA adapters; remove the adapters",
        )
    return None


def _match_labels(resource: Object) -> dict[str, str]:
    selector = resource.get("labelSelector") or {}
    found = dict(selector.get("matchLabels") or {})
    for expression in selector.get("matchExpressions") or ():
        found[expression["key"]] = expression["values"][0]
    return without_reserved(found)


def _sizes(
    workspace: Object,
    resource: Object,
    preset: Preset | None,
    count: int,
    catalog: Catalog,
    config: WorkspaceConfig,
) -> tuple[Size, ...] | Problem:
    if config.node_provisioner is NodeProvisioner.BYO:
        return ()
    several = bool(resource.get("instanceTypes"))
    names = resource.get("instanceTypes") or [resource.get("instanceType") or ""]
    bypass = BYPASS_RESOURCE_CHECKS_ANNOTATION in annotations_of(workspace)
    sizes: list[Size] = []
    too_small: list[GpuSku] = []
    for index, name in enumerate(names):
        path = f"resource.instanceTypes[{index}]" if several else "resource.instanceType"
        if not name:
            return _no_size(path, preset, catalog, config)
        sku = catalog.sku(name)
        if sku is None and not bypass and not _plain_machine(name, preset, config):
            return Problem("UnknownInstanceType", _unknown_size(path, name, preset, catalog, config))
        if sku is not None and not bypass and not _holds(sku, preset, count):
            too_small.append(sku)
        else:
            sizes.append(Size(sku.name if sku is not None else name, sku))
    if sizes:
        return tuple(sizes)
    assert preset is not None  # only a preset can make a size too small
    return Problem(
        "InsufficientGpuMemory",
        f"{preset.name} needs {preset.required_gpu_memory_gib:g} GiB of GPU memory; "
        + ", ".join(f"{sku.name} has {sku.memory_gib:g} GiB" for sku in too_small)
        + (f" on each of {count} nodes" if count > 1 else "")
        + f"; sizes that fit: {_fitting(preset, catalog, config)}",
    )


def _plain_machine(name: str, preset: Preset | None, config: WorkspaceConfig) -> bool:
    """Whether a size that is in no GPU table may be one without GPUs, where none is needed."""
    if preset is not None and preset.gpus > 0:
        return False
    return config.cloud != "azure" or name.lower().startswith("standard_d")


def _holds(sku: GpuSku, preset: Preset | None, count: int) -> bool:
    if preset is None:
        return True
    nodes = count if preset.multi_node else 1
    return nodes * sku.memory_gib >= preset.required_gpu_memory_gib


def _no_size(path: str, preset: Preset | None, catalog: Catalog, config: WorkspaceConfig) -> Problem:
    fitting = f"; sizes that fit: {_fitting(preset, catalog, config)}" if preset is not None else ""
    return Problem("InstanceTypeMissing", f"{path}: write the machine size to use{fitting}")


def _unknown_size(
    path: str, name: str, preset: Preset | None, catalog: Catalog, config: WorkspaceConfig
) -> str:
    text = f"{path}: {name} is not known; nearest: {', '.join(catalog.nearest_skus(name))}"
    if preset is not None and preset.gpus > 0:
        text += f"; sizes that fit {preset.name}: {_fitting(preset, catalog, config)}"
    return f"{text}; the annotation {BYPASS_RESOURCE_CHECKS_ANNOTATION} lets any name pass"


def _fitting(preset: Preset, catalog: Catalog, config: WorkspaceConfig) -> str:
    return ", ".join(catalog.skus_for(preset, config.cloud)) or "none in the catalogue"


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
