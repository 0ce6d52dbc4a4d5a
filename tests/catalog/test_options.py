"""What is told of a file of settings before a node is bought, held to what the servers themselves refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.catalog.options import OURS, fault_in, vllm_options
from kaito_presets.engines.vllm import arguments, flags
from kaito_presets.engines.vllm.arguments import Asked, command_line
from kaito_presets.server.config_file import BadConfig, read_config

REFUSED: list[tuple[str, str]] = [
    (
        "vllm: {max-modl-len: 4096}",
        "vllm.max-modl-len: vLLM 0.32.0 has no such option; did you mean max-model-len?",
    ),
    ("vllm: {zzz: 1}", "vllm.zzz: vLLM 0.32.0 has no such option"),
    ("vllm: {max-model-len: lots}", "vllm.max-model-len must be a whole number from 1, or auto, not 'lots'"),
    ("vllm: {max-model-len: 0}", "vllm.max-model-len must be a whole number from 1, or auto, not 0"),
    ("vllm: {max-model-len: 1, max_model_len: 2}", "vllm.max-model-len is set twice; keep one of the two"),
    ("vllm: {seed: 1, seed_: 2}", "vllm.seed_: vLLM 0.32.0 has no such option; did you mean seed?"),
    ("vllm: {block-size: 16, block_size: 32}", "vllm.block-size is set twice; keep one of the two"),
    (
        "vllm: {enable-prefix-caching: true, no-enable-prefix-caching: true}",
        "vllm.enable-prefix-caching is set twice; keep one of the two",
    ),
    (
        "vllm: {dtype: int3}",
        "vllm.dtype must be one of auto, bfloat16, float, float16, float32, half, not 'int3'",
    ),
    ("vllm: {block-size: many}", "vllm.block-size must be a whole number, not 'many'"),
    (
        "vllm: {gpu-memory-utilization: 3}",
        "vllm.gpu-memory-utilization must be above 0 and at most 1, not 3",
    ),
    ("vllm: {tensor-parallel-size: 0}", "vllm.tensor-parallel-size must be a whole number from 1, not 0"),
    (
        "vllm: {enable-prefix-caching: perhaps}",
        "vllm.enable-prefix-caching must be true or false, not 'perhaps'",
    ),
    ("vllm: {block-size:}", "vllm.block-size has no value"),
    ("vllm: {block-size.x: 1}", "vllm.block-size.x: block-size has no parts; write vllm.block-size"),
    ("vllm: {kernel-config: '{'}", "vllm.kernel-config must be a map, or JSON as text"),
    ("vllm: {port: 1}", "vllm.port cannot be set here: the server listens where the Service looks for it"),
    ("vllm: [1]", "vllm is no mapping; write `vllm: {max-model-len: 4096}`"),
    (
        "transformers: {max-num-seqs: few}",
        "transformers.max-num-seqs must be a whole number from 1, not 'few'",
    ),
    (
        "kv_cache_cpu_memory_utilization: 2",
        "kv_cache_cpu_memory_utilization must be a number from 0 to 0.9, the share of the free memory, not 2",
    ),
]
TAKEN = [
    "",
    "vllm:",
    "vllm: {}",
    "foo: 1",
    "max_probe_steps: 6",
    "vllm: {max-model-len: auto, max_num_seqs: '8', dtype: half, served-model-name: mine}",
    "vllm: {enable-prefix-caching: false, no-enable-chunked-prefill: true, trust_remote_code: 'True'}",
    "vllm: {hf-overrides: {a: {b: 1}}, kernel-config.enable_flashinfer_autotune: False, tensor-parallel-size: '2'}",
    "vllm: {gpu-memory-utilization: 0.9, kv-cache-dtype: fp8}",
    "transformers: {dtype: float16}\nkv_cache_cpu_memory_utilization: 0.5",
]


def said(text: str, engine: str = "vllm") -> str:
    return fault_in(yaml.safe_load(text) or {}, engine)


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_what_the_server_would_end_with_is_told_with_the_keys_path(text: str, sentence: str) -> None:
    assert said(text) == sentence


@pytest.mark.parametrize("text", TAKEN)
def test_what_the_server_takes_passes(text: str, tmp_path: Path) -> None:
    assert said(text) == ""
    assert not refused_by_the_server(text, tmp_path)


def test_options_of_vllm_concern_vllm_alone() -> None:
    assert said("vllm: {zzz: 1}", "transformers") == ""
    assert said("vllm: {max-num-seqs: few}", "transformers") != "", "which means the same to every server"
    assert said("transformers: {zzz: 1}", "vllm") == ""


def test_the_options_are_those_of_the_server_in_the_image() -> None:
    ours, theirs = vllm_options(), flags.known()
    assert ours.version == theirs.version
    assert {name: (each.kind, each.many, each.choices) for name, each in ours.of.items()} == {
        name: (each.kind, bool(each.many), each.choices) for name, each in theirs.flags.items()
    }
    assert OURS.keys() | {"served-model-name"} == arguments.OURS.keys(), "a name is shared by all servers"


def refused_by_the_server(text: str, folder: Path) -> bool:
    path = folder / "inference_config.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        found = read_config(path, "vllm")
        asked = Asked(weights=folder, names=("phi-4",), preset={}, options=found.options)
        command_line(asked, "127.0.0.1", 5000)
    except (BadConfig, flags.BadSetting):
        return True
    return False


STRICTER = {"gpu-memory-utilization", "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"}
"""Where vLLM itself refuses numbers that the server in front of it passes on."""
NEEDS_ANOTHER = {"enable-auto-tool-choice"}
"""What the server refuses unless the preset brings the other half."""
KEYS = sorted(
    (flags.known().flags.keys() | {"zzz", "no-enable-prefix-caching", "kernel-config.a", "seed.a"}) - STRICTER
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**6),
    st.sampled_from(
        [0.5, 1e9, "", "auto", "True", "no", "32k", "0.5", "{}", "{", "fp8", "hermes", "qwen3", [], [1], {}]
    ),
    st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*KEYS, "max_model_len", "max_queued"]), VALUES, max_size=3))
def test_we_refuse_what_the_server_refuses_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, section: dict[str, Any]
) -> None:
    if NEEDS_ANOTHER & section.keys():
        return
    text = yaml.safe_dump({"vllm": section})
    folder = tmp_path_factory.getbasetemp()
    assert bool(said(text)) == refused_by_the_server(text, folder), said(text)


@pytest.mark.parametrize("key", ["max-model-len", "block-size", "gpu-memory-utilization", "dtype", "seed"])
def test_a_number_of_thousands_of_digits_is_no_number(key: str) -> None:
    assert fault_in({"vllm": {key: 16**5000}}, "vllm").startswith(f"vllm.{key} must be ")
    assert fault_in({"vllm": {key: [16**5000]}}, "vllm").endswith("not what is there")
    assert "no such option" in fault_in({"vllm": {16**5000: 1}}, "vllm")
