"""GPUs that have memory enough for a model, and no way to compute it."""

from __future__ import annotations

import pytest

from kaito.catalog import Demand, Refused, Sizing, choices, load_catalog, machine_of_sku, size
from kaito.catalog.kernels import without_kernels

CATALOG = load_catalog()


def answer(model: str, sku: str, demand: Demand | None = None) -> Sizing | Refused:
    preset, found = CATALOG.preset(model), CATALOG.sku(sku)
    assert preset is not None
    assert found is not None
    return size(preset, machine_of_sku(found), demand or Demand())


@pytest.mark.parametrize(
    ("model", "sku", "sentence"),
    [
        (
            "gpt-oss-20b",
            "Standard_NC64as_T4_v3",
            "the weights of gpt-oss-20b are stored as mxfp4, for which GPUs need compute capability 8; "
            "NVIDIA T4 has 7.5",
        ),
        (
            "deepseek-v4-flash-0731",
            "Standard_NC96ads_A100_v4",
            "the attention of deepseek-v4-flash-0731 is sparse, and vLLM computes that on GPUs of compute capability 9 "
            "and newer; NVIDIA A100 has 8",
        ),
        (
            "gemma-3-4b-instruct",
            "Standard_NC4as_T4_v3",
            "gemma-3-4b-instruct needs bfloat16, and so GPUs of compute capability 8; NVIDIA T4 has 7.5",
        ),
        (
            "gemma-3-4b-instruct",
            "Standard_NC6s_v3",
            "gemma-3-4b-instruct needs bfloat16, and so GPUs of compute capability 8; NVIDIA V100 has 7",
        ),
    ],
)
def test_gpus_without_the_kernels_are_refused_whatever_their_memory(
    model: str, sku: str, sentence: str
) -> None:
    found = answer(model, sku)
    assert isinstance(found, Refused)
    assert (found.sentence, found.short_gib, found.nodes) == (sentence, None, None)


@pytest.mark.parametrize(
    ("model", "sku"),
    [
        ("gpt-oss-20b", "Standard_NV36ads_A10_v5"),
        ("deepseek-v4-flash-0731", "Standard_ND96isr_H100_v5"),
        ("glm-5.2-fp8", "Standard_ND96isr_H200_v5"),
        ("deepseek-r1-0528", "Standard_ND96amsr_A100_v4"),
        ("gemma-3-4b-instruct", "Standard_NV36ads_A10_v5"),
        ("phi-3-mini-4k-instruct", "Standard_NC6s_v3"),
    ],
)
def test_the_oldest_gpus_with_the_kernels_are_taken(model: str, sku: str) -> None:
    assert isinstance(answer(model, sku), Sizing)


def test_the_cheapest_size_of_a_model_is_one_that_computes_it() -> None:
    sizes = [sku for sku in CATALOG.skus if sku.cloud == "azure"]
    for model, first in (
        ("gemma-3-4b-instruct", "Standard_NV36ads_A10_v5"),
        ("deepseek-v4-flash-0731", "Standard_NC40ads_H100_v5"),
    ):
        preset = CATALOG.preset(model)
        assert preset is not None
        found, _ = choices(preset, sizes)
        assert found[0].machine.name == first


def test_gpus_whose_capability_nobody_tells_are_not_judged() -> None:
    preset, sku = CATALOG.preset("gemma-3-4b-instruct"), CATALOG.sku("Standard_NC4as_T4_v3")
    assert preset is not None
    assert sku is not None
    machine = machine_of_sku(sku.model_copy(update={"compute_capability": None}))
    assert without_kernels(preset, machine, "vllm") == ""
