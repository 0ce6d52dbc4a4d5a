"""What a model's arithmetic asks of GPUs beside memory. An engine that has no code for it ends on a node that is paid.

Read in the source of vLLM 0.32.0, whose names of methods and architectures these are.
"""

from __future__ import annotations

from typing import Final

from kaito.catalog.gpus import Machine
from kaito.catalog.models import Preset, Runtime

QUANTIZATIONS: Final = {"awq": 7.5, "gptq": 7.0, "fp8": 7.5, "mxfp4": 8.0}
"""Least compute capability by how weights are stored: `get_min_capability` of each method, and for gptq what vLLM's
table "Quantization, supported hardware" says. Methods that are not here work wherever vLLM does."""
SPARSE_ATTENTION: Final = frozenset(
    {"DeepseekV32ForCausalLM", "DeepseekV4ForCausalLM", "GlmMoeDsaForCausalLM"}
)
"""Architectures that attend to chosen tokens alone: no backend of vLLM's for that (`v1/attention/backends/mla`,
`models/deepseek_v4`) supports GPUs older than Hopper."""
SPARSE_ATTENTION_CAPABILITY: Final = 9.0
NEVER_FLOAT16: Final = frozenset(
    {
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Gemma3ForConditionalGeneration",
        "Glm4ForCausalLM",
    }
)
"""Architectures whose numbers leave the range of float16: those of the model types that vLLM refuses to serve in it
(`config/model.py`). The Transformers runtime would answer, with nonsense."""


def without_kernels(preset: Preset, machine: Machine, runtime: Runtime) -> str:
    """Why the runtime cannot compute the model on such GPUs, as a sentence without a full stop; "" where it can, and
    where the compute capability is not known."""
    capability, architecture = machine.compute_capability, preset.architecture
    if capability is None:
        return ""
    method = preset.quantization.method if preset.quantization is not None else ""
    least = QUANTIZATIONS.get(method, 0.0)
    if capability < least:
        return (
            f"the weights of {preset.name} are stored as {method}, for which GPUs need compute capability {least:g}; "
            f"{machine.model} has {capability:g}"
        )
    if runtime == "vllm" and architecture in SPARSE_ATTENTION and capability < SPARSE_ATTENTION_CAPABILITY:
        return (
            f"the attention of {preset.name} is sparse, and vLLM computes that on GPUs of compute capability "
            f"{SPARSE_ATTENTION_CAPABILITY:g} and newer; {machine.model} has {capability:g}"
        )
    if architecture in NEVER_FLOAT16 and machine.bfloat16 is False:
        return f"{preset.name} needs bfloat16, and so GPUs of compute capability 8; {machine.model} has {capability:g}"
    return ""
