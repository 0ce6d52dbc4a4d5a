"""What the CEL rules of a Workspace demand, asked of an object that is stored already.

The API server refuses such objects today, but one stored under older rules (or by Go KAITO, which checks the contents
of adapters only on update) is still there: its controller must say `InvalidSpec` with the path instead of failing. The
webhook asks the same, for a cluster whose CRDs are older than the operator.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from kaito.api import sentences
from kaito.api.labels import without_reserved
from kaito.api.parts import NAME_LIMIT, SUBDOMAIN, AdapterSource, LabelSelector
from kaito.api.weights import weights_problems
from kaito.api.workspace_model import RESERVED_ADAPTER, AdapterSpecEntry, InferenceSpec, TuningSpec
from kaito.api.workspace_resource import MIG_PROFILE, Partition, ResourceSpec

MOST_NODES = 5000
"""Nodes that Kubernetes supports in a cluster (kubernetes.io/docs/setup/best-practices/cluster-large)."""
Problem = tuple[str, str]
"""Field path and sentence."""


def workspace_problems(
    resource: ResourceSpec | None, inference: InferenceSpec | None, tuning: TuningSpec | None
) -> Iterator[Problem]:
    """Every breach in a Workspace's blocks, in the order of its fields."""
    if resource is None:
        yield "resource", sentences.RESOURCE_MISSING
    else:
        yield from _resource(resource)
    if inference is None and tuning is None:
        yield "inference", sentences.NEITHER
    if inference is not None and tuning is not None:
        yield "tuning", sentences.BOTH
    if inference is not None:
        yield from _inference(inference)
    if tuning is not None:
        yield from _tuning(tuning)
        if resource is not None and (resource.count or 1) > 1:
            yield "resource.count", sentences.TUNES_ON_SEVERAL
        if resource is not None and resource.partition is not None:
            yield "resource.partition", sentences.TUNES_ON_PART


def _resource(resource: ResourceSpec) -> Iterator[Problem]:
    if resource.label_selector is None:
        yield "resource.labelSelector", sentences.SELECTOR_MISSING
    else:
        yield from _selector(resource.label_selector)
    if resource.instance_type and resource.instance_types:
        yield "resource.instanceTypes", sentences.TYPE_AND_TYPES
    if (resource.count or 0) > MOST_NODES:
        yield "resource.count", sentences.TOO_MANY_NODES
    if resource.partition is not None:
        yield from _partition(resource.partition)


def _selector(selector: LabelSelector) -> Iterator[Problem]:
    keys = dict.fromkeys(selector.match_labels or (), "")
    for index, each in enumerate(selector.match_expressions or ()):
        keys[each.key] = ""
        if each.operator != "In" or len(each.values or ()) != 1:
            path = f"resource.labelSelector.matchExpressions[{index}]"
            yield path, sentences.SELECTOR_EXPRESSION
    if keys and not without_reserved(keys):
        yield "resource.labelSelector", sentences.SELECTOR_RESERVED


def _partition(partition: Partition) -> Iterator[Problem]:
    wanted, unwanted = partition.profile, partition.count
    if partition.mode == "accelerator":
        if wanted is not None or unwanted is None:
            yield "resource.partition", sentences.PARTITION_SHAPE
        return
    if wanted is None or unwanted is not None:
        yield "resource.partition", sentences.PARTITION_SHAPE
    if wanted is not None and not re.fullmatch(MIG_PROFILE, wanted):
        yield "resource.partition.profile", sentences.PARTITION_PROFILE


def _inference(inference: InferenceSpec) -> Iterator[Problem]:
    if inference.preset is None and inference.template is None:
        yield "inference.preset", sentences.PRESET_OR_TEMPLATE
    if inference.preset is not None and inference.template is not None:
        yield "inference.template", sentences.PRESET_AND_TEMPLATE
    if inference.preset is not None and inference.preset.weights is not None:
        yield from weights_problems(inference.preset.weights, "inference.preset.weights")
    adapters = inference.adapters or []
    if inference.template is not None and adapters:
        yield "inference.adapters", sentences.ADAPTERS_WITH_TEMPLATE
    for index, adapter in enumerate(adapters):
        yield from _adapter(adapter, f"inference.adapters[{index}]")
    if any(times > 1 and name for name, times in Counter(adapter.name for adapter in adapters).items()):
        yield "inference.adapters", sentences.ADAPTER_NAME_TWICE


def _adapter(adapter: AdapterSpecEntry, path: str) -> Iterator[Problem]:
    if (adapter.source is None) == (adapter.adapter_ref is None):
        yield path, sentences.ADAPTER_SOURCE_OR_REF
    if adapter.source is not None:
        if not adapter.source.name:
            yield f"{path}.source.name", sentences.ADAPTER_NAME_MISSING
        elif adapter.source.name == RESERVED_ADAPTER:
            yield f"{path}.source.name", sentences.ADAPTER_NAME_RESERVED
        yield from source_problems(adapter.source, f"{path}.source")
    elif adapter.adapter_ref is not None and adapter.adapter_ref.name == RESERVED_ADAPTER:
        yield f"{path}.adapterRef.name", sentences.ADAPTER_NAME_RESERVED
    try:
        fits = 0.0 <= adapter.strength_value <= 1.0
    except ValueError:
        fits = False
    if not fits:
        yield f"{path}.strength", sentences.ADAPTER_STRENGTH


def source_problems(source: AdapterSource, path: str) -> Iterator[Problem]:
    """The same for an adapter's source, which stands at `path`."""
    if source.name and (len(source.name) > NAME_LIMIT or not re.fullmatch(SUBDOMAIN, source.name)):
        yield f"{path}.name", sentences.ADAPTER_NAME
    if source.urls:
        yield f"{path}.urls", sentences.ADAPTER_URLS
    elif bool(source.image) == (source.volume_source is not None):
        yield path, sentences.ADAPTER_IMAGE_OR_VOLUME


def _tuning(tuning: TuningSpec) -> Iterator[Problem]:
    if tuning.preset is None:
        yield "tuning.preset", sentences.TUNING_PRESET
    if tuning.method is None:
        yield "tuning.method", sentences.TUNING_METHOD_MISSING
    elif tuning.method.lower() not in ("lora", "qlora"):
        yield "tuning.method", sentences.TUNING_METHOD
    data = tuning.input
    if data is None:
        yield "tuning.input", sentences.TUNING_INPUT
    elif sum([bool(data.urls), bool(data.image), data.volume_source is not None]) != 1:
        yield "tuning.input", sentences.ONE_SOURCE
    output = tuning.output
    if output is None:
        yield "tuning.output", sentences.TUNING_OUTPUT
    elif bool(output.image) == (output.volume_source is not None):
        yield "tuning.output", sentences.IMAGE_OR_VOLUME
    elif output.image and not output.image_push_secret:
        yield "tuning.output.imagePushSecret", sentences.PUSH_SECRET
