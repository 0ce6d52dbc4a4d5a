"""Memory of LoRA adapters, worked by hand."""

from __future__ import annotations

import pytest

from catalog.test_sizing import fits, machine, preset, refused
from kaito.catalog import Demand, Dimensions, Parallelism, Preset, Quantization, Refused, Sizing, size
from kaito.catalog.adapters import ASSUMED_RANK, AT_ONCE, RANKS, adapters_gib, rows
from kaito.catalog.memory import ledger
from kaito_presets.engines.vllm import arguments

GIB = 2**30


def test_rank_16_on_phi_3_mini() -> None:
    """7.12 GiB of 16 bits are 3,822,520,893 numbers, 1,244,310 for each of 3,072; and 7 x 3,072 x 32 = 688,128."""
    found = adapters_gib(preset("phi-3-mini-128k-instruct"), 1, 1, 16)
    assert found == pytest.approx(16 * 2 * (1_244_310 + 688_128) / GIB, rel=1e-6)


def test_it_is_what_the_projections_and_the_embeddings_add_up_to() -> None:
    """Phi-3-mini: qkv 3 x (3,072 + 3,072), o 3,072 + 3,072, gate and up 2 x (3,072 + 8,192), down 8,192 + 3,072; in 32
    layers; and 32,064 tokens by 3,072, twice. The MLP's 8,192 and the 32,064 are known of this model alone."""
    projections = 32 * (4 * 6144 + 2 * 11264 + 11264)
    exact = 2 * (projections + 2 * 32064)
    assert adapters_gib(preset("phi-3-mini-4k-instruct"), 1, 1, 1) * GIB == pytest.approx(exact, rel=1e-3)


def test_gpus_that_share_a_layer_share_one_side_of_each_matrix() -> None:
    """Llama 70B on four GPUs: 7 x 8,192 x 80 numbers on each, and a quarter of 131.42 GiB / 2 / 8,192."""
    numbers = 7 * 8192 * 80 + 131.42 * GIB / 2 / 8192 / 4
    found = adapters_gib(preset("llama-3.3-70b-instruct"), 1, 4, 32)
    assert found == pytest.approx(numbers * 32 * 2 / GIB)


def test_a_stage_has_the_adapters_of_its_layers() -> None:
    """27 of 80 layers are the most of three stages."""
    llama, a100 = preset("llama-3.3-70b-instruct"), machine("Standard_NC24ads_A100_v4")
    found = ledger(llama, a100, Parallelism(1, 3, 1), 8192, 1, 32).adapters
    assert found == pytest.approx(adapters_gib(llama, 1, 1, 32) * 27 / 80)


@pytest.mark.parametrize(
    ("ranks", "taken"),
    [
        ((), 0),
        ((8,), 2 * 8),  # the served name and the adapter's own
        ((20,), 2 * 32),  # in the next larger room
        ((8, 16), 3 * 32),  # two and their combination, whose rank is 24
        ((64, 64, 64, 64, 64), 4 * 320),  # no more than four at once
        ((512,), 2 * 512),
    ],
)
def test_vllm_keeps_room_of_the_largest_in_each_place(ranks: tuple[int, ...], taken: int) -> None:
    assert rows("vllm", ranks) == taken


def test_transformers_keeps_each_as_large_as_it_is_and_the_combination_beside_them() -> None:
    assert rows("transformers", (8,)) == 8
    assert rows("transformers", (8, 16)) == 2 * 24
    assert rows("transformers", (600, 100)) == 1400


def test_what_vllm_has_no_room_for_is_served_by_transformers_or_refused() -> None:
    ranks = (500, 13)
    found = fits("phi-3-mini-4k-instruct", "Standard_NC24ads_A100_v4", Demand(adapters=ranks))
    assert found.runtime == "transformers"
    answer = refused(
        "phi-3-mini-4k-instruct", "Standard_NC24ads_A100_v4", Demand(adapters=ranks, runtime="vllm")
    )
    assert answer.sentence == "the adapters together have rank 513, and vLLM takes at most 512"


def test_adapters_are_a_line_of_the_ledger_and_shorten_the_longest_context() -> None:
    """On one V100 0.05759 GiB of adapters are 157.2 tokens of 384 KiB: of 9,584 + 12 that fit, 9,424 are left."""
    plain = fits("phi-3-mini-128k-instruct", "Standard_NC6s_v3")
    found = fits("phi-3-mini-128k-instruct", "Standard_NC6s_v3", Demand(adapters=(16,)))
    assert plain.ledger is not None
    assert found.ledger is not None
    assert (plain.ledger.adapters, plain.context) == (0, 9584)
    assert found.ledger.adapters == pytest.approx(0.0575912, rel=1e-5)
    assert found.ledger.free == pytest.approx(plain.ledger.free - found.ledger.adapters)
    assert found.context == 9424


def test_adapters_may_need_another_node_and_the_refusal_names_them() -> None:
    """60 rows of 512 and its like: what does not fit says so."""
    asked = Demand(context=8192, adapters=(512, 512), runtime="transformers")
    answer = refused("phi-3-mini-128k-instruct", "Standard_NC6s_v3", asked)
    assert "a context of 8,192 tokens and adapters of rank 1,024 together needs" in answer.sentence


def with_files(weights_gib: float, quantization: Quantization | None, dtype: str = "auto") -> Preset:
    return Preset.model_validate(
        {
            "name": "made",
            "runtimes": ("vllm",),
            "tag": "1",
            "weights_gib": weights_gib,
            "quantization": quantization,
            "dtype": dtype,
            "dimensions": Dimensions(
                hidden_size=1024, layers=10, attention_heads=8, key_value_heads=8
            ).model_dump(),
        }
    )


@pytest.mark.parametrize(
    ("weights_gib", "quantization", "dtype"),
    [
        (8.0, None, "auto"),
        (16.0, None, "float32"),
        (4.0, Quantization(method="fp8"), "auto"),
        (2.0, Quantization(method="gptq", bits=4), "auto"),
        (2.0, Quantization(method="mxfp4"), "auto"),
    ],
)
def test_quantised_weights_have_as_many_numbers_as_others(
    weights_gib: float, quantization: Quantization | None, dtype: str
) -> None:
    """Four times 2^30 numbers each; adapters are in the model's own numbers, of two bytes or four."""
    numbers = 7 * 1024 * 10 + 4 * GIB / 1024
    width = 4 if dtype == "float32" else 2
    found = adapters_gib(with_files(weights_gib, quantization, dtype), 1, 1, 1)
    assert found * GIB == pytest.approx(numbers * width)


def test_experts_count_with_their_hidden_sides() -> None:
    """An expert that is a quarter of the hidden size wide has four times as much on its other side."""
    dense = with_files(8.0, None)
    experts = dense.model_copy(update={"mixture_of_experts": True})
    others = 4 * GIB / 1024
    assert adapters_gib(experts, 1, 1, 1) - adapters_gib(dense, 1, 1, 1) == pytest.approx(
        4 * others * 2 / GIB
    )


def test_a_model_whose_shape_is_not_recorded_counts_none() -> None:
    assert adapters_gib(with_files(8.0, None).model_copy(update={"dimensions": None}), 1, 1, 64) == 0


def test_the_server_makes_room_as_it_is_counted() -> None:
    assert RANKS == arguments.RANKS
    assert AT_ONCE == arguments.ADAPTERS_AT_ONCE
    assert ASSUMED_RANK in RANKS


class TestRequestsAtOnce:
    def test_each_has_the_whole_context(self) -> None:
        """4,096 tokens are 1.5 GiB; 3.51 GiB are free on a V100: two of them."""
        found = fits("phi-3-mini-128k-instruct", "Standard_NC6s_v3", Demand(context=4096, sequences=2))
        assert found.nodes == 1
        assert found.ledger is not None
        assert (found.ledger.kv_cache, found.ledger.free) == (3.0, pytest.approx(0.51448))

    def test_copies_share_them(self) -> None:
        """Eight at two a node: four nodes that each serve the whole model."""
        found = fits("phi-3-mini-128k-instruct", "Standard_NC6s_v3", Demand(context=4096, sequences=8))
        assert (found.nodes, found.copies, found.parallelism) == (4, 4, Parallelism())
        assert found.ledger is not None
        assert found.ledger.kv_cache == 3.0

    def test_the_last_copy_may_have_fewer(self) -> None:
        found = fits("phi-3-mini-128k-instruct", "Standard_NC6s_v3", Demand(context=4096, sequences=7))
        assert (found.nodes, found.copies) == (4, 4)

    def test_more_nodes_than_are_needed_have_a_copy_each(self) -> None:
        wanted = Demand(context=4096, sequences=8, nodes=8)
        found = fits("phi-3-mini-128k-instruct", "Standard_NC6s_v3", wanted)
        assert (found.nodes, found.copies) == (8, 8)
        assert found.ledger is not None
        assert found.ledger.kv_cache == 1.5

    def test_fewer_are_refused_with_the_need(self) -> None:
        wanted = Demand(context=4096, sequences=8, nodes=3)
        answer = refused("phi-3-mini-128k-instruct", "Standard_NC6s_v3", wanted)
        assert answer.nodes == 4
        assert answer.sentence == "phi-3-mini-128k-instruct needs 4 nodes of Standard_NC6s_v3; 3 are too few"

    def test_the_longest_context_is_one_that_all_of_them_have(self) -> None:
        """57.27448 GiB are left on an A100: half of that is 78,198 tokens of 384 KiB, and in whole blocks 78,192."""
        two = fits("phi-3-mini-128k-instruct", "Standard_NC24ads_A100_v4", Demand(sequences=2))
        assert two.context == 78192

    def test_a_model_is_spread_only_where_copies_of_it_would_be_more_than_twice_as_many(self) -> None:
        """Two of 1.5 GiB to a T4: eight take four copies or two stages, sixteen take eight copies or three stages (11
        of 32 layers: 2.496 + 8.25 + 1.7 + 0.725 of 13.44 GiB)."""
        t4 = "Standard_NC4as_T4_v3"
        eight = fits("phi-3-mini-128k-instruct", t4, Demand(context=4096, sequences=8))
        assert (eight.nodes, eight.copies) == (4, 4)
        sixteen = fits("phi-3-mini-128k-instruct", t4, Demand(context=4096, sequences=16))
        assert (sixteen.nodes, sixteen.copies, sixteen.parallelism) == (3, 1, Parallelism(1, 3, 1))
        whole = preset("phi-3-mini-128k-instruct").model_copy(update={"multi_node": False})
        answer = size(whole, machine(t4), Demand(context=4096, sequences=16))
        assert isinstance(answer, Sizing)
        assert (answer.nodes, answer.copies) == (8, 8)

    def test_the_refusal_names_them(self) -> None:
        wanted = Demand(context=16384, sequences=3)
        answer = refused("phi-3-mini-128k-instruct", "Standard_NC6s_v3", wanted)
        assert isinstance(answer, Refused)
        assert "tokens for 3 requests at once needs" in answer.sentence
