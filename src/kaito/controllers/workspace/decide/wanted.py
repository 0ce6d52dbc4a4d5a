"""What a Workspace wants of the catalogue and of this operator's flags, and everything that is wrong with it.

CEL in the CRD cannot know either. The controller's plan and the admission webhook both ask here, so they say the same;
the webhook refuses what the controller could only report. Looks at the Workspace alone, never at what exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kaito.api.labels import NODE_CLASS_NAME_ANNOTATION, without_reserved
from kaito.catalog import Catalog, Preset
from kaito.controllers.workspace.config import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.decide.asked import NO_ADAPTERS, Settings, runtime_wanted
from kaito.controllers.workspace.decide.hub_model import known_preset, not_looked_up
from kaito.controllers.workspace.decide.problems import Problem, Size
from kaito.controllers.workspace.decide.resolved import Choice
from kaito.controllers.workspace.decide.serving import Serving
from kaito.controllers.workspace.decide.sizes import fitting_sizes, read_sizes
from kaito.controllers.workspace.decide.weights_source import weights_problem
from kaito.controllers.workspace.model import Object, annotations_of

__all__ = [
    "NO_ADAPTERS",
    "TUNING_NOT_IMPLEMENTED",
    "Problem",
    "Size",
    "Wanted",
    "fitting_sizes",
    "node_class_name",
    "node_class_problem",
    "read_wanted",
    "runtime_wanted",
    "user_labels",
]

TUNING_NOT_IMPLEMENTED: Final = (
    "fine-tuning is not available yet: the Workspace is kept, no node is bought and no job is started; an inference "
    "Workspace works"
)

NOTHING_TO_SERVE: Final = "names neither a preset nor a template: nothing says what is to be served"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the names in a Workspace mean. With problems, the rest is what could be made out."""

    preset: Preset | None = None
    sizes: tuple[Size, ...] = ()
    problems: tuple[Problem, ...] = ()
    """The gravest first."""
    choices: tuple[Choice, ...] = ()
    """How the preset is served on each of the sizes."""
    serving: Serving | None = None
    """None without a preset."""


def read_wanted(
    workspace: Object,
    catalog: Catalog,
    config: WorkspaceConfig,
    settings: Settings | None = None,
    adapters: Mapping[str, Object] = NO_ADAPTERS,
) -> Wanted:
    """Reads a Workspace whose fields have the types of the API's model.

    settings: what `settings_in` found in the ConfigMap of `inference.config`; None: nothing is known of it. adapters:
    the Adapters that it may use, by name.
    """
    if workspace.get("tuning") is not None:
        return Wanted(problems=(Problem.at("tuning", "TuningNotImplemented", TUNING_NOT_IMPLEMENTED),))
    resource = workspace.get("resource") or {}
    if (waits := not_looked_up(workspace, catalog)) is not None:
        return Wanted(problems=(waits, *_unsupported(resource, config)))
    preset = known_preset(workspace, catalog)
    unknown = _preset_problem(workspace, preset, catalog, config)
    sized = read_sizes(workspace, None if unknown else preset, catalog, config, settings, adapters)
    found = [*_unsupported(resource, config), *([unknown] if unknown else [])]
    if isinstance(sized, Problem):
        unsized = sized.reason == "InstanceTypeMissing"
        if unsized and not _served(workspace):
            sized = Problem.at("inference", "InvalidSpec", NOTHING_TO_SERVE)
        of_the_preset = unknown is not None and unsized
        return Wanted(preset, (), tuple(found) if of_the_preset else (*found, sized))
    return Wanted(preset, sized.sizes, tuple(found), sized.choices, sized.serving)


def _served(workspace: Object) -> bool:
    inference = workspace.get("inference") or {}
    return bool(inference.get("preset") or inference.get("template"))


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


def _on_gpus(name: str, catalog: Catalog) -> bool:
    preset = catalog.preset(name)
    return preset is not None and preset.gpus > 0


def _preset_problem(
    workspace: Object, preset: Preset | None, catalog: Catalog, config: WorkspaceConfig
) -> Problem | None:
    inference = workspace.get("inference") or {}
    name = (inference.get("preset") or {}).get("name")
    if name is None:
        return None
    path = "inference.preset.name"
    if preset is None:
        nearest = ", ".join(catalog.nearest_presets(name))
        return Problem.at(path, "UnknownPreset", f"{name} is not known; nearest: {nearest}")
    if preset.deprecated:
        nearest = ", ".join(each for each in catalog.nearest_presets(name) if _on_gpus(each, catalog))
        return Problem.at(path, "DeprecatedPreset", f"{name} is no longer supported; instead use {nearest}")
    if (unserved := weights_problem(workspace, preset, config)) is not None:
        return unserved
    if inference.get("adapters") and not preset.lora:
        return Problem.at(
            "inference.adapters",
            "AdaptersNotSupported",
            f"{preset.name} cannot be served with LoRA adapters; remove the adapters",
        )
    return None
