"""Whether a model can be served on one machine without NVIDIA GPUs: by mistralrs, in the machine's own memory. Pure.

What the engine takes is its wheel's to say: the names here are those that mistralrs 0.9.5 loads, and a test asks the
installed library about every architecture that any runtime serves.
"""

from __future__ import annotations

from typing import Final

from kaito.catalog.models import Preset

ARCHITECTURES: Final = frozenset(
    {
        "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
        "Gemma2ForCausalLM",
        "GemmaForCausalLM",
        "Glm4ForCausalLM",
        "Glm4MoeForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "GptOssForCausalLM",
        "GraniteMoeHybridForCausalLM",
        "HunYuanDenseV1ForCausalLM",
        "HunYuanMoEV1ForCausalLM",
        "Lfm2ForCausalLM",
        "Lfm2MoeForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "Phi3ForCausalLM",
        "PhiForCausalLM",
        "PhiMoEForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "Qwen3NextForCausalLM",
        "Qwen3_5ForCausalLM",
        "SmolLM3ForCausalLM",
        "Starcoder2ForCausalLM",
    }
)
"""Classes in config.json whose safetensors mistralrs loads as a model that writes text."""
FAMILIES: Final = "Llama, Mistral, Mixtral, Qwen2, Qwen3, Phi, Phi-3, Gemma, Gemma 2, Granite 4, SmolLM3"
"""The best known of them, for a sentence."""
WIDENED: Final = 2.0
"""On a CPU mistralrs computes in float32: weights of 16 bit take twice their size. Seen with a Llama of 258 MiB, which
took 549 MiB after loading."""
MEMORY_FACTOR: Final = 1.1
WORKING_GIB: Final = 1.0
"""Beside the weights: caches of a short context, buffers. What `kaito_presets.weights.plan` counts for a download."""


def needed_gib(preset: Preset, *, on_gpu: bool) -> float | None:
    """Memory of the machine that serving takes, in GiB; None where the size of the weights is not recorded.

    on_gpu: whether the engine computes on the machine's GPU, which has 16-bit numbers, in the same memory.
    """
    if preset.weights_gib is None:
        return None
    widened = 1.0 if on_gpu or preset.dtype == "float32" else WIDENED
    return preset.weights_gib * widened * MEMORY_FACTOR + WORKING_GIB


def refusal(preset: Preset, memory_gib: float | None, *, on_gpu: bool) -> str | None:
    """Why this machine cannot serve the model's safetensors, as a sentence without a full stop; None where it can, as
    far as is known. memory_gib: all of the machine's; None: not known."""
    if preset.architecture is not None and preset.architecture not in ARCHITECTURES:
        return (
            f"the engine of this machine, mistralrs, does not serve {preset.architecture}, which {preset.name} is; it "
            f"serves {FAMILIES} and others. A cluster with GPUs can"
        )
    if preset.quantization is not None:
        return (
            f"the weights of {preset.name} are quantised ({preset.quantization.method}) for GPUs; on one machine "
            "mistralrs serves unquantised safetensors and GGUF files. Name the model that they were made from, or GGUF "
            "files in inference.preset.weights.huggingFace"
        )
    needed = needed_gib(preset, on_gpu=on_gpu)
    if needed is not None and memory_gib is not None and needed > memory_gib:
        doubled = "" if on_gpu or preset.dtype == "float32" else ", twice that to compute with on a CPU"
        return (
            f"{preset.name} takes about {needed:.1f} GiB of memory (weights of {preset.weights_gib:.1f} GiB{doubled}), "
            f"and this machine has {memory_gib:.1f} GiB; choose a smaller model, or its GGUF files with "
            "inference.preset.weights.huggingFace"
        )
    return None
