"""What a Workspace wants of the catalogue and of this operator's flags, and everything that is wrong with it.

CEL in the CRD cannot know either. The controller's plan and the admission webhook both ask here, so they say the same;
the webhook refuses what the controller could only report. Looks at the Workspace alone, never at what exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kaito.api.labels import (
    BYPASS_RESOURCE_CHECKS_ANNOTATION,
    NODE_CLASS_NAME_ANNOTATION,
    without_reserved,
)
from kaito.catalog import Catalog, GpuSku, Preset
from kaito.controllers.workspace.config import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.model import Object, annotations_of

TUNING_NOT_IMPLEMENTED: Final = (
    "fine-tuning is not available yet: the Workspace is kept, no node is bought and no job is started; an inference "
    "Workspace works"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing can be planned: a condition of type `reason` is True while it lasts."""

    reason: str
    message: str
    path: str = ""
    """The field to blame, where it is one; `message` then begins with it."""

    @staticmethod
    def at(path: str, reason: str, sentence: str) -> Problem:
        """A problem of one field."""
        return Problem(reason, f"{path}: {sentence}", path)

    @property
    def sentence(self) -> str:
        """The message without the path."""
        return self.message.removeprefix(f"{self.path}: ") if self.path else self.message


@dataclass(frozen=True, slots=True)
class Size:
    """An instance type that may be tried; `sku` is None for one the catalogue does not know."""

    name: str
    sku: GpuSku | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the names in a Workspace mean. With problems, the rest is what could be made out."""

    preset: Preset | None = None
    sizes: tuple[Size, ...] = ()
    problems: tuple[Problem, ...] = ()
    """The gravest first."""


def read_wanted(workspace: Object, catalog: Catalog, config: WorkspaceConfig) -> Wanted:
    """Reads a Workspace whose fields have the types of the API's model."""
    if workspace.get("tuning") is not None:
        return Wanted(problems=(Problem.at("tuning", "TuningNotImplemented", TUNING_NOT_IMPLEMENTED),))
    inference = workspace.get("inference") or {}
    resource = workspace.get("resource") or {}
    name = (inference.get("preset") or {}).get("name")
    preset = catalog.preset(name) if name else None
    unknown = _preset_problem(inference, preset, catalog)
    sizes = _sizes(workspace, resource, None if unknown else preset, catalog, config)
    found = [*_unsupported(resource, config), *([unknown] if unknown else [])]
    if isinstance(sizes, Problem):
        return Wanted(preset, (), (*found, sizes))
    return Wanted(preset, sizes, tuple(found))


def user_labels(resource: Object) -> dict[str, str]:
    """The labels of `resource.labelSelector`, without those that only controllers may set."""
    selector = resource.get("labelSelector") or {}
    found = dict(selector.get("matchLabels") or {})
    for expression in selector.get("matchExpressions") or ():
        found.update((expression["key"], value) for value in (expression.get("values") or ())[:1])
    return without_reserved(found)


def _unsupported(resource: Object, config: WorkspaceConfig) -> Iterator[Problem]:
    if resource.get("partition") is not None:
        yield Problem.at(
            "resource.partition",
            "PartitionNotImplemented",
            "parts of a GPU are not available yet; remove partition to use whole GPUs",
        )
    if config.node_provisioner is NodeProvisioner.BYO and not user_labels(resource):
        yield Problem.at(
            "resource.labelSelector",
            "InvalidSpec",
            "names no label, so every node of the cluster would be taken; write labels that your GPU nodes carry",
        )


def node_class_name(workspace: Object, config: WorkspaceConfig) -> str:
    """The node class that the Workspace's NodePool names: by annotation, or else the operator's."""
    asked = annotations_of(workspace).get(NODE_CLASS_NAME_ANNOTATION, "").strip()
    return asked or config.node_class.for_karpenter(config.cloud).name


def node_class_problem(workspace: Object, config: WorkspaceConfig) -> Problem | None:
    """That the Workspace may not choose that node class. What was made with it before stays."""
    if config.node_provisioner.pools is None:
        return None
    allowed = (config.node_class.for_karpenter(config.cloud).name, *config.node_class_names)
    name = node_class_name(workspace, config)
    if name in allowed:
        return None
    return Problem.at(
        f"metadata.annotations[{NODE_CLASS_NAME_ANNOTATION}]",
        "InvalidSpec",
        f"node class {name!r} is not one that Workspaces may choose; write {' or '.join(allowed)}, or have an "
        "administrator add it to the operator's --node-class-names",
    )


def _preset_problem(inference: Object, preset: Preset | None, catalog: Catalog) -> Problem | None:
    name = (inference.get("preset") or {}).get("name")
    if name is None:
        return None
    path = "inference.preset.name"
    if preset is None:
        nearest = ", ".join(catalog.nearest_presets(name))
        return Problem.at(path, "UnknownPreset", f"{name} is not known; nearest: {nearest}")
    if preset.deprecated:
        nearest = ", ".join(catalog.nearest_presets(name))
        return Problem.at(path, "DeprecatedPreset", f"{name} is no longer supported; instead use {nearest}")
    options = (inference.get("preset") or {}).get("presetOptions") or {}
    if not options.get("image") and (why := _no_image(preset)):
        text = f"{preset.name} {why}; write the name of an image that you made with its weights"
        return Problem.at("inference.preset.presetOptions.image", "InvalidSpec", text)
    if inference.get("adapters") and not preset.lora:
        return Problem.at(
            "inference.adapters",
            "AdaptersNotSupported",
            f"{preset.name} cannot be served with LoRA adapters; remove the adapters",
        )
    return None


def _no_image(preset: Preset) -> str:
    """Why no node is bought for a preset before the user has an image for it; "" where one is pulled by its name."""
    if preset.private:
        return "may not be published as an image"
    if preset.image is not None:
        return "has no image of its own, and servers do not download weights yet"
    return ""


def _sizes(
    workspace: Object, resource: Object, preset: Preset | None, catalog: Catalog, config: WorkspaceConfig
) -> tuple[Size, ...] | Problem:
    if config.node_provisioner is NodeProvisioner.BYO:
        return ()
    several = bool(resource.get("instanceTypes"))
    names = resource.get("instanceTypes") or [resource.get("instanceType") or ""]
    count = resource.get("count") or 1
    bypass = BYPASS_RESOURCE_CHECKS_ANNOTATION in annotations_of(workspace)
    sizes: list[Size] = []
    too_small: list[GpuSku] = []
    for index, name in enumerate(names):
        path = f"resource.instanceTypes[{index}]" if several else "resource.instanceType"
        if not name:
            return _no_size(path, preset, catalog, config)
        sku = catalog.sku(name)
        if sku is not None and sku.cloud != config.cloud and not bypass:
            return Problem.at(path, "UnknownInstanceType", _of_another_cloud(sku, catalog, config))
        if sku is not None and sku.unusable and not bypass and preset is not None and preset.gpus > 0:
            return Problem.at(path, "UnsupportedInstanceType", _unusable(sku, preset, catalog, config))
        if sku is None and not bypass and not _plain_machine(name, preset, config):
            return Problem.at(path, "UnknownInstanceType", _unknown_size(name, preset, catalog, config))
        if sku is not None and not bypass and not _holds(sku, preset, count):
            too_small.append(sku)
        else:
            sizes.append(Size(sku.name if sku is not None else name, sku))
    if sizes:
        return tuple(sizes)
    assert preset is not None  # only a preset can make a size too small
    return _too_small(preset, too_small, count, catalog, config, several)


def _too_small(
    preset: Preset,
    skus: list[GpuSku],
    count: int,
    catalog: Catalog,
    config: WorkspaceConfig,
    several: bool,
) -> Problem:
    text = (
        f"{preset.name} needs {preset.required_gpu_memory_gib:g} GiB of GPU memory; "
        + ", ".join(f"{sku.name} has {sku.memory_gib:g} GiB" for sku in skus)
        + (f" on each of {count} nodes" if count > 1 else "")
        + f"; sizes that fit: {fitting_sizes(preset, catalog, config)}"
    )
    # No path in the condition's message: it speaks of preset and size together.
    return Problem(
        "InsufficientGpuMemory", text, "resource.instanceTypes" if several else "resource.instanceType"
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
    fitting = f"; sizes that fit: {fitting_sizes(preset, catalog, config)}" if preset is not None else ""
    return Problem.at(path, "InstanceTypeMissing", f"write the machine size to use{fitting}")


def _of_another_cloud(sku: GpuSku, catalog: Catalog, config: WorkspaceConfig) -> str:
    nearest = ", ".join(catalog.nearest_skus(sku.name, cloud=config.cloud))
    return f"{sku.name} is a size of {sku.cloud}, and this operator's are those of {config.cloud}; nearest: {nearest}"


def _unusable(sku: GpuSku, preset: Preset, catalog: Catalog, config: WorkspaceConfig) -> str:
    return (
        f"{sku.name} cannot serve {preset.name}: {sku.unusable}; sizes that fit: "
        f"{fitting_sizes(preset, catalog, config)}"
    )


def _unknown_size(name: str, preset: Preset | None, catalog: Catalog, config: WorkspaceConfig) -> str:
    text = f"{name} is not known; nearest: {', '.join(catalog.nearest_skus(name, cloud=config.cloud))}"
    if preset is not None and preset.gpus > 0:
        text += f"; sizes that fit {preset.name}: {fitting_sizes(preset, catalog, config)}"
    return f"{text}; the annotation {BYPASS_RESOURCE_CHECKS_ANNOTATION} lets any name pass"


def fitting_sizes(preset: Preset, catalog: Catalog, config: WorkspaceConfig) -> str:
    """The smallest sizes on offer that hold the preset, as a list in words."""
    return ", ".join(catalog.skus_for(preset, config.cloud)) or "none in the catalogue"
