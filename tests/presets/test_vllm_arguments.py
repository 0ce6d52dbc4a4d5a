"""vLLM's command line: golden lines, who wins, and that each line is one that vLLM's own parser takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_presets.engines.vllm.arguments import Adapters, Asked, Node, command_line, environment, room_for
from kaito_presets.engines.vllm.flags import BadSetting, known, normalized, rendered
from presets.fake_vllm.vllm.entrypoints.cli.main import parser

CATALOG = Path(__file__).parents[2] / "presets" / "catalog"
PLAIN = Asked(Path("/workspace/weights"), ("phi-4",), {}, {}, own_sampling=True)


def line(asked: Asked, **options: Any) -> list[str]:
    made = command_line(replace(asked, options={**asked.options, **options}), "0.0.0.0", 5000)
    parser().parse_args(["/workspace/weights", *made])  # ends the test where vLLM has no such flag or value
    return made


def test_a_model_on_one_gpu() -> None:
    assert line(PLAIN) == [
        "--api-server-count=1",
        '--compilation-config={"pass_config":{"fuse_allreduce_rms":false}}',
        "--disable-uvicorn-access-log",
        "--dtype=auto",
        "--gpu-memory-utilization=0.84",
        "--host=0.0.0.0",
        "--max-model-len=auto",
        "--max-num-seqs=256",
        "--middleware=kaito_presets.engines.vllm.front.Front",
        "--port=5000",
        "--served-model-name", "phi-4",
        "--shutdown-timeout=25",
    ]  # fmt: skip


def test_everything_at_once_is_sorted_and_is_what_vllm_takes() -> None:
    asked = Asked(
        Path("/workspace/weights"),
        ("base", "none"),
        {"tool-call-parser": "hermes", "reasoning-parser": "qwen3", "chat-template": "tool-chat-hermes",
         "gpu-memory-utilization": "0.82"},
        {},
        max_model_len=8192, dtype="float16", tensor=4, data=2, architecture="Qwen3ForCausalLM", own_code=True,
        adapters=Adapters((("m", Path("/t/0")), ("a", Path("/t/1"))), 24), templates=CATALOG, kv_cache_gib=12.34,
        performance_mode="throughput",
    )  # fmt: skip
    assert line(asked) == [
        "--api-server-count=1",
        '--compilation-config={"pass_config":{"fuse_allreduce_rms":false}}',
        "--data-parallel-size=2",
        "--disable-uvicorn-access-log",
        "--dtype=float16",
        "--enable-auto-tool-choice",
        "--enable-lora",
        "--gpu-memory-utilization=0.82",
        "--host=0.0.0.0",
        "--lora-modules", "m=/t/0", "a=/t/1",
        "--max-cpu-loras=2",
        "--max-lora-rank=32",
        "--max-loras=2",
        "--max-model-len=8192",
        "--max-num-seqs=256",
        "--middleware=kaito_presets.engines.vllm.front.Front",
        '--override-generation-config={"temperature":0.0}',
        "--performance-mode=throughput",
        "--port=5000",
        "--reasoning-parser=qwen3",
        "--served-model-name", "base", "none",
        "--shutdown-timeout=25",
        "--tensor-parallel-size=4",
        "--tool-call-parser=hermes",
        "--trust-remote-code",
    ]  # fmt: skip


def test_the_memory_of_the_node_extends_the_cache_where_it_can() -> None:
    asked = replace(PLAIN, kv_cache_gib=12.34)
    assert "--kv-offloading-size=12.3" in line(asked)
    for other in (
        replace(asked, architecture="GptOssForCausalLM"),
        replace(asked, data=2),
        replace(asked, pipeline=2),
    ):
        assert not [each for each in line(other) if each.startswith("--kv-offloading")]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_parts_of_a_model_on_two_nodes(rank: int) -> None:
    asked = replace(
        PLAIN, tensor=8, pipeline=2, node=Node(rank, 2, ("ws-0.ws-headless.default.svc.cluster.local", 29500))
    )
    made = line(asked)
    for flag in ("--nnodes=2", f"--node-rank={rank}", "--master-port=29500", "--distributed-executor-backend=mp",
                 "--master-addr=ws-0.ws-headless.default.svc.cluster.local", "--pipeline-parallel-size=2"):  # fmt: skip
        assert flag in made
    assert ("--headless" in made) == (rank == 1)
    assert any(each.startswith("--port") for each in made) == (rank == 0)
    assert any(each.startswith("--api-server-count") for each in made) == (rank == 0)


def test_the_file_wins_over_flags_over_the_catalogue_over_defaults() -> None:
    asked = replace(
        PLAIN,
        preset={"gpu-memory-utilization": "0.82", "kv-cache-dtype": "fp8", "max-num-seqs": "8"},
        tensor=4,
        max_model_len=1000,
    )
    made = line(asked, **{"tensor-parallel-size": 2, "kv_cache_dtype": "auto", "max-model-len": "32k"})
    assert {"--gpu-memory-utilization=0.82", "--kv-cache-dtype=auto", "--tensor-parallel-size=2", "--max-num-seqs=256",
            "--max-model-len=32k"} <= set(made)  # fmt: skip


def test_maps_are_joined_with_ours() -> None:
    nested = line(PLAIN, **{"compilation-config": {"level": 3}})
    assert '--compilation-config={"level":3,"pass_config":{"fuse_allreduce_rms":false}}' in nested
    dotted = line(
        PLAIN, **{"compilation-config.pass_config.fuse_allreduce_rms": "True", "kernel_config.a.b": 1}
    )
    assert '--compilation-config={"pass_config":{"fuse_allreduce_rms":true}}' in dotted
    assert '--kernel-config={"a":{"b":1}}' in dotted


@pytest.mark.parametrize(
    ("name", "value", "made"),
    [
        ("enable-prefix-caching", True, ["--enable-prefix-caching"]),
        ("enable-prefix-caching", "False", ["--no-enable-prefix-caching"]),
        ("enable_prefix_caching", None, ["--enable-prefix-caching"]),
        ("no-enable-prefix-caching", "", ["--no-enable-prefix-caching"]),
        ("disable-log-stats", False, []),
        ("disable-log-stats", "true", ["--disable-log-stats"]),
        ("cpu-offload-gb", 0, ["--cpu-offload-gb=0"]),
        ("cpu-offload-gb", "1.5", ["--cpu-offload-gb=1.5"]),
        ("kv-events-config", {"enable_kv_cache_events": True}, ['--kv-events-config={"enable_kv_cache_events":true}']),
        ("kv-events-config", '{"b": 1, "a": [true]}', ['--kv-events-config={"a":[true],"b":1}']),
        ("hf-overrides", "my.module.function", ["--hf-overrides=my.module.function"]),
        ("allowed-media-domains", ["a.example", "b.example"], ["--allowed-media-domains", "a.example", "b.example"]),
        ("seed", 5, ["--seed=5"]),
    ],
)  # fmt: skip
def test_a_setting_becomes_the_flag_that_means_it(name: str, value: Any, made: list[str]) -> None:
    before = line(PLAIN)
    after = line(PLAIN, **{name: value})
    assert [each for each in after if each not in before] == made


def test_a_users_middleware_stands_behind_ours() -> None:
    made = [each for each in line(PLAIN, middleware=["mine.Own"]) if each.startswith("--middleware")]
    assert made == ["--middleware=mine.Own", "--middleware=kaito_presets.engines.vllm.front.Front"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max-modl-len": 1}, r"vllm.max-modl-len: vLLM 0.32.0 has no such option. Did you mean max-model-len\?"),
        ({"seed": 1, "--seed": 2}, "vllm.--seed: seed is set twice"),
        ({"enable-lora": "maybe"}, "vllm.enable-lora must be true or false, not 'maybe'"),
        ({"seed": "much"}, "vllm.seed must be a whole number, not 'much'"),
        ({"seed": True}, "vllm.seed must be a whole number, not true"),
        ({"cpu-offload-gb": "some"}, "vllm.cpu-offload-gb must be a number"),
        ({"seed": [1]}, r"vllm.seed must be a whole number, not \[1\]"),
        ({"seed": None}, "vllm.seed has no value"),
        ({"max-num-batched-tokens": "1.5.2"}, "must be a whole number .32k means"),
        ({"kv-cache-dtype": "int2"}, "vllm.kv-cache-dtype must be one of auto, bfloat16"),
        ({"kv-events-config": "{'a'}"}, "vllm.kv-events-config must be a map, or JSON as text"),
        ({"seed.part": 1}, "vllm.seed.part: seed has no parts; write vllm.seed"),
        ({"kernel-config": {"a": 1}, "kernel-config.a": 2}, "vllm.kernel-config.a: is set twice"),
        ({"allowed-media-domains": []}, "vllm.allowed-media-domains is an empty list"),
        ({"load-format": ""}, "vllm.load-format is empty"),
        ({"port": 80}, "vllm.port can't be set here: set KAITO_PORT"),
        ({"lora-modules": "a=b"}, "vllm.lora-modules can't be set here: name adapters in"),
        ({"nnodes": 2}, "vllm.nnodes can't be set here"),
        ({"tool-call-parser": "magic"}, "vllm.tool-call-parser: vLLM 0.32.0 has no 'magic'; it has apertus, "),
        ({"enable-auto-tool-choice": True}, "vllm.enable-auto-tool-choice needs vllm.tool-call-parser"),
    ],
)  # fmt: skip
def test_what_vllm_would_not_take_is_refused_with_its_path(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadSetting, match=sentence):
        line(PLAIN, **options)


def test_room_for_adapters_fits_their_sum() -> None:
    assert [room_for(rank) for rank in (1, 2, 16, 17, 300, 512)] == [1, 8, 16, 32, 320, 512]
    with pytest.raises(BadSetting, match="together have rank 513, and vLLM takes at most 512"):
        room_for(513)
    adapted = replace(PLAIN, adapters=Adapters((("m", Path("/a")),), 40))
    assert "--max-lora-rank=64" in line(adapted)
    assert "--max-lora-rank=256" in line(replace(adapted, max_lora_rank=200))
    assert "--max-lora-rank=64" in line(replace(adapted, max_lora_rank=8))
    assert "--max-lora-rank=512" in line(adapted, **{"max-lora-rank": 512})
    with pytest.raises(BadSetting, match="max-lora-rank is 32, but the adapters need 64"):
        line(adapted, **{"max-lora-rank": 32})
    with pytest.raises(BadSetting, match="enable-lora is false, but the Workspace has adapters"):
        line(adapted, **{"enable-lora": False})


def test_what_the_catalogue_says_of_every_preset_is_what_vllm_takes() -> None:
    told = 0
    for path in sorted(CATALOG.glob("*.yaml")):
        for preset in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("presets") or ():
            names = {"reasoning_parser": known().reasoning_parsers, "tool_call_parser": known().tool_parsers}
            for key, there in names.items():
                value = (preset.get("vllm") or {}).get(key)
                if value is not None:
                    told += 1
                    assert value in there, (preset["name"], key, value)
    assert told > 80


def test_every_flag_of_the_parser_can_be_written() -> None:
    samples = {
        "switch": True,
        "boolean": False,
        "integer": 1,
        "number": 0.5,
        "size": "4k",
        "json": {"a": 1},
        "text": "x",
    }
    for name, flag in known().flags.items():
        value = flag.choices[0] if flag.choices else samples.get(flag.kind, "x")
        written = rendered(flag, value, name)
        assert written[0].startswith(f"--{name}") or written[0] == f"--no-{name}"
        assert normalized({name.replace("-", "_"): value}, "vllm", known()) == {name: value}


def test_compilers_are_asked_for_only_where_a_model_needs_them() -> None:
    assert environment("Phi3ForCausalLM")["VLLM_USE_DEEP_GEMM"] == "0"
    assert environment("DeepseekV32ForCausalLM")["VLLM_USE_DEEP_GEMM"] == "1"
