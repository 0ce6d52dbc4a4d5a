"""What the catalogue says of a model to vLLM, as `kaito-serve --vllm=NAME=VALUE`; the user's ConfigMap beats it."""

from __future__ import annotations

from kaito.catalog import Machine, Preset
from kaito.catalog.memory import USABLE, cache_bytes, usable_share


def vllm_settings(preset: Preset, machine: Machine | None) -> list[str]:
    """The arguments, sorted; `machine` None where it is not known."""
    says = preset.vllm
    found: dict[str, str | None] = {
        "load-format": says.load_format,
        "config-format": says.config_format,
        "tokenizer-mode": says.tokenizer_mode,
        "reasoning-parser": says.reasoning_parser,
        "tool-call-parser": says.tool_call_parser,
        "chat-template": says.chat_template,
        "gdn-prefill-backend": says.gdn_prefill_backend,
        "enable-expert-parallel": "true" if says.enable_expert_parallel else None,
    }
    if says.flashinfer_autotune is not None:
        found["enable-flashinfer-autotune"] = str(says.flashinfer_autotune).lower()
    if machine is not None:
        if says.kv_cache_dtype != "auto" and cache_bytes(preset, machine) == 1:
            found["kv-cache-dtype"] = says.kv_cache_dtype
        if usable_share(machine) != USABLE:
            found["gpu-memory-utilization"] = f"{usable_share(machine):g}"
    return [f"--vllm={name}={value}" for name, value in sorted(found.items()) if value]
