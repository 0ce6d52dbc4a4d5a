"""How a model may be cut over the GPUs of its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kaito.catalog.gpus import Machine
from kaito.catalog.memory import Parallelism
from kaito.catalog.models import Preset, Runtime

COPIES_FROM: Final = 2
"""A GPU with more than this many times the weights gets a copy of its own, and no layers are shared. Go KAITO."""
MOST_STAGES: Final = 64
"""Stages that are tried for a model whose number of layers is not recorded."""


def most_nodes(preset: Preset, machine: Machine, runtime: Runtime) -> int:
    """One for what cannot leave a node; else no more stages than layers."""
    if runtime != "vllm":
        return 1
    layers = preset.dimensions.layers if preset.dimensions is not None else MOST_STAGES
    return max(1, layers // (machine.gpus // tensor_ways(preset, machine.gpus)))


def ways(preset: Preset, machine: Machine, runtime: Runtime, nodes: int) -> Iterator[Parallelism]:
    """How a copy may be cut over that many nodes, the best first."""
    if runtime != "vllm":
        yield Parallelism(1, machine.gpus, 1)  # accelerate puts whole layers on each GPU, one after the other
        return
    tensor = tensor_ways(preset, machine.gpus)
    rest = machine.gpus // tensor
    if nodes > 1:
        yield Parallelism(tensor, rest * nodes, 1)
        return
    if machine.gpus > 1 and (preset.weights_gib or 0) * COPIES_FROM < machine.memory_gib:
        yield Parallelism(1, 1, machine.gpus)
    yield Parallelism(tensor, 1, rest)
    if rest > 1:
        yield Parallelism(tensor, rest, 1)


def tensor_ways(preset: Preset, gpus: int) -> int:
    """The most GPUs of a node that may share a layer."""
    if preset.dimensions is None:
        return gpus
    fitting = (each for each in range(gpus, 1, -1) if gpus % each == 0 and shares_evenly(preset, each))
    return next(fitting, 1)


def shares_evenly(preset: Preset, tensor: int) -> bool:
    """Whether so many GPUs may share a layer: they divide the heads evenly, and the key-value heads too or are divided
    by them. vLLM asserts both in every model (model_executor/models); MLA has no key-value heads to share."""
    dims = preset.dimensions
    if dims is None:
        return True
    kv = dims.key_value_heads
    even = dims.latent is not None or kv % tensor == 0 or tensor % kv == 0
    return dims.attention_heads % tensor == 0 and even
