"""Sizing, worked by hand: every figure below can be followed with a calculator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.catalog import (
    Demand,
    Dimensions,
    Ledger,
    Machine,
    Parallelism,
    Preset,
    Refused,
    Sizing,
    choices,
    load_catalog,
    machine_of_sku,
    max_context,
    size,
)
from kaito.catalog.memory import kv_gib, ledger

CATALOG = load_catalog()
KIB = 1024


def preset(name: str) -> Preset:
    found = CATALOG.preset(name)
    assert found is not None, name
    return found


def machine(name: str) -> Machine:
    found = CATALOG.sku(name)
    assert found is not None, name
    return machine_of_sku(found)


def fits(name: str, sku: str, demand: Demand | None = None) -> Sizing:
    answer = size(preset(name), machine(sku), demand or Demand())
    assert isinstance(answer, Sizing), answer
    return answer


def refused(name: str, sku: str, demand: Demand | None = None) -> Refused:
    answer = size(preset(name), machine(sku), demand or Demand())
    assert isinstance(answer, Refused), answer
    return answer


def sums(found: Ledger) -> float:
    parts = (found.reserved, found.weights, found.adapters, found.kv_cache, found.activations, found.runtime)
    return sum(parts) + found.free


def test_phi_3_mini_on_one_v100() -> None:
    """7.12 GiB of weights become 7.2624; 4,096 tokens of 2 x 32 heads x 96 x 32 layers x 2 bytes are 1.5 GiB."""
    found = fits("phi-3-mini-4k-instruct", "Standard_NC6s_v3")
    assert (found.nodes, found.copies, found.parallelism) == (1, 1, Parallelism())
    assert (found.runtime, found.dtype, found.context) == ("transformers", "float16", 4096)
    assert "NVIDIA V100 has no bfloat16: float16 is used" in found.notes
    parts = found.ledger
    assert parts is not None
    assert parts.capacity == 16
    assert parts.reserved == pytest.approx(16 * 0.16)
    assert parts.weights == pytest.approx(7.12 * 1.02)
    assert parts.kv_cache == 1.5
    assert parts.activations == 1.7
    assert parts.runtime == pytest.approx(0.6 + 7.2624 * 0.05)
    assert parts.free == pytest.approx(16 - 2.56 - 7.2624 - 1.5 - 1.7 - 0.96312)


def test_the_longest_context_of_phi_3_mini_on_one_v100() -> None:
    """13.44 - 7.2624 - 1.7 - 0.96312 = 3.51448 GiB at 384 KiB for a token are 9,596.8 tokens: 599 blocks of 16."""
    found = fits("phi-3-mini-128k-instruct", "Standard_NC6s_v3")
    assert (found.planned, found.context) == (8192, 9584)
    assert preset("phi-3-mini-128k-instruct").bytes_per_token == 384 * KIB


def test_two_requests_at_once_halve_the_context() -> None:
    found = fits("phi-3-mini-128k-instruct", "Standard_NC6s_v3", Demand(context=4096, sequences=2))
    assert found.ledger is not None
    assert found.ledger.kv_cache == 3.0
    assert (
        max_context(preset("phi-3-mini-128k-instruct"), machine("Standard_NC6s_v3"), Parallelism(), 2) == 4784
    )


def test_a_model_without_room_for_its_context_says_how_much_is_missing() -> None:
    """16,384 tokens are 6 GiB: 15.92552 GiB are needed where 13.44 can be used."""
    answer = refused("phi-3-mini-128k-instruct", "Standard_NC6s_v3", Demand(context=16384))
    assert answer.short_gib == pytest.approx(2.48552)
    assert answer.sentence == (
        "phi-3-mini-128k-instruct with a context of 16,384 tokens needs 15.9 GiB on each GPU; of NVIDIA V100 13.4 GiB "
        "can be used, so 2.5 GiB are missing"
    )


def test_llama_70b_shares_each_layer_among_four_gpus() -> None:
    """131.42 x 1.02 / 4 = 33.5121; two of eight heads: 2 x 2 x 128 x 80 x 2 bytes x 8,192 are 0.625 GiB."""
    found = fits("llama-3.3-70b-instruct", "Standard_NC96ads_A100_v4", Demand(runtime="vllm"))
    assert (found.nodes, found.parallelism) == (1, Parallelism(4, 1, 1))
    assert found.ledger is not None
    assert found.ledger.weights == pytest.approx(33.5121)
    assert found.ledger.kv_cache == 0.625
    assert found.context == 131072


def test_llama_70b_takes_three_nodes_of_one_gpu_one_stage_each() -> None:
    """27 of 80 layers: 45.24 GiB with 2.5 of 8 GiB cache; 40 layers, 67.02 GiB, would leave nothing of 67.2."""
    found = fits("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4")
    assert (found.runtime, found.nodes, found.copies) == ("vllm", 3, 1)
    assert found.parallelism == Parallelism(1, 3, 1)
    assert found.ledger is not None
    assert found.ledger.weights == pytest.approx(131.42 * 1.02 * 27 / 80)
    assert found.ledger.kv_cache == pytest.approx(2.5 * 27 / 80)


def test_what_mla_caches_is_on_every_gpu() -> None:
    """512 + 64 numbers x 61 layers x 2 bytes x 8,192 tokens are 0.536 GiB, shared by eight GPUs or not."""
    found = fits("deepseek-r1-0528", "Standard_ND96isr_H200_v5", Demand(runtime="vllm"))
    assert (found.nodes, found.parallelism) == (1, Parallelism(8, 1, 1))
    assert found.ledger is not None
    assert found.ledger.kv_cache == pytest.approx(576 * 61 * 2 * 8192 / 2**30)
    alone = kv_gib(preset("deepseek-r1-0528"), machine("Standard_ND96isr_H200_v5"), Parallelism(), 8192, 1)
    assert found.ledger.kv_cache == alone


def test_heads_are_never_cut() -> None:
    """Qwen 3.5 2B has two key-value heads: each of eight GPUs keeps one of them, a half and no eighth."""
    h100, model = machine("Standard_ND96isr_H100_v5"), preset("Qwen/Qwen3.5-2B")
    whole = kv_gib(model, h100, Parallelism(), 8192, 1)
    assert kv_gib(model, h100, Parallelism(tensor=2), 8192, 1) == whole / 2
    assert kv_gib(model, h100, Parallelism(tensor=8), 8192, 1) == whole / 2


def test_layers_are_never_cut() -> None:
    """61 layers on 2 stages: one has 31. DeepSeek R1 on two nodes of eight H100."""
    found = fits("deepseek-r1-0528", "Standard_ND96isr_H100_v5", Demand(runtime="vllm"))
    assert (found.nodes, found.parallelism) == (2, Parallelism(8, 2, 1))
    assert found.ledger is not None
    assert found.ledger.weights == pytest.approx(641.3 * 1.02 / 8 * 31 / 61)


def test_recurrent_layers_keep_a_state_and_no_cache() -> None:
    """8 layers x 8,192 tokens and 24 x 1,024 are 90,112, of 2 x 4 heads x 256 x 2 bytes each: 0.34375 GiB."""
    a100 = machine("Standard_NC24ads_A100_v4")
    assert kv_gib(preset("Qwen/Qwen3.5-9B"), a100, Parallelism(), 8192, 1) == 0.34375
    flat = preset("Qwen/Qwen3.5-9B").model_copy(update={"attention_layers": None})
    assert kv_gib(flat, a100, Parallelism(), 8192, 1) == 1.0


def test_sliding_layers_keep_a_window_and_the_prompt_that_is_being_read() -> None:
    """10 layers x 131,072 tokens and 52 x 9,216 are 1,789,952, of 8 KiB each: 13.656 GiB and not 62."""
    model, a100 = preset("google/gemma-3-27b-it"), machine("Standard_NC24ads_A100_v4")
    assert kv_gib(model, a100, Parallelism(), 131072, 1) == 1789952 * 8 / 2**20
    assert kv_gib(model.model_copy(update={"attention_layers": None}), a100, Parallelism(), 131072, 1) == 62.0
    assert kv_gib(model, a100, Parallelism(), 4096, 1) == 62 / 32, "a short prompt is all within the step"


def test_a_mixture_of_experts_needs_memory_for_all_its_experts() -> None:
    """60.77 x 1.02 = 61.9854, + 5 % + 2.3 GiB = 67.38: above the 67.2 GiB that one A100 gives."""
    found = fits("gpt-oss-120b", "Standard_NC24ads_A100_v4")
    assert (found.nodes, found.parallelism) == (2, Parallelism(1, 2, 1))
    assert "all experts are in memory, whichever of them a token uses" in found.notes
    one = fits("gpt-oss-120b", "Standard_NC40ads_H100_v5")
    assert one.nodes == 1


def test_four_bit_weights_fit_a_small_gpu() -> None:
    """5.68 x 1.02 = 5.7936 GiB; 16 x 0.84 - 5.7936 - 1.7 - 0.88968 = 5.05672 GiB at 144 KiB: 2,301 blocks of 16."""
    found = fits("Qwen/Qwen3-8B-AWQ", "Standard_NC4as_T4_v3")
    assert (found.nodes, found.dtype, found.context) == (1, "float16", 36816)


@pytest.mark.parametrize(
    ("name", "sku", "says"),
    [
        (
            "Qwen/Qwen3-8B-AWQ",
            "Standard_NC6s_v3",
            "stored as awq, for which GPUs need compute capability 7.5",
        ),
        ("mistralai/Ministral-3-3B-Instruct-2512", "p3.2xlarge", "stored as fp8"),
        (
            "ibm-granite/granite-4.1-8b",
            "p3dn.24xlarge",
            "vLLM needs GPUs of compute capability 7.5; NVIDIA V100 has 7",
        ),
    ],
)
def test_gpus_that_are_too_old_are_refused(name: str, sku: str, says: str) -> None:
    answer = refused(name, sku)
    assert says in answer.sentence
    assert answer.short_gib is None


def test_a_cache_of_eight_bits_needs_a_gpu_that_computes_with_it() -> None:
    model = preset("deepseek-ai/DeepSeek-V4-Flash-0731")
    half = kv_gib(model, machine("Standard_ND96isr_H200_v5"), Parallelism(), 8192, 1)
    assert kv_gib(model, machine("Standard_ND96amsr_A100_v4"), Parallelism(), 8192, 1) == 2 * half


def test_small_models_get_a_copy_on_each_gpu() -> None:
    """2 x 7.12 GiB are below 80: four copies, so four requests need the cache of one on each GPU."""
    demand = Demand(runtime="vllm", sequences=4, context=4096)
    found = fits("phi-3-mini-4k-instruct", "Standard_NC96ads_A100_v4", demand)
    assert found.parallelism == Parallelism(1, 1, 4)
    assert found.ledger is not None
    assert found.ledger.kv_cache == 1.5


def test_gpus_share_a_layer_only_where_the_heads_divide() -> None:
    """phi-4 has 40 heads and 10 key-value heads: two GPUs may share, eight may not, so there are four pairs."""
    found = fits("phi-4", "Standard_ND96asr_v4", Demand(runtime="vllm"))
    assert found.parallelism == Parallelism(2, 1, 4)
    assert fits("phi-4", "Standard_NV72ads_A10_v5", Demand(runtime="vllm")).parallelism == Parallelism(
        2, 1, 1
    )


def test_what_shares_no_layer_follows_stage_by_stage() -> None:
    odd = Preset(
        name="odd",
        runtimes=("vllm",),
        tag="1",
        weights_gib=200,
        dimensions=Dimensions(hidden_size=700, layers=40, attention_heads=7, key_value_heads=7),
        context_tokens=4096,
    )
    answer = size(odd, machine("Standard_NC96ads_A100_v4"))
    assert isinstance(answer, Sizing)
    assert answer.parallelism == Parallelism(1, 4, 1)


def test_the_transformers_runtime_stays_on_one_node() -> None:
    answer = refused("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4", Demand(runtime="transformers"))
    assert answer.short_gib is not None
    one = fits("llama-3.3-70b-instruct", "Standard_NC96ads_A100_v4", Demand(runtime="transformers"))
    assert (one.runtime, one.parallelism) == ("transformers", Parallelism(1, 4, 1))


def test_of_two_runtimes_the_one_that_comes_closer_says_what_is_missing() -> None:
    """61 stages of one layer on a T4 lack 0.09 GiB, where the Transformers runtime's one node lacks hundreds."""
    answer = refused("deepseek-r1-0528", "Standard_NC4as_T4_v3")
    assert answer.short_gib is not None
    assert answer.short_gib < 1
    assert answer.sentence.endswith("so 0.1 GiB are missing"), "what is missing is never nothing"


def test_what_cannot_be_spread_says_how_many_nodes_it_would_need() -> None:
    answer = refused("falcon-40b", "Standard_NV72ads_A10_v5")
    assert answer.nodes == 3
    assert (
        answer.sentence
        == "falcon-40b would need 3 nodes of Standard_NV72ads_A10_v5, and cannot be spread over nodes"
    )


def test_nodes_below_the_need_are_refused_and_above_it_are_used() -> None:
    answer = refused("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4", Demand(nodes=2))
    assert (
        answer.sentence == "llama-3.3-70b-instruct needs 3 nodes of Standard_NC24ads_A100_v4; 2 are too few"
    )
    assert answer.nodes == 3
    more = fits("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4", Demand(nodes=4))
    assert (more.nodes, more.copies, more.parallelism) == (4, 1, Parallelism(1, 4, 1))
    most = refused("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4", Demand(nodes=81))
    assert most.nodes == 80, "a layer is the least that a node can have"
    copies = fits("phi-3-mini-4k-instruct", "Standard_NC6s_v3", Demand(nodes=3, context=4096))
    assert (copies.nodes, copies.copies, copies.parallelism) == (3, 3, Parallelism())
    assert copies.total_gib == 48


def test_a_model_without_its_shape_is_counted_by_what_is_recorded() -> None:
    falcon = fits("falcon-7b", "Standard_NV36ads_A10_v5")
    assert falcon.ledger is not None
    assert falcon.ledger.kv_cache == 2048 * 8192 / 2**30
    llama = fits("llama-2-13b", "Standard_NC12s_v3")
    assert (llama.nodes, llama.ledger, llama.context) == (1, None, None)
    assert llama.notes == ("only the whole need of GPU memory is recorded, not its parts",)
    two = fits("llama-2-13b", "Standard_NV36ads_A10_v5")
    assert (two.nodes, two.copies) == (2, 1)
    assert refused("llama-2-70b", "Standard_NC24ads_A100_v4", Demand(nodes=2)).nodes == 8
    small = size(preset("llama-2-7b"), Machine("", "NVIDIA X", 1, 8))
    assert isinstance(small, Refused)
    assert small.sentence == "llama-2-7b needs 14 GiB of GPU memory; 1 x NVIDIA X has 8 GiB"
    assert small.short_gib == 6


def test_a_model_that_needs_no_gpu_has_no_ledger() -> None:
    found = fits("tiny-phi-3", "Standard_NC6s_v3", Demand(nodes=2))
    assert (found.runtime, found.nodes, found.copies, found.ledger) == ("mistralrs", 2, 2, None)


@pytest.mark.parametrize(
    ("demand", "says"),
    [
        (
            Demand(context=4097),
            "a context of 4,097 tokens is above the limit of phi-3-mini-4k-instruct, 4,096",
        ),
        (
            Demand(runtime="mistralrs"),
            "phi-3-mini-4k-instruct is served by vllm or transformers, not mistralrs",
        ),
    ],
)
def test_what_no_size_can_serve_is_refused_on_each(demand: Demand, says: str) -> None:
    assert refused("phi-3-mini-4k-instruct", "Standard_ND96isr_H200_v5", demand).sentence == says


@pytest.mark.parametrize("wrong", [Demand(context=0), Demand(sequences=0), Demand(nodes=-1)])
def test_numbers_below_one_are_an_error(wrong: Demand) -> None:
    with pytest.raises(ValueError, match="is not above 0"):
        size(preset("phi-4"), machine("Standard_NC24ads_A100_v4"), wrong)


def test_choices_come_with_the_least_memory_first_and_say_why_others_will_not_do() -> None:
    azure = [sku for sku in CATALOG.skus if sku.cloud == "azure"]
    found, not_these = choices(preset("phi-4"), azure)
    assert found[0].machine.name == "Standard_NV72ads_A10_v5"
    totals = [each.total_gib for each in found]
    assert totals == sorted(totals)
    names = {each.machine.name for each in (*found, *not_these)}
    assert "Standard_NC6s_v3" not in names, "retired"
    assert "Standard_NG32ads_V620_v1" not in names, "no runtime"
    assert not not_these
    _, not_these = choices(preset("falcon-40b"), azure)
    assert {each.machine.name for each in not_these} >= {"Standard_NC4as_T4_v3", "Standard_NV36ads_A10_v5"}


def test_the_model_of_an_a10_gives_less_of_its_memory() -> None:
    a10 = machine("Standard_NV36ads_A10_v5")
    mini = preset("phi-3-mini-4k-instruct")
    assert ledger(mini, a10, Parallelism(), 16, 1).reserved == pytest.approx(24 * 0.18)
    assert ledger(mini, replace(a10, model="NVIDIA L4"), Parallelism(), 16, 1).reserved == pytest.approx(
        24 * 0.16
    )


SIZED = [
    each for each in CATALOG.presets if each.weights_gib is not None and each.bytes_per_token is not None
]
MACHINES = [machine_of_sku(sku) for sku in CATALOG.skus if not sku.unusable]


@settings(max_examples=150, deadline=None)
@given(
    model=st.sampled_from(SIZED),
    on=st.sampled_from(MACHINES),
    context=st.integers(1, 40_000),
    sequences=st.integers(1, 64),
    adapters=st.lists(st.integers(1, 600), max_size=3).map(tuple),
)
def test_whatever_fits_adds_up_and_more_never_needs_less(
    model: Preset, on: Machine, context: int, sequences: int, adapters: tuple[int, ...]
) -> None:
    spread = model.model_copy(update={"multi_node": True})
    limit = model.context_tokens or context
    wanted = Demand(context=min(context, limit), sequences=sequences, adapters=adapters)
    answer = size(spread, on, wanted)
    if isinstance(answer, Refused):
        assert answer.sentence
        return
    parts = answer.ledger
    assert parts is not None
    assert sums(parts) == pytest.approx(parts.capacity)
    assert parts.free >= 0
    assert answer.parallelism.gpus * answer.copies == answer.nodes * on.gpus
    smaller = size(spread, on, Demand(context=min(context, limit), runtime=answer.runtime))
    assert isinstance(smaller, Sizing)
    assert smaller.nodes <= answer.nodes


@settings(max_examples=150, deadline=None)
@given(model=st.sampled_from(SIZED), on=st.sampled_from(MACHINES), sequences=st.integers(1, 16))
def test_the_longest_context_fits_and_one_block_more_does_not(
    model: Preset, on: Machine, sequences: int
) -> None:
    way = Parallelism()
    tokens = max_context(model, on, way, sequences)
    if tokens:
        assert ledger(model, on, way, tokens, sequences).free >= 0
    if tokens < (model.context_tokens or 0):
        assert ledger(model, on, way, tokens + 16, sequences).free < 0
