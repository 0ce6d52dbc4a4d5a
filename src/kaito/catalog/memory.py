"""What one GPU holds while a model is served on it: weights, adapters, key-value cache, activations, the engine's own.

Pure arithmetic in GiB (2^30 bytes). A model is cut into `tensor` x `pipeline` parts, one for each GPU of a copy.

Where a figure comes from is said beside it. "Go KAITO": a constant of its estimator, which was measured with vLLM; the
arithmetic around it is ours. What the catalogue does not know is counted at the larger possible value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from kaito.catalog.adapters import adapters_gib
from kaito.catalog.gpus import Machine
from kaito.catalog.models import Dimensions, Preset

GIB: Final = 2**30
USABLE: Final = 0.84
"""Share of a GPU that vLLM may take (--gpu-memory-utilization). Go KAITO."""
USABLE_OF: Final = {"NVIDIA A10": 0.82}
"""The same for GPU models that report less than their nominal memory. Go KAITO starts vLLM so, but plans with 0.84."""
WEIGHT_EXPANSION: Final = 1.02
"""Weights in GPU memory against their files. Go KAITO."""
ACTIVATIONS_GIB: Final = 1.7
"""Of one GPU at vLLM's default batch. Go KAITO."""
CONTEXT_GIB: Final = 0.6
"""CUDA's context and NCCL's buffers, outside of torch's allocator, of one GPU. Go KAITO."""
FRAGMENTATION: Final = 0.05
"""What torch's allocator cannot use, against the weights. Go KAITO."""
BLOCK_TOKENS: Final = 16
"""Tokens of a block of cache; a sequence takes whole blocks. vLLM, --block-size."""
BATCHED_TOKENS: Final = 8192
"""Tokens of a prompt in one step: what a layer with a sliding window caches beyond its window. The larger of vLLM's
defaults of --max-num-batched-tokens for a server (2,048; 8,192 on GPUs with 70 GiB or more)."""
STATE_TOKENS: Final = 1024
"""The state that a recurrent layer keeps of a sequence, in tokens that a layer of attention could cache instead. vLLM
enlarges its blocks until one holds such a state, which takes some hundred tokens; this is an upper bound of ours."""
FP8_CACHE_CAPABILITY: Final = 8.9
"""Compute capability from which GPUs compute with fp8: NVIDIA, Ada Lovelace. Below, a cache is counted at 16 bit."""
CACHE_BYTES: Final = {"auto": 2, "fp8": 1}


@dataclass(frozen=True, slots=True)
class Parallelism:
    """How many GPUs share a layer (tensor), follow one another (pipeline), and hold copies (data)."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True)
class Ledger:
    """Memory of the fullest GPU, in GiB. All parts together are its capacity; `free` below 0 is what is missing."""

    capacity: float
    reserved: float
    """Left to the driver and to who else looks at the GPU."""
    weights: float
    kv_cache: float
    """For the sequences and the context that were asked for."""
    activations: float
    runtime: float
    free: float
    """For more sequences, or longer ones: the engine takes it as cache."""
    adapters: float = 0.0
    """For LoRA adapters: see `kaito.catalog.adapters`."""


def usable_share(machine: Machine) -> float:
    """The part of a GPU's memory that the engine may take."""
    return USABLE_OF.get(machine.model, USABLE)


def cache_bytes(preset: Preset, machine: Machine) -> int:
    """Bytes of one number in the cache: 2, or 1 where the model wants fp8 and the GPU can."""
    capability = machine.compute_capability
    if capability is not None and capability < FP8_CACHE_CAPABILITY:
        return CACHE_BYTES["auto"]
    return CACHE_BYTES[preset.vllm.kv_cache_dtype]


def kv_gib(preset: Preset, machine: Machine, parallelism: Parallelism, tokens: int, sequences: int) -> float:
    """Cache of one GPU for `sequences` of `tokens` each.

    Heads are shared among the GPUs of a layer, but never fewer than one whole head for each; what MLA keeps is needed
    by all of them, so each has it all. Raises ValueError when the catalogue knows neither shape nor bytes_per_token.
    """
    share = _stage_share(preset.dimensions, parallelism.pipeline)
    width = cache_bytes(preset, machine)
    dims = preset.dimensions
    if dims is None:
        if preset.bytes_per_token is None:
            raise ValueError(f"{preset.name}: the size of its cache is not recorded")
        return preset.bytes_per_token * width / 2 * _blocks(tokens) * sequences * share / GIB
    if dims.latent is not None:
        numbers = dims.latent
    else:
        numbers = 2 * math.ceil(dims.key_value_heads / parallelism.tensor) * dims.head_size
    return numbers * width * _layer_tokens(preset, dims, tokens) * sequences * share / GIB


def _layer_tokens(preset: Preset, dims: Dimensions, tokens: int) -> int:
    """Tokens that all layers together keep of one sequence."""
    kinds = preset.attention_layers
    if kinds is None:
        return dims.layers * _blocks(tokens)
    kept = kinds.full * _blocks(tokens) + kinds.recurrent * STATE_TOKENS
    if kinds.window is not None:
        kept += kinds.sliding * _blocks(min(tokens, kinds.window - 1 + BATCHED_TOKENS))
    return kept


def _blocks(tokens: int) -> int:
    return math.ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS


def _stage_share(dims: Dimensions | None, stages: int) -> float:
    """The part of all layers that the fullest stage has: layers are not cut."""
    if dims is None:
        return 1 / stages
    return math.ceil(dims.layers / stages) / dims.layers


def ledger(
    preset: Preset, machine: Machine, parallelism: Parallelism, tokens: int, sequences: int, rows: int = 0
) -> Ledger:
    """The memory of the fullest GPU. `sequences` are those of one copy, `rows` what `adapters.rows` says. Raises
    ValueError as `kv_gib` does, and when the size of the weights is not recorded."""
    if preset.weights_gib is None:
        raise ValueError(f"{preset.name}: the size of its weights is not recorded")
    layers = _stage_share(preset.dimensions, parallelism.pipeline)
    weights = preset.weights_gib * WEIGHT_EXPANSION * layers / parallelism.tensor
    adapters = adapters_gib(preset, layers, parallelism.tensor, rows)
    cache = kv_gib(preset, machine, parallelism, tokens, sequences)
    reserved = machine.memory_gib * (1 - usable_share(machine))
    runtime = CONTEXT_GIB + weights * FRAGMENTATION
    free = machine.memory_gib - reserved - weights - cache - ACTIVATIONS_GIB - runtime - adapters
    return Ledger(machine.memory_gib, reserved, weights, cache, ACTIVATIONS_GIB, runtime, free, adapters)
