"""Every model and machine size of the Go KAITO is here, with the facts recorded for it."""

from __future__ import annotations

import re

import pytest

from catalog.reference_rows import rows
from kaito.catalog import Catalog, Preset, load_catalog

FIRST_CLASS = rows("first_class")
PINNED = rows("pinned")
SKUS = rows("skus")
CATALOG = load_catalog()
PINNED_REPOS = {row["repo"].lower() for row in PINNED}
TEMPLATES = {
    "phi4-mini": "tool-chat-phi4-mini",
    "dsr1": "tool-chat-deepseekr1",
    "dsv3": "tool-chat-deepseekv3",
    "hermes": "tool-chat-hermes",
    "llama3.1": "tool-chat-llama3.1-json",
    "gemma4": "tool-chat-gemma4",
    "-": None,
}
ONE_COPY = {"openai/gpt-oss-20b": 12.9, "openai/gpt-oss-120b": 60.77}
"""Repositories with a second copy of the weights, which the rows count too."""
MENDED_PARSERS = {"microsoft/Phi-4-mini-instruct": "phi4_mini_json"}
"""Models whose parser the rows lost, because the name in a table was not spelled as the model's."""
OTHER_TOKENIZER = {
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": None,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": None,
}
"""Llama and Qwen models with their own tokenizers, which the rows give DeepSeek's because of their names."""


def known(name: str) -> Preset:
    preset = CATALOG.preset(name)
    assert preset is not None, name
    return preset


def test_no_row_is_missing_and_none_is_double() -> None:
    assert (len(FIRST_CLASS), len(PINNED), len(SKUS)) == (60, 30, 57)
    assert len(CATALOG.presets) == 60 + 5 + 6 + 1, "hub ids; falcon and phi-2; llama-2; the demo"
    assert len(CATALOG.skus) == 57 + 8 + 17, "listed; removed of Azure; removed of AWS"


@pytest.mark.parametrize("row", FIRST_CLASS, ids=lambda row: row["repo"])
def test_a_model_served_by_its_hub_id_has_the_recorded_facts(row: dict[str, str]) -> None:
    repo = row["repo"]
    preset = known(repo)
    assert preset.repo == repo
    assert preset.licence == row["licence"]
    assert preset.weights_gib == ONE_COPY.get(repo, float(row["weights_gib"]))
    assert preset.context_tokens == int(row["context"])
    long = row["architecture"].replace("~CG", "ForConditionalGeneration").replace("~C", "ForCausalLM")
    assert preset.architecture == long
    assert _dims(preset) == row["dims"]
    kind, size = row["attention_bytes_per_token"].split()
    assert preset.bytes_per_token == int(size)
    assert (kind == "MLA") == (preset.dimensions is not None and preset.dimensions.latent is not None)
    quantization = preset.quantization
    said = "-" if quantization is None else f"{quantization.method}{quantization.bits or ''}"
    assert said == row["quantization"].lower()
    mode = None if row["tokenizer_mode"] == "auto" else row["tokenizer_mode"]
    assert preset.vllm.tokenizer_mode == OTHER_TOKENIZER.get(repo, mode)
    mistral = "mistral" if mode == "mistral" else None
    assert (preset.vllm.load_format, preset.vllm.config_format) == (mistral, mistral)
    assert (preset.vllm.reasoning_parser or "-") == row["reasoning_parser"]
    assert preset.vllm.tool_call_parser == MENDED_PARSERS.get(repo) or (
        (preset.vllm.tool_call_parser or "-") == row["tool_parser"]
    )
    assert preset.vllm.chat_template == TEMPLATES[row["chat_template"]]
    assert preset.multi_node, "vLLM spreads every one of them over nodes that hold it together"
    if repo.lower() not in PINNED_REPOS:
        assert preset.disk_gib == int(row["disk_gib"])
        assert preset.revision is None
        assert preset.download
        assert (preset.image, preset.tag) == ("kaito-base", "0.5.0")


def _dims(preset: Preset) -> str:
    dims = preset.dimensions
    assert dims is not None
    text = f"{dims.hidden_size}/{dims.layers}/{dims.attention_heads}/{dims.key_value_heads}"
    if dims.head_dim:
        text += f"/hd{dims.head_dim}"
    if dims.kv_lora_rank:
        return f"{text}/kvl{dims.kv_lora_rank}+r{dims.rope_head_dim}"
    return f"{text}/r{dims.rope_head_dim}" if dims.rope_head_dim else text


@pytest.mark.parametrize("row", PINNED, ids=lambda row: row["preset"])
def test_a_preset_with_a_commit_has_the_recorded_facts(row: dict[str, str]) -> None:
    preset = known(row["preset"])
    assert preset.name == row["preset"]
    assert preset is known(row["repo"])
    assert preset.revision == row["revision"]
    assert preset.tag == row["tag"]
    assert preset.disk_gib == int(row["disk_gib"])
    assert preset.gpus == int(row["gpus"])
    assert preset.tuning == (row["tuning"] == "yes")
    flags = row["flags"].split()
    assert preset.download == ("DAR" in flags)
    assert preset.gated == ("auth" in flags or preset.name.startswith("gemma"))
    assert preset.deprecated == ("DEPRECATED" in flags)
    if "TFS" in flags:
        assert "transformers" in preset.runtimes
    if row["repo"].startswith("tiiuae"):
        assert preset.weights_gib == float(row["weights_gib"])
        assert preset.bytes_per_token == int(row["bytes_per_token"])
        assert preset.context_tokens == int(row["context"])


@pytest.mark.parametrize(
    ("names", "memory", "gpus"),
    [
        (("llama-2-7b",), 14, 1),
        (("llama-2-7b-chat",), 16, 1),
        (("llama-2-13b", "llama-2-13b-chat"), 30, 2),
        (("llama-2-70b",), 152, 8),
        (("llama-2-70b-chat",), 192, 8),
        (("falcon-7b", "falcon-7b-instruct"), 14, 1),
        (("falcon-40b", "falcon-40b-instruct"), 90, 2),
        (("phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct"), 9, 1),
        (("phi-3-medium-4k-instruct", "phi-3-medium-128k-instruct"), 28, 1),
        (("mistral-7b",), 14, 1),
        (("mistral-7b-instruct",), 16, 1),
        (("phi-2",), 12, 1),
    ],
)
def test_the_first_presets_have_the_recorded_memory(names: tuple[str, ...], memory: int, gpus: int) -> None:
    for name in names:
        preset = known(name)
        assert (preset.gpu_memory_gib, preset.gpus) == (memory, gpus)


def test_only_models_that_may_not_be_published_ask_for_the_users_image() -> None:
    private = {preset.name for preset in CATALOG.presets if preset.private}
    assert private == {f"llama-2-{size}{chat}" for size in ("7b", "13b", "70b") for chat in ("", "-chat")}


def test_seven_presets_remember_the_commit_of_their_first_images() -> None:
    found = {preset.name: preset.earlier_revisions for preset in CATALOG.presets if preset.earlier_revisions}
    assert len(found) == 7
    assert found["phi-3-mini-4k-instruct"] == ("d269012bea6fbe38ce7752c8940fea010eea3383",)


@pytest.mark.parametrize(
    ("name", "dims", "kinds"),
    [
        ("gpt-oss-20b", 24, (12, 12, 128, 0)),
        ("google/gemma-3-27b-it", 62, (10, 52, 1024, 0)),
        ("Qwen/Qwen3.5-9B", 32, (8, 0, None, 24)),
        ("Qwen/Qwen3.6-35B-A3B", 40, (10, 0, None, 30)),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 52, (6, 0, None, 23)),
    ],
)
def test_hybrid_models_say_which_layers_keep_a_cache(
    name: str, dims: int, kinds: tuple[int, int, int | None, int]
) -> None:
    preset = known(name)
    layers = preset.attention_layers
    assert layers is not None
    assert preset.dimensions is not None
    assert preset.dimensions.layers == dims
    assert (layers.full, layers.sliding, layers.window, layers.recurrent) == kinds


def test_mixtures_of_experts_say_so_and_how_much_one_token_uses() -> None:
    preset = known("nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4")
    assert (preset.mixture_of_experts, preset.active_parameters) == (True, 55_000_000_000)
    assert known("deepseek-ai/DeepSeek-V3.2").mixture_of_experts
    assert known("microsoft/phi-4").mixture_of_experts is None
    for each in CATALOG.presets:
        active = re.search(r"-a(\d+)b", each.name)
        assert (each.active_parameters is not None) == (active is not None), each.name


def test_settings_of_single_models_are_recorded() -> None:
    assert known("MiniMaxAI/MiniMax-M2.7").vllm.enable_expert_parallel
    assert known("zai-org/GLM-5.2-FP8").vllm.kv_cache_dtype == "fp8"
    assert known("deepseek-ai/DeepSeek-V4-Pro").vllm.kv_cache_dtype == "fp8"
    assert known("Qwen/Qwen3.8-27B").vllm.gdn_prefill_backend == "triton"
    assert known("deepseek-ai/DeepSeek-V3.2").vllm.flashinfer_autotune is False
    assert known("mistral-7b").transformers.chat_template == "mistral-instruct"
    assert known("llama-3.1-8b-instruct").transformers.chat_template == "llama-3-instruct"
    assert not known("falcon-7b").vllm.lora
    assert known("falcon-40b").vllm.lora
    assert known("google/gemma-4-12B-it").task == "any-to-any"
    assert known("moonshotai/Kimi-K2.5").task == "image-text-to-text"
    tuning = known("qwen2.5-coder-32b-instruct")
    assert (tuning.tuning_disk_gib, tuning.tuning_gpu_memory_gib) == (230, 140)


@pytest.mark.parametrize("row", SKUS, ids=lambda row: row["name"])
def test_a_size_has_the_recorded_facts(row: dict[str, str]) -> None:
    sku = CATALOG.sku(row["name"])
    assert sku is not None
    assert (sku.cloud, sku.gpus, sku.memory_gib) == (row["cloud"], int(row["gpus"]), float(row["memory_gib"]))
    assert sku.model == row["model"]
    assert sku.nvme == (row["nvme"] == "y")
    capability = row["compute_capability"]
    assert sku.compute_capability == (None if capability == "-" else float(capability))
    assert bool(sku.unusable) == (not row["model"].startswith("NVIDIA"))


@pytest.mark.parametrize(
    ("name", "gpus", "memory", "model", "capability"),
    [
        ("Standard_NC12s_v3", 2, 32, "NVIDIA V100", 7.0),
        ("Standard_NC24rs_v3", 4, 64, "NVIDIA V100", 7.0),
        ("Standard_NC64as_T4_v3", 4, 64, "NVIDIA T4", 7.5),
        ("p3.2xlarge", 1, 16, "NVIDIA V100", 7.0),
        ("p3dn.24xlarge", 8, 256, "NVIDIA V100", 7.0),
        ("g4dn.12xlarge", 4, 64, "NVIDIA T4", 7.5),
        ("g4dn.metal", 8, 128, "NVIDIA T4", 7.5),
        ("g5g.16xlarge", 2, 32, "NVIDIA T4", 7.5),
    ],
)
def test_sizes_that_the_go_kaito_dropped_are_still_known(
    name: str, gpus: int, memory: int, model: str, capability: float
) -> None:
    sku = CATALOG.sku(name)
    assert sku is not None
    assert (sku.gpus, sku.memory_gib, sku.model, sku.compute_capability) == (gpus, memory, model, capability)
    assert sku.nvme is None


def test_every_gpu_model_has_one_compute_capability() -> None:
    found: dict[str, set[float | None]] = {}
    for sku in CATALOG.skus:
        if sku.nvidia:
            found.setdefault(sku.model.removeprefix("NVIDIA "), set()).add(sku.compute_capability)
    assert found == {
        "V100": {7.0},
        "T4": {7.5},
        "A100": {8.0},
        "A2": {8.6},
        "A10": {8.6},
        "A10G": {8.6},
        "A16": {8.6},
        "L4": {8.9},
        "H100": {9.0},
        "H200": {9.0},
    }


def test_a_retired_size_names_its_day_and_what_to_use_instead() -> None:
    catalog: Catalog = CATALOG
    sku = catalog.sku("Standard_NC6s_v3")
    assert sku is not None
    assert (sku.retired, sku.replacement) == ("2025-09-30", "Standard_NC4as_T4_v3")


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("Standard_NC12s_v3", "2025-09-30"),
        ("Standard_NC24s_v3", "2025-09-30"),
        ("Standard_NC24rs_v3", "2025-03-31"),
    ],
)
def test_the_larger_v100_sizes_were_retired_for_as_many_a100(name: str, day: str) -> None:
    """Microsoft's migration guides."""
    sku = CATALOG.sku(name)
    assert sku is not None
    assert sku.retired == day
    newer = CATALOG.sku(sku.replacement or "")
    assert newer is not None
    assert (newer.gpus, newer.model) == (sku.gpus, "NVIDIA A100")
