"""Adapters as files: which are chosen, which are refused and with what sentence, and that sums are exact."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaito_presets import adapters, demo, lora, tensors
from kaito_presets.adapters import AdapterChoice, BadAdapter
from presets.support import copy_adapter


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    found = lora.base_shapes(demo.weights_path())
    assert found is not None
    return found


def random_adapter(
    directory: Path, *, seed: int, rank: int, modules: dict[str, tuple[int, int]], **config: Any
) -> dict[str, tensors.Array]:
    """Writes an adapter with random weights and returns the change of each weight, computed from first principles."""
    random = np.random.default_rng(seed)
    weights: dict[str, tensors.Array] = {}
    deltas = {}
    settings: dict[str, Any] = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, **config}
    for module, (outputs, inputs) in modules.items():
        r = settings.get("rank_pattern", {}).get(module.rsplit(".", 1)[-1], rank)
        alpha = settings.get("alpha_pattern", {}).get(module.rsplit(".", 1)[-1], settings["lora_alpha"])
        a = random.normal(size=(r, inputs)).astype(np.float32)
        b = random.normal(size=(outputs, r)).astype(np.float32)
        weights[f"base_model.model.{module}.lora_A.weight"] = a
        weights[f"base_model.model.{module}.lora_B.weight"] = b
        scale = alpha / (math.sqrt(r) if settings.get("use_rslora") else r)
        deltas[module] = scale * (b @ a)
    directory.mkdir(parents=True)
    tensors.write(directory / "adapter_model.safetensors", weights)
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    return deltas


def delta(change: lora.Change) -> tensors.Array:
    return change.scale * (change.b @ change.a)


MODULES = {"model.layers.0.mlp.down_proj": (12, 20), "model.layers.1.self_attn.o_proj": (8, 6)}


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("a=0.5", AdapterChoice("a", 0.5)),
        ("a", AdapterChoice("a", 1.0)),
        ("a.b-c=0", AdapterChoice("a.b-c", 0.0)),
    ],
)
def test_choices_are_parsed(text: str, choice: AdapterChoice) -> None:
    assert adapters.parse_choice(text) == choice


@pytest.mark.parametrize("text", ["a=1.5", "a=-0.1", "a=much", "a=nan", "=1", "../a=1", "a/b"])
def test_bad_choices_are_refused(text: str) -> None:
    with pytest.raises(BadAdapter, match="--adapter="):
        adapters.parse_choice(text)


def test_listing_is_sorted_and_needs_the_config_file(tmp_path: Path) -> None:
    for name in ("b", "a", "not-an-adapter"):
        (tmp_path / name).mkdir()
    for name in ("b", "a"):
        (tmp_path / name / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert adapters.find(tmp_path) == ["a", "b"]
    assert adapters.find(tmp_path / "missing") == []
    assert adapters.choose(tmp_path, []) == [AdapterChoice("a"), AdapterChoice("b")]
    assert adapters.choose(tmp_path, [AdapterChoice("b", 0.2)]) == [AdapterChoice("b", 0.2)]


def test_missing_twice_and_reserved_names_are_refused(tmp_path: Path) -> None:
    copy_adapter(tmp_path / "a")
    copy_adapter(tmp_path / "base")
    with pytest.raises(BadAdapter, match=r"Adapter b has no adapter_config\.json .*found there: a, base"):
        adapters.choose(tmp_path, [AdapterChoice("b")])
    with pytest.raises(BadAdapter, match="asked for twice"):
        adapters.choose(tmp_path, [AdapterChoice("a"), AdapterChoice("a", 0.5)])
    with pytest.raises(BadAdapter, match="may not be named 'base'"):
        adapters.choose(tmp_path, [AdapterChoice("base")])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"peft_type": "IA3"}, "only LORA adapters"),
        ({"use_dora": True}, "sets use_dora"),
        ({"bias": "all"}, "sets bias"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"r": 0}, "r must be a whole number"),
        ({"r": 16}, "has rank 8, but adapter_config.json says 16"),
        ({"lora_alpha": "16"}, "lora_alpha in adapter_config.json must be a number"),
        ({"rank_pattern": {"(": 8}}, "can't be read"),
        ({"rank_pattern": {"o_proj": "many"}}, "can't be read"),
        ({"rank_pattern": {".*": 0}}, "says rank 0"),
        ({"alpha_pattern": [1]}, "can't be read"),
    ],
)
def test_settings_that_cannot_be_applied_exactly_are_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], changes: dict[str, Any], sentence: str
) -> None:
    copy_adapter(tmp_path / "a", **changes)
    with pytest.raises(BadAdapter, match=f"Adapter a: .*{sentence}"):
        lora.load(tmp_path, "a", shapes)


def test_damaged_files_are_refused(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    weights = copy_adapter(tmp_path / "a") / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for content, sentence in (
        (whole[:-100], "cut off"),
        (whole[:4], "not a safetensors file"),
        (b"\xff" * 64, "not a safetensors file"),
        (b"\x10" + bytes(7) + b"x" * 16, "damaged header"),
    ):
        weights.write_bytes(content)
        with pytest.raises(BadAdapter, match=f"Adapter a: .*{sentence}"):
            lora.load(tmp_path, "a", shapes)
    weights.unlink()
    with pytest.raises(BadAdapter, match=r"Adapter a has no adapter_model\.safetensors"):
        lora.load(tmp_path, "a", shapes)
    (tmp_path / "a" / "adapter_config.json").write_text("{")
    with pytest.raises(BadAdapter, match="is not JSON"):
        lora.load(tmp_path, "a", shapes)


def test_an_adapter_of_another_model_is_refused_by_name(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]]
) -> None:
    random_adapter(
        tmp_path / "a", seed=1, rank=4, modules={"model.layers.0.mlp.down_proj": (3072, 8192)},
        base_model_name_or_path="microsoft/Phi-3-mini-4k-instruct",
    )  # fmt: skip
    with pytest.raises(
        BadAdapter, match=r"does not fit.*trained on microsoft/Phi-3-mini-4k-instruct.*\(128, 256\)"
    ):
        lora.load(tmp_path, "a", shapes)
    random_adapter(tmp_path / "b", seed=1, rank=4, modules={"model.layers.7.mlp.down_proj": (128, 256)})
    with pytest.raises(BadAdapter, match="has no such weight"):
        lora.load(tmp_path, "b", shapes)


def test_a_weight_without_its_counterpart_is_refused(tmp_path: Path) -> None:
    random_adapter(tmp_path / "a", seed=1, rank=4, modules=MODULES)
    path = tmp_path / "a" / "adapter_model.safetensors"
    weights = tensors.read(path)
    del weights["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"]
    tensors.write(path, weights)
    with pytest.raises(BadAdapter, match=r"down_proj has lora_A but not its counterpart"):
        lora.load(tmp_path, "a", None)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"lora_alpha": 3},
        {"use_rslora": True},
        {"rank_pattern": {"o_proj": 2}, "alpha_pattern": {"o_proj": 5}},
        {"rank_pattern": {"down_proj": 7}, "use_rslora": True},
    ],
)
def test_strength_and_sum_are_exact(tmp_path: Path, config: dict[str, Any]) -> None:
    first = random_adapter(tmp_path / "a", seed=1, rank=4, modules=MODULES, **config)
    only = {"model.layers.0.mlp.down_proj": MODULES["model.layers.0.mlp.down_proj"]}
    second = random_adapter(tmp_path / "b", seed=2, rank=3, modules=only)
    loaded = [lora.load(tmp_path, name, None) for name in ("a", "b")]

    combined = lora.combine(zip(loaded, (0.3, 0.8), strict=True))
    assert combined is not None
    lora.save(combined, tmp_path / "out" / "sum", base="x")
    again = lora.load(tmp_path / "out", "sum", None)  # through the file, as the engine reads it
    for module in MODULES:
        expected = 0.3 * first[module] + 0.8 * second.get(module, 0.0)
        np.testing.assert_allclose(delta(again.changes[module]), expected, rtol=1e-4, atol=1e-4)

    assert lora.combine([(loaded[0], 0.0), (loaded[1], 0.0)]) is None


def test_bfloat16_and_float16_are_read(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 0.0078125], dtype=np.float32)
    bits = (values.view("<u4") >> 16).astype("<u2").tobytes()
    half = values.astype("<f2").tobytes()
    header = json.dumps(
        {
            "b": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]},
            "h": {"dtype": "F16", "shape": [3], "data_offsets": [6, 12]},
        }
    ).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bits + half)
    read = tensors.read(path)
    assert read["b"].tolist() == values.tolist()
    assert read["h"].tolist() == values.tolist()


def test_a_type_that_is_no_float_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"q": {"dtype": "I8", "shape": [2], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(tensors.BadTensorFile, match="q has type I8"):
        tensors.read(path)
