"""What the CEL rules of a Workspace demand, asked of an object that is stored already.

The API server refuses such objects today, but one stored under older rules (or by Go KAITO, which checks the contents
of adapters only on update) is still there: its controller must say `InvalidSpec` with the path instead of failing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from kaito.api.parts import SUBDOMAIN, AdapterSource
from kaito.api.workspace_model import AdapterSpecEntry, InferenceSpec, TuningSpec
from kaito.api.workspace_resource import ResourceSpec

Problem = tuple[str, str]


def first_problem(
    resource: ResourceSpec | None, inference: InferenceSpec | None, tuning: TuningSpec | None
) -> Problem | None:
    """Field path and sentence of the first breach in a Workspace's blocks, or None."""
    return next(_problems(resource, inference, tuning), None)


def _problems(
    resource: ResourceSpec | None, inference: InferenceSpec | None, tuning: TuningSpec | None
) -> Iterator[Problem]:
    if resource is None:
        yield "resource", "is missing; write the nodes that are wanted"
    else:
        yield from _resource(resource)
    if inference is None and tuning is None:
        yield "inference", "neither inference nor tuning is there; write one of them"
    if inference is not None and tuning is not None:
        yield "tuning", "inference and tuning exclude one another; keep one"
    if inference is not None:
        yield from _inference(inference)
    if tuning is not None:
        yield from _tuning(tuning)


def _resource(resource: ResourceSpec) -> Iterator[Problem]:
    selector = resource.label_selector
    if selector is None:
        yield "resource.labelSelector", "is missing; write `labelSelector: {matchLabels: {apps: my-model}}`"
    else:
        for index, each in enumerate(selector.match_expressions or ()):
            if each.operator != "In" or len(each.values or ()) != 1:
                path = f"resource.labelSelector.matchExpressions[{index}]"
                yield path, "new nodes get these labels; write matchLabels, or In with exactly one value"
    if resource.instance_type and resource.instance_types:
        yield "resource.instanceTypes", "excludes resource.instanceType; keep one of the two"


def _inference(inference: InferenceSpec) -> Iterator[Problem]:
    if inference.preset is None and inference.template is None:
        yield "inference.preset", "is missing; write preset or template"
    if inference.preset is not None and inference.template is not None:
        yield "inference.template", "excludes inference.preset; keep one of the two"
    adapters = inference.adapters or []
    for index, adapter in enumerate(adapters):
        yield from _adapter(adapter, f"inference.adapters[{index}]")
    for name, times in Counter(adapter.name for adapter in adapters).items():
        if times > 1 and name:
            yield "inference.adapters", f"the name {name} is there {times} times; give each adapter its own"


def _adapter(adapter: AdapterSpecEntry, path: str) -> Iterator[Problem]:
    if (adapter.source is None) == (adapter.adapter_ref is None):
        yield path, "write exactly one of source and adapterRef"
    if adapter.source is not None:
        if not adapter.source.name:
            yield f"{path}.source.name", "is missing; write the adapter's name"
        elif not re.fullmatch(SUBDOMAIN, adapter.source.name):
            yield (
                f"{path}.source.name",
                f"{adapter.source.name!r}: write lower-case letters, digits, '-' and '.'",
            )
        if (problem := source_problem(adapter.source)) is not None:
            yield f"{path}.source{problem[0]}", problem[1]
    try:
        fits = 0.0 <= adapter.strength_value <= 1.0
    except ValueError:
        fits = False
    if not fits:
        yield f"{path}.strength", f'"{adapter.strength}" is not a number from 0 to 1; write for example "0.5"'


def source_problem(source: AdapterSource) -> Problem | None:
    """The same for an adapter's source; the path is relative to it and starts with a dot, or is empty."""
    if source.urls:
        return ".urls", "an adapter cannot be downloaded from URLs; write image or volumeSource"
    if bool(source.image) == (source.volume_source is not None):
        return "", "write exactly one of image and volumeSource"
    return None


def _tuning(tuning: TuningSpec) -> Iterator[Problem]:
    if tuning.preset is None:
        yield "tuning.preset", "is missing; write `preset: {name: …}`"
    if (tuning.method or "").lower() not in ("lora", "qlora"):
        yield "tuning.method", "write lora or qlora"
    data = tuning.input
    kinds = data and [bool(data.urls), bool(data.image), data.volume_source is not None]
    if not kinds or sum(kinds) != 1:
        yield "tuning.input", "write exactly one of urls, image and volumeSource"
    output = tuning.output
    if output is None or bool(output.image) == (output.volume_source is not None):
        yield "tuning.output", "write exactly one of image and volumeSource"
    elif output.image and not output.image_push_secret:
        yield "tuning.output.imagePushSecret", "pushing an image needs the name of a Secret"
