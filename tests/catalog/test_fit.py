"""Which adapters fit which model, and what is said when they do not."""

from __future__ import annotations

import pytest

from kaito.catalog import AdapterFacts, Preset, adapter_fits, load_catalog

CATALOG = load_catalog()
PHI3_MODULES = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def preset(name: str) -> Preset:
    found = CATALOG.preset(name)
    assert found is not None
    return found


def facts(base: str | None = "microsoft/Phi-3-mini-128k-instruct", **changes: object) -> AdapterFacts:
    values: dict[str, object] = {
        "base_model": base,
        "rank": 8,
        "target_modules": PHI3_MODULES,
        "dtype": "float32",
        **changes,
    }
    return AdapterFacts(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "reason", "says"),
    [
        (facts(), "Fits", ""),
        (facts("MICROSOFT/phi-3-mini-128k-instruct/"), "Fits", ""),
        (facts("phi-3-mini-128k-instruct"), "Fits", ""),
        (facts("/workspace/tfs/weights"), "Fits", "does not say which base model"),
        (facts(None), "Fits", "does not say which base model"),
        (facts(target_modules=("q_proj", "k_proj", "o_proj")), "Fits", "has no k_proj, q_proj"),
        (facts(target_modules=("model.layers.0.self_attn.qkv_proj",)), "Fits", ""),
        (facts(target_modules=("all-linear",)), "Fits", ""),
        (facts(rank=None, dtype=None, target_modules=()), "Fits", ""),
    ],
)
def test_fits(given: AdapterFacts, reason: str, says: str) -> None:
    verdict = adapter_fits(given, preset("phi-3-mini-128k-instruct"))
    assert verdict.ok
    assert verdict.reason == reason
    assert says in verdict.message if says else verdict.message == ""


@pytest.mark.parametrize(
    ("given", "reason", "says"),
    [
        (
            facts("mistralai/Mistral-7B-v0.3"),
            "BaseModelMismatch",
            "serves microsoft/Phi-3-mini-128k-instruct",
        ),
        (
            facts("microsoft/Phi-3-mini-4k-instruct"),
            "BaseModelMismatch",
            "trained on microsoft/Phi-3-mini-4k-instruct",
        ),
        (facts(rank=0), "InvalidRank", "rank 1 or more"),
        (facts(rank=4096), "InvalidRank", "hidden size 3072"),
        (facts(dtype="int8"), "UnsupportedDtype", "save it as float16"),
        (facts(target_modules=("query_key_value",)), "TargetModulesMismatch", "has down_proj, gate_up_proj"),
        (facts("tiny-phi-3"), "BaseModelMismatch", "trained on tiny-phi-3"),
    ],
)
def test_does_not_fit(given: AdapterFacts, reason: str, says: str) -> None:
    verdict = adapter_fits(given, preset("phi-3-mini-128k-instruct"))
    assert not verdict.ok
    assert verdict.reason == reason
    assert says in verdict.message


def test_stand_in_weights_take_adapters_made_for_them_and_say_so() -> None:
    wanted, serving = preset("phi-3-mini-128k-instruct"), preset("tiny-phi-3")
    verdict = adapter_fits(facts("tiny-phi-3"), wanted, serving)
    assert verdict.ok
    assert verdict.reason == "FitsStandIn"
    assert "stand-in weights tiny-phi-3 that answer in place of phi-3-mini-128k-instruct" in verdict.message


def test_stand_in_weights_refuse_adapters_of_the_real_model() -> None:
    verdict = adapter_fits(facts(), preset("phi-3-mini-128k-instruct"), preset("tiny-phi-3"))
    assert not verdict.ok
    assert verdict.reason == "StandInWeights"
    assert "an adapter made for tiny-phi-3" in verdict.message


def test_a_preset_that_serves_itself_is_no_stand_in() -> None:
    tiny = preset("tiny-phi-3")
    assert adapter_fits(facts("tiny-phi-3"), tiny, tiny).reason == "Fits"


def test_a_model_without_adapters_refuses_them() -> None:
    verdict = adapter_fits(facts(), preset("phi-3-mini-128k-instruct").model_copy(update={"lora": False}))
    assert verdict.reason == "AdaptersNotSupported"


def test_facts_from_a_status_ignore_what_has_the_wrong_type() -> None:
    assert (
        AdapterFacts.from_status({"baseModel": 3, "rank": True, "targetModules": "o_proj", "dtype": None})
        == AdapterFacts()
    )
    assert AdapterFacts.from_status(
        {"baseModel": " tiny-phi-3 ", "rank": 8, "targetModules": ["o_proj"], "dtype": "float16"}
    ) == AdapterFacts("tiny-phi-3", 8, ("o_proj",), "float16")
