"""Whatever a hub answers, the result is an entry of the catalogue that can be sized, or a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.catalog import Machine, Preset, size
from kaito.catalog.hub import Answers, HubError, preset_of
from support.hub_models import COMMIT, LLAMA, LLAMA_FILES

ID = "acme/Writer-8B"
MACHINE = Machine("x", "NVIDIA A100", 8, 80.0, 8.0)
KEYS = (
    *LLAMA,
    *("head_dim", "kv_lora_rank", "qk_rope_head_dim", "layer_types", "layers_block_type", "sliding_window"),
    *(
        "hybrid_override_pattern",
        "full_attention_interval",
        "quantization_config",
        "text_config",
        "num_experts",
    ),
    *("multi_query", "dtype", "n_head", "dim", "n_layers"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 300)
    | st.integers(10**9, 10**25)
    | st.floats()
    | st.sampled_from(
        ["full_attention", "mamba", "M*-", "12", "fp8", "LlamaForCausalLM", "", "x" * 300, "٣"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from((*KEYS, "bits", "quant_method", "rfilename", "size", "license", "total")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)
CONFIGS = st.builds(
    lambda changed: {**LLAMA, **changed}, st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4)
)
INFOS = st.builds(
    lambda changed: {
        "id": ID,
        "sha": COMMIT,
        "siblings": [{"rfilename": name, "size": each} for name, each in LLAMA_FILES.items()],
        **changed,
    },
    st.dictionaries(
        st.sampled_from(
            ["id", "sha", "siblings", "cardData", "tags", "gated", "safetensors", "pipeline_tag"]
        ),
        JSON,
        max_size=2,
    ),
)


def entry(info: dict[str, Any], config: dict[str, Any]) -> Preset | None:
    try:
        return preset_of(ID, Answers(info, config))
    except HubError as error:
        return None if str(error) else pytest.fail("a refusal without a sentence")


@settings(max_examples=400, deadline=None)
@given(INFOS, CONFIGS)
def test_any_answer_is_an_entry_that_can_be_sized_or_a_sentence(
    info: dict[str, Any], config: dict[str, Any]
) -> None:
    found = entry(info, config)
    if found is None:
        return
    assert Preset.model_validate_json(found.model_dump_json(exclude_defaults=True)) == found
    size(found, MACHINE)
