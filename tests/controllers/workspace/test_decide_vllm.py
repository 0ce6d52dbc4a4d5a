"""What a model's entry in the catalogue becomes on vLLM's command line."""

from __future__ import annotations

import pytest

from kaito.catalog import load_catalog, machine_of_sku
from kaito.controllers.workspace.decide.vllm import vllm_settings

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("preset", "size", "arguments"),
    [
        ("phi-4", "Standard_NC24ads_A100_v4", []),
        ("phi-4", "Standard_NV36ads_A10_v5", ["--vllm=gpu-memory-utilization=0.82"]),
        (
            "qwen2.5-coder-7b-instruct",
            "Standard_NC24ads_A100_v4",
            ["--vllm=chat-template=tool-chat-hermes", "--vllm=tool-call-parser=hermes"],
        ),
        (
            "mistral-7b-instruct",
            "g6.xlarge",
            [
                "--vllm=config-format=mistral",
                "--vllm=load-format=mistral",
                "--vllm=tokenizer-mode=mistral",
                "--vllm=tool-call-parser=mistral",
            ],
        ),
        ("deepseek-ai/DeepSeek-V3.2", "Standard_ND96isr_H200_v5", [
            "--vllm=chat-template=tool-chat-deepseekv3",
            "--vllm=enable-flashinfer-autotune=false",
            "--vllm=reasoning-parser=deepseek_v3",
            "--vllm=tokenizer-mode=deepseek_v32",
            "--vllm=tool-call-parser=deepseek_v32",
        ]),
    ],
)  # fmt: skip
def test_the_catalogue_speaks_vllms_names(preset: str, size: str, arguments: list[str]) -> None:
    known, sku = CATALOG.preset(preset), CATALOG.sku(size)
    assert known is not None
    assert sku is not None
    assert vllm_settings(known, machine_of_sku(sku)) == arguments


def test_a_cache_of_eight_bits_is_asked_for_only_where_the_gpus_have_it() -> None:
    small = next(preset for preset in CATALOG.presets if preset.vllm.kv_cache_dtype == "fp8")
    old, new = CATALOG.sku("Standard_NC24ads_A100_v4"), CATALOG.sku("Standard_NC40ads_H100_v5")
    assert old is not None
    assert new is not None
    assert "--vllm=kv-cache-dtype=fp8" in vllm_settings(small, machine_of_sku(new))
    assert "--vllm=kv-cache-dtype=fp8" not in vllm_settings(small, machine_of_sku(old))
    assert not [each for each in vllm_settings(small, None) if "kv-cache" in each]
