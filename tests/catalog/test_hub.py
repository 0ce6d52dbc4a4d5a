"""What the hub says of a model becomes an entry of the catalogue, or a sentence that says why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kaito.catalog import AttentionLayers, Dimensions, Preset, Quantization, load_catalog
from kaito.catalog.hub import HubError, is_hub_id, known_architectures
from kaito.catalog.hub import client as client_module
from kaito.catalog.hub.client import HubClient
from kaito.catalog.hub.settings import vllm_settings
from kaito.catalog.models import VllmSettings
from kaito.runtime.clock import LoopClock
from support.hub_models import COMMIT, LLAMA, LLAMA_FILES, OLDER, TOKEN, Model, ModelHub

GIB = 2**30
ID = "acme/Writer-8B"


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    server = ModelHub()
    yield server
    server.close()


async def ask(hub: ModelHub, id: str = ID, revision: str | None = None, token: str | None = None) -> Preset:
    return await HubClient(hub.url, LoopClock()).preset(id, revision, token)


async def refused(hub: ModelHub, id: str = ID, token: str | None = None) -> HubError:
    with pytest.raises(HubError) as error:
        await ask(hub, id, token=token)
    assert "\n" not in str(error.value)
    return error.value


async def test_a_model_becomes_an_entry_that_is_pinned_to_its_commit(hub: ModelHub) -> None:
    hub.models[ID] = Model(info={"safetensors": {"total": 8_030_000_000}})
    found = await ask(hub)
    assert found.name == "writer-8b"
    assert (found.repo, found.revision, found.licence) == (ID, COMMIT, "mit")
    assert found.architecture == "LlamaForCausalLM"
    assert found.dimensions == Dimensions(hidden_size=4096, layers=32, attention_heads=32, key_value_heads=8)
    assert (found.context_tokens, found.bytes_per_token, found.dtype) == (131072, 131072, "bfloat16")
    assert found.weights_gib == round(4 * 4_015_000_000 / GIB, 2)  # the copy under original/ is not loaded
    assert found.disk_gib == 94
    assert found.runtimes == ("vllm", "transformers")
    assert found.parameters == 8_030_000_000
    assert found.download
    assert found.multi_node
    assert not found.gated
    assert found.vllm.tool_call_parser == "llama3_json"


async def test_the_config_is_read_at_the_commit_that_was_answered(hub: ModelHub) -> None:
    hub.models[ID] = Model()
    await ask(hub)
    assert hub.asked() == [f"/api/models/{ID}?blobs=true", f"/{ID}/resolve/{COMMIT}/config.json"]
    hub.requests.clear()
    assert (await ask(hub, revision=OLDER)).revision == OLDER
    assert hub.asked() == [
        f"/api/models/{ID}/revision/{OLDER}?blobs=true",
        f"/{ID}/resolve/{OLDER}/config.json",
    ]


async def test_a_gated_model_needs_a_token_that_may_read_it(hub: ModelHub) -> None:
    hub.models[ID] = Model(gated=True)
    without = await refused(hub)
    assert (without.reason, str(without)) == (
        "ModelAccessDenied",
        f"{ID} is gated, private or not there: the hub wants a token",
    )
    wrong = await refused(hub, token="hf_somebody-else")
    assert wrong.reason == "ModelAccessDenied"
    assert f"accept its licence at {hub.url}/{ID}" in str(wrong)
    assert "hf_somebody" not in str(wrong)
    assert (await ask(hub, token=TOKEN)).gated


async def test_no_token_is_sent_where_none_is_given(hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of-the-environment")
    hub.models[ID] = Model()
    await ask(hub)
    assert hub.tokens() == {None}


@pytest.mark.parametrize(
    ("status", "headers", "reason", "retry_after"),
    [
        (404, {}, "ModelNotFound", None),
        (429, {"Retry-After": "120"}, "HubUnreachable", 120.0),
        (429, {"Retry-After": "999999999"}, "HubUnreachable", 3600.0),
        (429, {"Retry-After": "soon"}, "HubUnreachable", None),
        (500, {}, "HubUnreachable", None),
        (503, {"Retry-After": "7"}, "HubUnreachable", 7.0),
        (451, {}, "HubUnreachable", None),
    ],
)
async def test_what_the_hub_refuses_is_told_apart(
    hub: ModelHub, status: int, headers: dict[str, str], reason: str, retry_after: float | None
) -> None:
    hub.models[ID] = Model()
    hub.refuse.append((status, headers))
    error = await refused(hub)
    assert (error.reason, error.retry_after) == (reason, retry_after)
    assert ID in str(error)


async def test_without_a_hub_the_sentence_names_it_and_the_variable(hub: ModelHub) -> None:
    url = hub.url
    closed = HubClient("http://127.0.0.1:1", LoopClock())
    with pytest.raises(HubError, match=r"127\.0\.0\.1:1 cannot be reached.*HF_ENDPOINT") as error:
        await closed.preset(ID)
    assert error.value.reason == "HubUnreachable"
    assert HubClient.of_environment(LoopClock(), {"HF_ENDPOINT": f"{url}/"}).endpoint == url
    assert HubClient.of_environment(LoopClock(), {}).endpoint == "https://huggingface.co"
    with pytest.raises(ValueError, match="HF_ENDPOINT is 'hub'"):
        HubClient("hub", LoopClock())
    with pytest.raises(ValueError, match="HF_ENDPOINT holds a user or a password") as refused:
        HubClient("https://me:hunter2@hub.example", LoopClock())
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["phi-4", "a/b/c", "../etc", "a/..", "/b", "a/", "a b/c", "a/" + "b" * 200, "a/b?c"]
)
async def test_what_is_no_id_is_never_asked_about(hub: ModelHub, name: str) -> None:
    assert not is_hub_id(name)
    assert (await refused(hub, name)).reason == "ModelNotFound"
    assert hub.asked() == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "is not JSON"),
        (b"[]", "is no JSON object"),
        (b"{}", "lists no files"),
        (b'{"siblings": [{}]}', "a file without a name"),
        (b'{"siblings": [], "sha": "' + COMMIT.encode() + b'"}', "has no weights"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
async def test_an_answer_of_another_shape_is_refused_with_a_sentence(
    hub: ModelHub, body: bytes, said: str
) -> None:
    hub.models[ID], hub.body = Model(), body
    error = await refused(hub)
    assert error.reason == "UnsupportedModel"
    assert said in str(error)


async def test_an_endless_answer_is_cut_off(hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MOST_CONFIG", 100_000)
    hub.models[ID] = Model(config=b" " * 1_000_000)
    assert "is larger than" in str(await refused(hub))


CONFIGS: list[tuple[Any, str]] = [
    (b"{", "is not JSON"),
    (b"[1]", "is no JSON object"),
    (
        {**LLAMA, "architectures": ["BertModel"]},
        "the architecture of acme/Writer-8B is BertModel, which neither",
    ),
    ({**LLAMA, "architectures": []}, "names no architecture"),
    ({**LLAMA, "architectures": "LlamaForCausalLM"}, "names no architecture"),
    ({**LLAMA, "num_hidden_layers": None}, "has no num_hidden_layers"),
    ({**LLAMA, "num_hidden_layers": 0}, "has no num_hidden_layers"),
    ({**LLAMA, "hidden_size": "wide"}, 'hidden_size is "wide", and a whole number is needed'),
    ({**LLAMA, "hidden_size": -1}, "hidden_size is -1"),
    ({**LLAMA, "hidden_size": True}, "hidden_size is true"),
    ({**LLAMA, "hidden_size": [1, {}]}, "hidden_size is {}"),
    ({**LLAMA, "num_key_value_heads": 5}, "attention_heads is no multiple of key_value_heads"),
    ({**LLAMA, "num_hidden_layers": 10**9}, "1,000,000,000 layers are more than"),
    ({**LLAMA, "hidden_size": 8}, "32 attention heads are more than the hidden size 8"),
    ({**LLAMA, "quantization_config": {"bits": 4}}, "a method that it does not name"),
]


@pytest.mark.parametrize(("config", "said"), CONFIGS)
async def test_a_config_that_makes_no_sense_is_refused_with_its_key(
    hub: ModelHub, config: Any, said: str
) -> None:
    hub.models[ID] = Model(config=config)
    error = await refused(hub)
    assert error.reason == "UnsupportedModel"
    assert said in str(error)
    assert ID in str(error)


FILES: list[tuple[dict[str, int], str]] = [
    ({"adapter_config.json": 1, "adapter_model.safetensors": 9}, "is a LoRA adapter, not a model"),
    ({"README.md": 9, "original/model.safetensors": 9}, "has no weights"),
    ({"config.json": 9, "training_args.bin": 9}, "has no weights"),
    ({"model.safetensors": 0}, "does not say how large"),
]


async def test_a_repository_of_gguf_files_is_served_without_gpus(hub: ModelHub) -> None:
    files = {"README.md": 9, "m-Q4_K_M.gguf": 2_500_000_000, "m-Q8_0.gguf": 4_200_000_000}
    told = {"total": 4_022_468_096, "architecture": "qwen3", "context_length": 40960}
    hub.models[ID] = Model(config=b"there is none", files=files, info={"gguf": told})
    found = await ask(hub)
    assert (found.runtimes, found.gpus) == (("mistralrs",), 0)
    assert (found.context_tokens, found.parameters) == (40960, 4_022_468_096)
    assert found.weights_gib is None, "which file is fetched is decided later"
    assert found.revision == COMMIT
    assert len(hub.asked()) == 1, "there is no config.json to be asked for"


async def test_other_formats_in_directories_beside_gguf_files_are_passed_over(hub: ModelHub) -> None:
    hub.models[ID] = Model(files={"m-Q4_K_M.gguf": 9, "onnx/model.bin": 9, "hf/model.safetensors": 9})
    assert (await ask(hub)).runtimes == ("mistralrs",)


@pytest.mark.parametrize("told", [None, [], {"total": "7B", "context_length": True}, {"context_length": -1}])
async def test_what_the_hub_does_not_tell_of_gguf_files_stays_unknown(hub: ModelHub, told: Any) -> None:
    hub.models[ID] = Model(files={"m.gguf": 9}, info={"gguf": told})
    found = await ask(hub)
    assert (found.context_tokens, found.parameters) == (None, None)


@pytest.mark.parametrize(("files", "said"), FILES)
async def test_what_holds_no_weights_says_what_it_holds(
    hub: ModelHub, files: dict[str, int], said: str
) -> None:
    hub.models[ID] = Model(files=files)
    assert said in str(await refused(hub))


@pytest.mark.parametrize(
    ("files", "counted"),
    [
        ({"model.safetensors": 3 * GIB, "pytorch_model.bin": 3 * GIB}, 3),
        ({"pytorch_model-00001-of-00002.bin": GIB, "pytorch_model-00002-of-00002.bin": GIB}, 2),
        ({"model.safetensors": 2 * GIB, "model-00001-of-00001.safetensors": 2 * GIB}, 2),
        (
            {
                "model.safetensors.index.json": 1,
                "model-00001-of-00002.safetensors": GIB,
                "model-00002-of-00002.safetensors": GIB,
                "metal/model.bin": 9 * GIB,
                "original/model.safetensors": 2 * GIB,
            },
            2,
        ),
        ({"model.safetensors": GIB, "adapter_model.safetensors": GIB}, 1),
        ({"weights.safetensors": GIB}, 1),
    ],
)
async def test_every_tensor_is_counted_once(hub: ModelHub, files: dict[str, int], counted: int) -> None:
    hub.models[ID] = Model(files=files)
    assert (await ask(hub)).weights_gib == counted


async def test_mistrals_own_layout_is_read_by_vllm_alone(hub: ModelHub) -> None:
    params = {
        "dim": 5120,
        "n_layers": 40,
        "n_heads": 32,
        "n_kv_heads": 8,
        "head_dim": 128,
        "max_seq_len": 32768,
    }
    files = {"consolidated.safetensors": 44 * GIB, "params.json": 9, "tekken.json": 9}
    hub.models["mistralai/Own-Layout"] = Model(config=params, files=files, config_name="params.json")
    found = await ask(hub, "mistralai/Own-Layout")
    assert found.runtimes == ("vllm",)
    assert (found.vllm.load_format, found.vllm.config_format, found.vllm.tokenizer_mode) == ("mistral",) * 3
    assert found.dimensions == Dimensions(
        hidden_size=5120, layers=40, attention_heads=32, key_value_heads=8, head_dim=128
    )
    assert (found.architecture, found.context_tokens) == (None, 32768)


SHAPES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"layer_types": ["sliding_attention", "full_attention"] * 16, "sliding_window": 512},
        {"attention_layers": AttentionLayers(full=16, sliding=16, window=512)},
    ),
    (
        {"layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8},
        {"attention_layers": AttentionLayers(full=8, recurrent=24)},
    ),
    ({"layer_types": ["sliding_attention"] * 32}, {"attention_layers": None}),  # no window: as good as full
    ({"layer_types": ["something_new"] * 32}, {"attention_layers": None}),
    ({"layer_types": ["full_attention"] * 5}, {"attention_layers": None}),
    ({"full_attention_interval": 4}, {"attention_layers": AttentionLayers(full=8, recurrent=24)}),
    (
        {"hybrid_override_pattern": "M-M*" * 8},
        {"attention_layers": AttentionLayers(full=8, recurrent=16)},
    ),
    (
        {"quantization_config": {"quant_method": "AWQ", "bits": 4}},
        {"quantization": Quantization(method="awq", bits=4)},
    ),
    (
        {"quantization_config": {"quant_method": "fp8"}},
        {"quantization": Quantization(method="fp8"), "dtype": "auto"},
    ),
    ({"num_local_experts": 8}, {"mixture_of_experts": True}),
    ({"num_experts": 1}, {"mixture_of_experts": False}),
    ({"torch_dtype": "torch.float16"}, {"dtype": "float16"}),
    ({"torch_dtype": "float8_e4m3fn"}, {"dtype": "auto"}),
    ({"max_position_embeddings": None}, {"context_tokens": 2048}),
    ({"max_position_embeddings": None, "n_positions": 8192}, {"context_tokens": 8192}),
    ({"max_position_embeddings": "4096"}, {"context_tokens": 4096}),
    (
        {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_key_value_heads": 32},
        {"bytes_per_token": (512 + 64) * 32 * 2},
    ),
    ({"num_key_value_heads": [8, 4, 2]}, {"bytes_per_token": 2 * 8 * 128 * 32 * 2}),
    ({"num_key_value_heads": None, "multi_query": True}, {"bytes_per_token": 2 * 1 * 128 * 32 * 2}),
]


@pytest.mark.parametrize(("config", "wanted"), SHAPES)
async def test_the_shape_is_read_from_every_spelling(
    hub: ModelHub, config: dict[str, Any], wanted: dict[str, Any]
) -> None:
    hub.models[ID] = Model(config={**LLAMA, **config})
    found = await ask(hub)
    assert {name: getattr(found, name) for name in wanted} == wanted


async def test_what_a_model_of_pictures_says_of_its_language_part_counts(hub: ModelHub) -> None:
    text = {key: value for key, value in LLAMA.items() if key != "architectures"}
    hub.models[ID] = Model(
        config={
            "architectures": ["Gemma3ForConditionalGeneration"],
            "vision_config": {"hidden_size": 1},
            "text_config": text,
        }
    )
    found = await ask(hub)
    assert found.dimensions is not None
    assert found.dimensions.hidden_size == 4096


async def test_numbers_that_are_no_json_do_not_matter(hub: ModelHub) -> None:
    hub.models[ID] = Model(
        config=json.dumps({**LLAMA, "router": float("inf"), "rope": float("nan")}).encode()
    )
    assert (await ask(hub)).context_tokens == 131072


async def test_a_licence_is_told_by_its_own_name(hub: ModelHub) -> None:
    for card, wanted in (
        ({"license": "apache-2.0"}, "apache-2.0"),
        ({"license": "other", "license_name": "acme-1"}, "acme-1"),
        ({"license": ["mit", "x"]}, "mit"),
        ({}, "mit"),
    ):
        hub.models[ID] = Model(info={"cardData": card})
        assert (await ask(hub)).licence == wanted


def test_every_architecture_of_the_catalogue_is_one_that_its_runtimes_know() -> None:
    known = known_architectures()
    for preset in load_catalog().presets:
        for runtime in preset.runtimes:
            if preset.architecture is not None and runtime in known:
                assert preset.architecture in known[runtime], preset.name


def test_names_tell_of_the_catalogues_models_what_the_catalogue_says() -> None:
    found: list[str] = []
    for preset in load_catalog().presets:
        if preset.repo is None or preset.image != "kaito-base":
            continue
        own = vllm_settings(
            preset.repo.split("/")[1].lower(),
            preset.architecture,
            mistral=preset.vllm.load_format == "mistral",
        )
        stated = preset.vllm.model_copy(update={"lora": VllmSettings().lora})
        if own != stated:
            found.append(f"{preset.name}: {own} != {stated}")
    assert not found, "\n".join(found)


async def test_the_files_of_llama_are_the_size_that_the_catalogue_has(hub: ModelHub) -> None:
    assert sum(
        size for name, size in LLAMA_FILES.items() if name.startswith("model-")
    ) / GIB == pytest.approx(14.96, abs=0.01)
