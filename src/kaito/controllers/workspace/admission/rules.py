"""What is to be told of a Workspace before it is stored. Pure, and an answer for every object that JSON can say.

Refused is what can never work. What may yet come right, works without the field, or is only not there yet is a warning:
examples with placeholders in them, and manifests written for another kind of cluster, apply as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kaito.api.images import placeholders
from kaito.api.labels import (
    ENABLE_LB_ANNOTATION,
    NODE_CLASS_NAME_ANNOTATION,
    NODE_IMAGE_FAMILY_ANNOTATION,
    PERFORMANCE_MODE_ANNOTATION,
    RUNTIME_ANNOTATION,
    STREAMING_ANNOTATIONS,
    STREAMING_OFF,
    USE_LOCAL_WEIGHTS_ANNOTATION,
)
from kaito.api.views import check
from kaito.api.workspace import Workspace
from kaito.catalog import Catalog
from kaito.controllers.admission import (
    Finding,
    Findings,
    Object,
    annotations_in,
    image_warnings,
    listed,
    mapping,
)
from kaito.controllers.workspace.config import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.decide.claims import IMAGE_FAMILIES, retired
from kaito.controllers.workspace.decide.hub_model import LOOKUP
from kaito.controllers.workspace.decide.own_weights import TOO_LITTLE_MEMORY, may_be_smaller
from kaito.controllers.workspace.decide.wanted import Wanted, fitting_sizes, node_class_problem, read_wanted
from kaito.controllers.workspace.decide.weights_source import Hub, weights_source

RUNTIMES: Final = ("vllm", "transformers")
"""Those that may be asked for; on machines without GPUs there is no choice."""
PERFORMANCE_MODES: Final = ("balanced", "interactivity", "throughput")
INSTANCE_TYPE_UNUSED: Final = (
    "has no effect where nodes are chosen by labelSelector alone (--node-provisioner=byo); leave it out"
)
NODE_CLASS_NAME_UNUSED: Final = (
    "has no effect: only NodePools have a node class of the Workspace's choice (--node-provisioner=karpenter)"
)
STREAMING_UNUSED: Final = (
    "has no effect: weights are not streamed from a mirror; say where they are in inference.preset.weights"
)
MODEL_ACCESS_SECRET_UNUSED: Final = (
    "has no effect: nothing is downloaded from the hub for this Workspace; leave it out"
)


def judge(
    workspace: Object, catalog: Catalog, config: WorkspaceConfig, images: Mapping[str, object]
) -> Findings:
    """Everything about one Workspace. `images`: references that need no registry, as the operator was told."""
    parsed, problems = check(Workspace, workspace)
    refusals = [Finding(each.path, each.message) for each in problems]
    refusals += _annotations(workspace)
    warnings = [*_unused(workspace, config), *_image_fields(workspace, images), *_secrets(workspace)]
    if parsed is not None:
        wanted = read_wanted(workspace, catalog, config)
        later = _not_yet(config)
        if may_be_smaller(workspace, wanted.problems):
            later |= {TOO_LITTLE_MEMORY}  # the controller looks how large they are, and says it then
        for each in wanted.problems:
            if each.path == "inference" and any(one.path.startswith(each.path) for one in refusals):
                continue  # the schema's own rules have said so, with an example
            finding = Finding(each.path, each.sentence)
            (warnings if each.reason in later else refusals).append(finding)
        if (choice := node_class_problem(workspace, config)) is not None:
            refusals.append(Finding(choice.path, choice.sentence))
        warnings += _needless_secret(workspace, wanted, config)
        warnings += _mode_unused(workspace, wanted)
        warnings += _retired(workspace, wanted, catalog, config)
    return Findings(tuple(refusals), tuple(warnings))


def _not_yet(config: WorkspaceConfig) -> frozenset[str]:
    """Reasons of what is right to ask for and not available yet, or not known yet. A partition is wrong where nodes are
    bought whole."""
    if config.node_provisioner is NodeProvisioner.BYO:
        return frozenset({"TuningNotImplemented", "PartitionNotImplemented", LOOKUP})
    return frozenset({"TuningNotImplemented", LOOKUP})


def _annotations(workspace: Object) -> Iterator[Finding]:
    found = annotations_in(workspace)
    allowed = {
        NODE_IMAGE_FAMILY_ANNOTATION: tuple(sorted(IMAGE_FAMILIES)),
        PERFORMANCE_MODE_ANNOTATION: PERFORMANCE_MODES,
        USE_LOCAL_WEIGHTS_ANNOTATION: ("true", "false"),
    }
    for name, values in allowed.items():
        value = found.get(name)
        if value is None:
            continue
        text = (
            value.strip().lower()
            if name == NODE_IMAGE_FAMILY_ANNOTATION and isinstance(value, str)
            else value
        )
        if text not in values:
            yield Finding(
                f"metadata.annotations[{name}]",
                f"write {', '.join(values[:-1])} or {values[-1]}, not {value!r}",
                "FieldValueNotSupported",
            )


def _unused(workspace: Object, config: WorkspaceConfig) -> Iterator[Finding]:
    balancer = annotations_in(workspace).get(ENABLE_LB_ANNOTATION)
    if isinstance(balancer, str) and balancer != "True" and balancer.strip().lower() == "true":
        path = f"metadata.annotations[{ENABLE_LB_ANNOTATION}]"
        yield Finding(
            path, f'{balancer!r} has no effect; write "True", with a capital T, for a load balancer'
        )
    for name in sorted(STREAMING_ANNOTATIONS & annotations_in(workspace).keys()):
        if annotations_in(workspace)[name] != STREAMING_OFF:
            yield Finding(f"metadata.annotations[{name}]", STREAMING_UNUSED)
    runtime = annotations_in(workspace).get(RUNTIME_ANNOTATION)
    if isinstance(runtime, str) and runtime.strip().lower() not in RUNTIMES:
        path = f"metadata.annotations[{RUNTIME_ANNOTATION}]"
        yield Finding(path, f"{runtime!r} is no runtime and has no effect; write {' or '.join(RUNTIMES)}")
    if NODE_CLASS_NAME_ANNOTATION in annotations_in(workspace) and config.node_provisioner.pools is None:
        yield Finding(f"metadata.annotations[{NODE_CLASS_NAME_ANNOTATION}]", NODE_CLASS_NAME_UNUSED)
    resource = mapping(workspace.get("resource"))
    if config.node_provisioner is NodeProvisioner.BYO:
        for name in ("instanceType", "instanceTypes"):
            if resource.get(name):
                yield Finding(f"resource.{name}", INSTANCE_TYPE_UNUSED)


def _mode_unused(workspace: Object, wanted: Wanted) -> Iterator[Finding]:
    mode = annotations_in(workspace).get(PERFORMANCE_MODE_ANNOTATION)
    if mode not in PERFORMANCE_MODES[1:] or not wanted.choices:
        return
    runtimes = dict.fromkeys(choice.runtime for choice in wanted.choices)
    if "vllm" not in runtimes:
        text = f"has no effect: {' or '.join(runtimes)} serves this model here, and only vLLM is tuned so"
        yield Finding(f"metadata.annotations[{PERFORMANCE_MODE_ANNOTATION}]", text)


def _options(workspace: Object) -> Mapping[str, object]:
    preset = mapping(mapping(workspace.get("inference")).get("preset"))
    return mapping(preset.get("presetOptions"))


def _needless_secret(workspace: Object, wanted: Wanted, config: WorkspaceConfig) -> Iterator[Finding]:
    if not _options(workspace).get("modelAccessSecret") or wanted.preset is None:
        return
    if not isinstance(weights_source(workspace, wanted.preset, config), Hub):
        yield Finding("inference.preset.presetOptions.modelAccessSecret", MODEL_ACCESS_SECRET_UNUSED)


def _image_fields(workspace: Object, images: Mapping[str, object]) -> Iterator[Finding]:
    inference, tuning = mapping(workspace.get("inference")), mapping(workspace.get("tuning"))
    for index, adapter in enumerate(listed(inference.get("adapters"))):
        image = mapping(mapping(adapter).get("source")).get("image")
        yield from image_warnings(f"inference.adapters[{index}].source.image", image, images)
    yield from image_warnings(
        "inference.preset.presetOptions.image", _options(workspace).get("image"), images
    )
    weights = mapping(mapping(inference.get("preset")).get("weights"))
    yield from image_warnings("inference.preset.weights.image", weights.get("image"), images)
    spec = mapping(mapping(inference.get("template")).get("spec"))
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(listed(spec.get(kind))):
            path = f"inference.template.spec.{kind}[{index}].image"
            yield from image_warnings(path, mapping(container).get("image"), images)
    for kind in ("input", "output"):
        yield from image_warnings(f"tuning.{kind}.image", mapping(tuning.get(kind)).get("image"), images)


def _secrets(workspace: Object) -> Iterator[Finding]:
    output = mapping(mapping(workspace.get("tuning")).get("output"))
    name = output.get("imagePushSecret")
    found = placeholders(name) if isinstance(name, str) else []
    if found:
        sentence = f"still holds the placeholder {found[0]}; write the name of your registry's Secret"
        yield Finding("tuning.output.imagePushSecret", sentence)


def _retired(
    workspace: Object, wanted: Wanted, catalog: Catalog, config: WorkspaceConfig
) -> Iterator[Finding]:
    several = bool(mapping(workspace.get("resource")).get("instanceTypes"))
    for size in wanted.sizes:
        note = retired(size)
        if note:
            path = "resource.instanceTypes" if several else "resource.instanceType"
            more = (
                f"; sizes that fit: {fitting_sizes(wanted.preset, catalog, config)}" if wanted.preset else ""
            )
            yield Finding(path, f"{note}{more}")
