"""How much GPU memory LoRA adapters take, from their ranks and the model's shape.

An adapter of rank r changes a weight of `out` x `in` by two matrices of r rows: r x (in + out) numbers. In a decoder
each of the seven projections of a layer (query, key, value, output, gate, up, down) has the hidden size on one side, so
one row of rank is 7 x hidden x layers numbers for those sides. The others add up to as many numbers as the model's
weights have, divided by the hidden size. No width of an MLP has to be known, and the figure is exact but for the
embeddings, which are counted too and whose adapters few models have.
"""

from __future__ import annotations

import math
from typing import Final

from kaito.catalog.models import Preset, Runtime

RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for (--max-lora-rank, vllm/config/lora.py); a smaller one is in the next one's room."""
AT_ONCE: Final = 4
"""Adapters that one step of vLLM may use, as our server starts it (--max-loras). For each there is room of the largest
rank on every linear layer, whatever the adapters change (vllm/lora/layers)."""
ASSUMED_RANK: Final = 16
"""Of an adapter that was not read yet: vLLM's own --max-lora-rank where nothing is said."""
PROJECTIONS: Final = 7
"""Linear layers of a decoder's block that have the hidden size on one side. Fused ones count as what they are made of:
vLLM has a matrix for each of their parts."""
EXPERT_SHARE: Final = 4
"""Hidden size against the width of one expert, at most: 2,048 against 512 in Qwen3-Next and Qwen3.5, 7,168 against
2,048 in DeepSeek-V3 (transformers' defaults of those models). How many experts there are is not recorded: an upper
bound of ours."""
NUMBER_BYTES: Final = {"float32": 4}
"""Bytes of one number of an adapter on the GPU, where not 2: it is converted to the model's own numbers."""
WEIGHT_BITS: Final = 16
"""Of a number in the weight files, where they are not quantised."""
FEWEST_BITS: Final = 4
"""Of a quantisation that does not say its bits: the fewer, the more numbers are in a file."""
METHOD_BITS: Final = {"fp8": 8}
"""Those whose name says it."""
GIB: Final = 2**30


def highest(ranks: tuple[int, ...]) -> int:
    """Rank of the largest thing that is mounted: of several adapters their combination, whose rank is the sum."""
    return sum(ranks)


def rows(runtime: Runtime, ranks: tuple[int, ...]) -> int:
    """Rows of rank that all of it takes on each layer. vLLM: room for the largest in each of its places, of which the
    combination (or, for one adapter, the served name) takes one more than there are adapters. Others: each adapter
    as large as it is, and of several the combination too.

    Raises ValueError for a sum of ranks that vLLM has no room for.
    """
    if not ranks:
        return 0
    if runtime != "vllm":
        return highest(ranks) * (2 if len(ranks) > 1 else 1)
    room = next((each for each in RANKS if highest(ranks) <= each), None)
    if room is None:
        raise ValueError(
            f"the adapters together have rank {highest(ranks)}, and vLLM takes at most {RANKS[-1]}"
        )
    return room * min(len(ranks) + 1, AT_ONCE)


def adapters_gib(preset: Preset, share: float, tensor: int, rows: int) -> float:
    """GiB of one GPU for so many rows. share: of the layers; tensor: GPUs that share each of them. One side of a matrix
    is cut into so many parts, the other, of the hidden size, is on all of them (unless vLLM is told
    --fully-sharded-loras). 0 where the model's shape is not recorded."""
    dims = preset.dimensions
    if dims is None or rows == 0:
        return 0.0
    others = _numbers(preset) / dims.hidden_size
    hidden = PROJECTIONS * dims.hidden_size * dims.layers
    if preset.mixture_of_experts:
        hidden += math.ceil(others * EXPERT_SHARE)
    return (hidden + others / tensor) * share * rows * NUMBER_BYTES.get(preset.dtype, 2) / GIB


def _numbers(preset: Preset) -> float:
    """How many weights the model has: as recorded, else by the size of its files."""
    if preset.parameters is not None:
        return preset.parameters
    bits: float = WEIGHT_BITS * NUMBER_BYTES.get(preset.dtype, 2) / 2
    if preset.quantization is not None:
        bits = preset.quantization.bits or METHOD_BITS.get(preset.quantization.method, FEWEST_BITS)
    return (preset.weights_gib or 0.0) * GIB * 8 / bits
