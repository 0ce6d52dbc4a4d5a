"""Every engine that is installed answers the same questions in the same way: names, adapters, APIs.

`make test` asks mistralrs; `make test-models` asks transformers, too, and `make test-vllm` asks vLLM as a server. Its
answers have fields beside those that are compared, and what it refuses it refuses in its own words.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from kaito_presets import demo
from kaito_presets.adapters import AdapterChoice
from kaito_presets.engines import make_engine
from kaito_presets.server.app import create_app
from kaito_presets.server.service import Service
from kaito_presets.server.settings import Settings
from presets.support import ServerProcess, container_root, copy_adapter

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
ARR = "Arr! Paris, matey."
#: FRANCE as the demo model's chat template words it.
WORDED = f"<|user|>\n{FRANCE}<|end|>\n<|assistant|>\n"
PACKAGES = {"mistralrs": "mistralrs", "transformers": "torch", "vllm": "vllm"}
INSTALLED = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
#: What makes vLLM small enough for a test, on a CPU.
SMALL_VLLM = """
vllm: {max-model-len: 256, max-num-seqs: 4, dtype: float32, enforce-eager: true, gpu-memory-utilization: 0.1}
"""


@pytest.fixture(scope="module", params=INSTALLED)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The demo weights with three adapters: whole is the pirate, the halves are the same at half its strength."""
    adapters = tmp_path_factory.mktemp("adapters")
    copy_adapter(adapters / "whole")
    copy_adapter(adapters / "half", lora_alpha=32)
    copy_adapter(adapters / "none")
    if request.param == "vllm":
        yield from vllm_client(adapters, tmp_path_factory.mktemp("vllm"))
        return
    choices = (AdapterChoice("whole", 0.25), AdapterChoice("half", 0.5), AdapterChoice("none", 0.0))
    settings = Settings("tiny-phi-3", None, demo.weights_path(), adapters, choices, max_num_seqs=4)
    engine = make_engine(request.param, settings.weights, max_model_len=None, dtype="float32", max_num_seqs=4)
    failures: list[Exception] = []
    with TestClient(create_app(Service(settings, engine), failures.append)) as client:
        deadline = time.monotonic() + 120
        while client.get("/healthz").status_code != 200:
            assert not failures, failures
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert client.get("/version").json()["engine"] == request.param
        yield client


def vllm_client(
    adapters: Path, directory: Path, preset: str = "tiny-phi-3", weights: Path | None = None
) -> Iterator[Any]:
    """The same model and adapters (those of `adapters` that are there), served by vLLM itself."""
    import httpx

    names = [name for name in ("whole", "half", "none") if (adapters / name).is_dir()]
    root = container_root(directory, adapters={name: adapters / name for name in names})
    if weights is not None:
        (root / "workspace" / "weights").unlink()
        (root / "workspace" / "weights").symlink_to(weights)
    (root / "mnt").mkdir(exist_ok=True)
    (root / "mnt" / "config.yaml").write_text(SMALL_VLLM)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    env = {
        "KAITO_ENGINE": "vllm",
        "KAITO_PORT": str(port),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
    }
    wanted = {"whole": 0.25, "half": 0.5, "none": 0}
    strengths = [f"--adapter={name}={wanted[name]}" for name in names]
    process = ServerProcess(root, f"--preset={preset}", "--config=/mnt/config.yaml", *strengths, env=env)
    try:
        process.ready()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        assert process.stop() == 0, process.log


@pytest.fixture
def ours(client: Any) -> Any:
    """A client of an engine whose routes are this project's own."""
    if client.get("/version").json()["engine"] == "vllm":
        pytest.skip("these routes are vLLM's own, with its own words and more that it can do")
    return client


def usage(answer: Any) -> dict[str, int]:
    return {key: answer["usage"][key] for key in USAGE}


def plain(choice: Any) -> tuple[int, str, str]:
    return choice["index"], choice["text"], choice["finish_reason"]


def ask(client: TestClient, model: str | None, **body: Any) -> Any:
    messages = [{"role": "user", "content": FRANCE}]
    answer = client.post("/v1/chat/completions", json={"model": model, "messages": messages, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def content(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


def test_every_name_is_listed_and_means_its_adapters(client: TestClient) -> None:
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert names == ["tiny-phi-3", "base", "whole", "half", "none"]
    # The strengths: 0.25 of the pirate, and 0.5 of twice the pirate, which is 1; the sum says "Arr!", too.
    answers = {name: content(ask(client, name)) for name in names}
    assert answers == {"tiny-phi-3": ARR, "base": PARIS, "whole": PARIS, "half": ARR, "none": PARIS}
    assert content(ask(client, None)) == ARR
    assert client.post("/chat", json={"prompt": FRANCE}).json() == {"Result": ARR}
    assert client.post("/v1/completions", json={"model": "other", "prompt": "x"}).status_code == 404


def test_text_is_continued_as_it_is(client: TestClient) -> None:
    body = {"model": "base", "prompt": WORDED, "max_tokens": 40}
    answer = client.post("/v1/completions", json=body).json()
    assert answer["object"] == "text_completion"
    assert [plain(choice) for choice in answer["choices"]] == [(0, PARIS, "stop")]
    assert usage(answer) == usage(ask(client, "base"))
    cut = client.post("/v1/completions", json={**body, "max_tokens": 2}).json()["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == ("The capital", "length")
    middle = client.post(
        "/v1/completions", json={**body, "prompt": WORDED + "The capital of", "max_tokens": 1}
    ).json()
    assert middle["choices"][0]["text"].startswith(" F")  # with its space
    pirate = client.post("/v1/completions", json={**body, "model": "half"}).json()
    assert pirate["choices"][0]["text"] == ARR


def test_several_texts_are_continued_side_by_side(client: TestClient) -> None:
    spain = WORDED.replace("France", "Spain")
    body = {"model": "base", "prompt": [WORDED, spain], "max_tokens": 40}
    answer = client.post("/v1/completions", json=body).json()
    texts = {choice["index"]: choice["text"] for choice in answer["choices"]}
    assert texts == {0: PARIS, 1: "The capital of Spain is Madrid."}
    one = usage(client.post("/v1/completions", json={**body, "prompt": WORDED}).json())
    two = usage(client.post("/v1/completions", json={**body, "prompt": spain}).json())
    assert usage(answer) == {key: one[key] + two[key] for key in USAGE}


def test_text_is_streamed(client: TestClient) -> None:
    body = {"model": "base", "prompt": WORDED, "max_tokens": 40, "stream": True}
    answer = client.post("/v1/completions", json={**body, "stream_options": {"include_usage": True}})
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert {event["object"] for event in events} == {"text_completion"}
    choices = [choice for event in events for choice in event["choices"]]
    assert "".join(choice["text"] for choice in choices) == PARIS
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert len(choices) > 1
    assert usage(events[-1]) == usage(ask(client, "base"))


def test_responses_have_openais_shape(client: TestClient) -> None:
    answer = client.post("/v1/responses", json={"model": "base", "input": FRANCE}).json()
    assert (answer["object"], answer["status"], answer["model"]) == ("response", "completed", "base")
    (item,) = answer["output"]
    assert (item["type"], item["role"], item["content"][0]["text"]) == ("message", "assistant", PARIS)
    counted = usage(ask(client, "base"))
    assert answer["usage"]["input_tokens"] == counted["prompt_tokens"]
    assert answer["usage"]["total_tokens"] == counted["total_tokens"]
    parts = [{"role": "user", "content": [{"type": "input_text", "text": FRANCE}]}]
    again = client.post("/v1/responses", json={"input": parts, "max_output_tokens": 2}).json()
    assert (again["status"], again["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert ARR.startswith(again["output"][0]["content"][0]["text"])


def test_responses_are_streamed(client: TestClient) -> None:
    answer = client.post("/v1/responses", json={"model": "base", "input": FRANCE, "stream": True})
    events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert "".join(event["delta"] for event in events if "delta" in event) == PARIS
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == PARIS


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/v1/completions", {}, 422, "prompt: field required."),
        ("/v1/completions", {"prompt": []}, 422, "prompt"),
        ("/v1/completions", {"prompt": 5}, 422, "prompt"),
        ("/v1/completions", {"prompt": "a", "echo": True}, 400, "echo is not supported"),
        ("/v1/completions", {"prompt": ["a", "b"], "stream": True}, 400, "give one text, not several"),
        ("/v1/completions", {"prompt": "a " * 3000}, 400, "tokens long"),
        ("/v1/responses", {}, 422, "input: field required."),
        ("/v1/responses", {"input": []}, 422, "input"),
        (
            "/v1/responses",
            {"input": "a", "previous_response_id": "resp_1"},
            400,
            "previous_response_id is not",
        ),
        ("/v1/responses", {"input": "a", "tools": [{"type": "web_search"}]}, 400, "tools is not supported"),
        (
            "/v1/responses",
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            400,
            "input.0.content: this model reads text only, not input_image.",
        ),
        ("/v1/responses", {"input": "a " * 3000}, 400, "tokens long"),
        ("/v1/chat/completions", {"messages": [{"role": "raw", "content": "a"}]}, 422, "messages.0.role"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(
    ours: TestClient, path: str, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = ours.post(path, json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert sentence in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_prompt_of_megabytes_is_refused_by_its_beginning(client: TestClient) -> None:
    """Counted whole, this one takes half a minute."""
    for body in ({"prompt": "a " * 5_000_000}, {"messages": [{"role": "user", "content": "a" * 10_000_000}]}):
        answer = client.post("/chat", json=body)
        assert answer.status_code == 400
        assert "The prompt is more than" in answer.json()["detail"]


def test_settings_of_a_request_do_what_they_say(client: TestClient) -> None:
    assert content(ask(client, "base", stop=[" is", "zebra"])) == "The capital of France"
    assert content(ask(client, "base", temperature=2.0, top_p=0.001)) == PARIS
    assert content(ask(client, "base", temperature=2.0, top_k=1)) == PARIS
    vague = [{"role": "user", "content": "capital Guinistan Norvania Franca"}]
    drawn = {content(ask(client, "base", messages=vague, max_tokens=40, temperature=2.0)) for _ in range(12)}
    assert len(drawn) > 1
    once = content(ask(client, "base", messages=vague, max_tokens=40))
    for penalty in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        other = content(ask(client, "base", messages=vague, max_tokens=40, **penalty))
        assert len(set(other.split())) >= len(set(once.split()))


def test_a_seed_is_kept_or_refused(client: TestClient) -> None:
    vague = [{"role": "user", "content": "capital Guinistan Norvania Franca"}]
    body = {"messages": vague, "max_tokens": 40, "temperature": 2.0}
    if client.get("/version").json()["engine"] == "mistralrs":
        refused = client.post("/v1/chat/completions", json={**body, "seed": 1})
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", "seed")
    else:
        assert len({content(ask(client, "base", **{**body, "seed": 1})) for _ in range(4)}) == 1
        assert len({content(ask(client, "base", **{**body, "seed": seed})) for seed in range(8)}) > 1
    assert content(ask(client, "base", seed=7)) == PARIS


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {}),
        ("/v1/completions", {"prompt": []}),
        ("/v1/completions", {"prompt": {"a": 1}}),
        ("/v1/completions", {"prompt": "a " * 3000}),
        ("/v1/chat/completions", {"messages": "a"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "temperature": "hot"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a " * 3000}]}),
        ("/v1/responses", {}),
        ("/v1/responses", {"input": 5}),
    ],
)
def test_what_no_engine_takes_is_an_error_of_the_client(
    client: TestClient, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["message"]
    assert content(ask(client, "base")) == PARIS


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"prompt": 5}, 422),
        ({"prompt": "hello " * 3000}, 400),
        ({"prompt": "a", "colour": "red"}, 422),
    ],
)
def test_chat_refuses_the_same_everywhere(client: TestClient, body: dict[str, Any], status: int) -> None:
    answer = client.post("/chat", json=body)
    assert (answer.status_code, type(answer.json()["detail"])) == (status, str)


def test_a_whole_directory_serves_without_adapters(ours: TestClient, tmp_path: Path) -> None:
    """The engines agree with themselves: the model without adapters is what `base` is beside them."""
    engine = ours.get("/version").json()["engine"]
    settings = Settings("tiny-phi-3", None, demo.weights_path(), tmp_path)
    service = Service(settings, make_engine(engine, settings.weights, max_model_len=64, dtype="float32"))
    with TestClient(create_app(service, lambda _: None)) as alone:
        while alone.get("/healthz").status_code != 200:
            time.sleep(0.01)
        assert [model["id"] for model in alone.get("/v1/models").json()["data"]] == ["tiny-phi-3"]
        assert content(ask(alone, None)) == content(ask(ours, "base"))
        long = alone.post("/chat", json={"prompt": "hello " * 100})
        assert (long.status_code, "fewer than 64 tokens" in long.json()["detail"]) == (400, True)
