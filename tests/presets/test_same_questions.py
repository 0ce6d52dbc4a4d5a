"""Every engine that is installed answers the same questions in the same way: names, adapters, APIs.

`make test` asks mistralrs; `make test-models` asks all.
"""

from __future__ import annotations

import importlib.util
import json
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
from presets.support import copy_adapter

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
ARR = "Arr! Paris, matey."
#: FRANCE as the demo model's chat template words it.
WORDED = f"<|user|>\n{FRANCE}<|end|>\n<|assistant|>\n"
PACKAGES = {"mistralrs": "mistralrs", "transformers": "torch"}
INSTALLED = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]


@pytest.fixture(scope="module", params=INSTALLED)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The demo weights with three adapters: whole is the pirate, the halves are the same at half its strength."""
    adapters = tmp_path_factory.mktemp("adapters")
    copy_adapter(adapters / "whole")
    copy_adapter(adapters / "half", lora_alpha=32)
    copy_adapter(adapters / "none")
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
    assert answer["choices"] == [{"index": 0, "text": PARIS, "logprobs": None, "finish_reason": "stop"}]
    assert answer["usage"] == ask(client, "base")["usage"]
    cut = client.post("/v1/completions", json={**body, "max_tokens": 2}).json()["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == ("The capital", "length")
    pirate = client.post("/v1/completions", json={**body, "model": "half"}).json()
    assert pirate["choices"][0]["text"] == ARR


def test_several_texts_are_continued_side_by_side(client: TestClient) -> None:
    spain = WORDED.replace("France", "Spain")
    body = {"model": "base", "prompt": [WORDED, spain], "max_tokens": 40}
    answer = client.post("/v1/completions", json=body).json()
    texts = {choice["index"]: choice["text"] for choice in answer["choices"]}
    assert texts == {0: PARIS, 1: "The capital of Spain is Madrid."}
    one = client.post("/v1/completions", json={**body, "prompt": WORDED}).json()["usage"]
    two = client.post("/v1/completions", json={**body, "prompt": spain}).json()["usage"]
    assert answer["usage"] == {key: one[key] + two[key] for key in one}


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
    assert events[-1]["usage"] == ask(client, "base")["usage"]


def test_responses_have_openais_shape(client: TestClient) -> None:
    answer = client.post("/v1/responses", json={"model": "base", "input": FRANCE}).json()
    assert (answer["object"], answer["status"], answer["model"]) == ("response", "completed", "base")
    (item,) = answer["output"]
    assert (item["type"], item["role"], item["content"][0]["text"]) == ("message", "assistant", PARIS)
    usage = ask(client, "base")["usage"]
    assert answer["usage"]["input_tokens"] == usage["prompt_tokens"]
    assert answer["usage"]["total_tokens"] == usage["total_tokens"]
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
    client: TestClient, path: str, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert sentence in error["message"]
    assert error["type"] == "invalid_request_error"


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


def test_a_whole_directory_serves_without_adapters(client: TestClient, tmp_path: Path) -> None:
    """The engines agree with themselves: the model without adapters is what `base` is beside them."""
    engine = client.get("/version").json()["engine"]
    settings = Settings("tiny-phi-3", None, demo.weights_path(), tmp_path)
    service = Service(settings, make_engine(engine, settings.weights, max_model_len=64, dtype="float32"))
    with TestClient(create_app(service, lambda _: None)) as plain:
        while plain.get("/healthz").status_code != 200:
            time.sleep(0.01)
        assert [model["id"] for model in plain.get("/v1/models").json()["data"]] == ["tiny-phi-3"]
        assert content(ask(plain, None)) == content(ask(client, "base"))
        long = plain.post("/chat", json={"prompt": "hello " * 100})
        assert (long.status_code, "fewer than 64 tokens" in long.json()["detail"]) == (400, True)
