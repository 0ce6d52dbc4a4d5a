"""What vLLM is told about a model that only its name and architecture tell.

The tables are the Go KAITO's, with what was lost in them mended: they are asked by the longest name that fits; the
hub's spelling of Phi-4-mini and Kimi-K2 counts; DeepSeek's distillations have the tokenizers of Llama and Qwen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kaito.catalog.models import VllmSettings

_CAUSAL: Final = "ForCausalLM"
_CONDITIONAL: Final = "ForConditionalGeneration"

_REASONING: Final = {
    "deepseek-r1": "deepseek_r1",
    "deepseek-v3": "deepseek_v3",
    "deepseek-v4": "deepseek_v4",
    "ernie-4.5": "ernie45",
    "gemma-4": "gemma4",
    "glm-4.5": "glm45",
    "granite-3.2": "granite",
    "holo2": "holo2",
    "hunyuan-a13b": "hunyuan_a13b",
    "kimi-k2": "kimi_k2",
    "laguna": "poolside_v1",
    "minimax-m2": "minimax_m2_append_think",
    "minimax-m3": "minimax_m3",
    "mimo": "mimo",
    "mistral": "mistral",
    "olmo-3": "olmo3",
    "qwen3": "qwen3",
    "qwq-32b": "deepseek_r1",
    "step3": "step3",
}
"""By how the model's name begins."""
_REASONING_OF: Final = {
    "DeepseekV3": "deepseek_v3",
    "Ernie4_5_VLMoe": "ernie45",
    "Ernie4_5_Moe": "ernie45",
    "Gemma4": "gemma4",
    "Gemma4Unified": "gemma4",
    "Glm4Moe": "glm45",
    "GlmMoeDsa": "glm45",
    "HunYuanMoEV1": "hunyuan_a13b",
    "Granite": "granite",
    "KimiK2": "kimi_k2",
    "KimiK25": "kimi_k2",
    "MiniMaxM2": "minimax_m2_append_think",
    "MiniMaxM3Sparse": "minimax_m3",
    "MiMo": "mimo",
    "HYV3": "hy_v3",
    "Laguna": "poolside_v1",
    "Mistral3": "mistral",
    "Mistral": "mistral",
    "Nemotron": "nemotron_v3",
    "NemotronH": "nemotron_v3",
    "NemotronH_Nano_VL_V2": "nemotron_v3",
    "Olmo": "olmo3",
    "Qwen3": "qwen3",
    "Qwen3Moe": "qwen3",
    "Qwen3_5": "qwen3",
    "Qwen3_5Moe": "qwen3",
    "GptOss": "openai_gptoss",
    "Step3Text": "step3",
    "Step3VL": "step3",
}
"""By architecture, without its ending."""
_NEVER_REASONING: Final = ("mistral-7b-", "ministral-3-", "mistral-large-3-675b-instruct-2512")

_TOOLS: Final = {
    "hermes-2": "hermes",
    "hermes-3": "hermes",
    "mistral": "mistral",
    "meta-llama-3": "llama3_json",
    "meta-llama-4": "llama4_pythonic",
    "granite-3": "granite",
    "granite-4": "granite4",
    "internlm": "internlm",
    "ai21-jamba": "jamba",
    "llama-xlam": "xlam",
    "xlam": "xlam",
    "qwq-32b": "hermes",
    "qwen2.5": "hermes",
    "qwen3": "hermes",
    "qwen3-coder": "qwen3_xml",
    "qwen3.5": "qwen3_coder",
    "qwen3.6": "qwen3_coder",
    "qwen3.8": "qwen3_coder",
    "laguna": "poolside_v1",
    "minimax-m2": "minimax_m2",
    "minimax-m3": "minimax_m3",
    "mimo": "mimo",
    "lfm2": "lfm2",
    "apertus": "apertus",
    "olmo-3": "olmo3",
    "gigachat3": "gigachat3",
    "longcat": "longcat",
    "step3": "step3",
    "step3p5": "step3p5",
    "deepseek-r1": "deepseek_v3",
    "deepseek-v3": "deepseek_v3",
    "deepseek-v3.1": "deepseek_v31",
    "deepseek-v3.2": "deepseek_v32",
    "deepseek-v4": "deepseek_v4",
    "kimi-k2": "kimi_k2",
    "hunyuan-a13b": "hunyuan_a13b",
    "glm-4": "glm45",
    "glm-4.7": "glm47",
    "ernie-4.5": "ernie45",
    "phi-4-mini": "phi4_mini_json",
    "seed-oss": "seed_oss",
    "gemma-3": "functiongemma",
    "gemma-4": "gemma4",
}
_TOOLS_OF: Final = {
    "Mistral": "mistral",
    "MistralLarge3": "mistral",
    "Llama": "llama3_json",
    "Llama4": "llama4_pythonic",
    "Granite": "granite",
    "GraniteMoe": "granite",
    "GraniteMoeHybrid": "granite4",
    "GPTBigCode": "granite-20b-fc",
    "InternLM2": "internlm",
    "Jamba": "jamba",
    "Qwen2": "hermes",
    "Qwen3": "hermes",
    "Qwen3Moe": "qwen3_xml",
    "Qwen3_5": "qwen3_coder",
    "Qwen3_5Moe": "qwen3_coder",
    "NemotronH": "qwen3_coder",
    "NemotronH_Nano_VL_V2": "qwen3_coder",
    "MiniMaxM2": "minimax_m2",
    "MiniMaxM3Sparse": "minimax_m3",
    "MiMo": "mimo",
    "HYV3": "hy_v3",
    "Laguna": "poolside_v1",
    "Lfm2": "lfm2",
    "Lfm2Moe": "lfm2",
    "Apertus": "apertus",
    "DeepseekV3": "deepseek_v3",
    "DeepseekV32": "deepseek_v32",
    "GptOss": "openai",
    "HunYuanMoEV1": "hunyuan_a13b",
    "LongcatFlash": "longcat",
    "Glm4Moe": "glm45",
    "Glm47Moe": "glm47",
    "GlmMoeDsa": "glm47",
    "Gemma3": "functiongemma",
    "Gemma4": "gemma4",
    "Gemma4Unified": "gemma4",
    "Olmo3": "olmo3",
    "SeedOss": "seed_oss",
    "Ernie4_5": "ernie45",
    "Ernie4_5_Moe": "ernie45",
    "Ernie4_5_VLMoe": "ernie45",
    "Step3Text": "step3",
    "Step3p5Text": "step3p5",
    "Phi4Mini": "phi4_mini_json",
    "KimiK2": "kimi_k2",
    "KimiK25": "kimi_k2",
    "GigaChat3": "gigachat3",
}
_TEMPLATES: Final = {
    "deepseek-r1": "tool-chat-deepseekr1",
    "deepseek-v3": "tool-chat-deepseekv3",
    "gemma-4": "tool-chat-gemma4",
    "llama-3": "tool-chat-llama3.1-json",
    "phi-4-mini": "tool-chat-phi4-mini",
    "qwen2.5": "tool-chat-hermes",
}
_TOKENIZERS: Final = {
    "deepseek-r1": "deepseek_v32",
    "deepseek-r1-distill": "",
    "deepseek-v3": "deepseek_v32",
    "deepseek-v4": "deepseek_v4",
}
_FP8_CACHE: Final = ("deepseek-v4", "glm-5.2-fp8")
_TRITON: Final = ("qwen3.5", "qwen3.6", "qwen3.8")
_EXPERT_PARALLEL: Final = ("minimax-m2",)
_NO_AUTOTUNE: Final = ("deepseek-v3.2",)


def vllm_settings(name: str, architecture: str | None, *, mistral: bool) -> VllmSettings:
    """`name`: of the repository, in lower case, without its owner. mistral: its weights are in Mistral's own layout."""
    own = "mistral" if mistral else None
    reasoning = _longest(_REASONING, name) or _of(_REASONING_OF, architecture)
    return VllmSettings(
        load_format=own,
        config_format=own,
        tokenizer_mode=own or _longest(_TOKENIZERS, name) or None,
        reasoning_parser=None if name.startswith(_NEVER_REASONING) else reasoning,
        tool_call_parser=_longest(_TOOLS, name) or _of(_TOOLS_OF, architecture),
        chat_template=_longest(_TEMPLATES, name),
        kv_cache_dtype="fp8" if name.startswith(_FP8_CACHE) else "auto",
        gdn_prefill_backend="triton" if name.startswith(_TRITON) else None,
        enable_expert_parallel=name.startswith(_EXPERT_PARALLEL),
        flashinfer_autotune=False if name.startswith(_NO_AUTOTUNE) else None,
    )


def _longest(table: Mapping[str, str], name: str) -> str | None:
    """What the table says of the longest beginning of the name that it has."""
    found = max((each for each in table if name.startswith(each)), key=len, default=None)
    return table[found] if found is not None else None


def _of(table: Mapping[str, str], architecture: str | None) -> str | None:
    return table.get((architecture or "").removesuffix(_CAUSAL).removesuffix(_CONDITIONAL))
