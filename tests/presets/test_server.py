"""The routes, in this process, with the real engine on the demo weights."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."


def chat(client: TestClient, **body: Any) -> Any:
    return client.post("/chat", json=body)


def completion(client: TestClient, **body: Any) -> Any:
    return client.post(
        "/v1/chat/completions", json={"messages": [{"role": "user", "content": FRANCE}], **body}
    )


# --- information


def test_information_routes(client: TestClient) -> None:
    assert client.get("/").json() == {"message": "Server is running", "model": "tiny-phi-3"}
    assert client.get("/healthz").json() == {"status": "Healthy"}
    assert client.get("/health").json() == {"status": "Healthy"}
    assert [client.head(path).status_code for path in ("/healthz", "/health")] == [200, 200]
    assert client.get("/version").json()["engine"] == "mistralrs"


def test_models_lists_the_served_name_first(client: TestClient) -> None:
    models = client.get("/v1/models").json()
    assert models["object"] == "list"
    assert [model["id"] for model in models["data"]] == ["tiny-phi-3", "base", "pirate"]
    assert [model.get("parent") for model in models["data"]] == [None, "tiny-phi-3", "tiny-phi-3"]
    assert client.get("/v1/models/base").json()["id"] == "base"
    assert client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"


def test_metrics_count_requests_tokens_and_latency(client: TestClient) -> None:
    def value(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), 0.0)

    counter = 'kaito_http_requests_total{code="200",method="POST",path="/chat"}'
    before = value(counter), value("kaito_prompt_tokens_total"), value("kaito_generation_tokens_total")
    assert chat(client, prompt=FRANCE).status_code == 200
    after = value(counter), value("kaito_prompt_tokens_total"), value("kaito_generation_tokens_total")
    assert after[0] == before[0] + 1
    assert after[1] > before[1]
    assert after[2] > before[2]
    assert value("kaito_http_requests_in_flight") == 0.0  # scrapes and probes do not count
    assert value("kaito_time_to_first_token_seconds_count") > 0
    assert value("kaito_model_ready") == 1.0
    assert 'kaito_model_info{engine="mistralrs"' in client.get("/metrics").text


def test_unknown_paths_make_no_new_time_series(client: TestClient) -> None:
    for path in ("/secret-1", "/secret-2"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "POST /chat" in answer.json()["detail"]
    assert "secret" not in client.get("/metrics").text


def test_metrics_json_keeps_the_shape_of_the_old_metrics(client: TestClient) -> None:
    body = client.get("/metrics.json").json()
    assert set(body) == {"gpu_info", "cpu_info"}
    if body["gpu_info"] is None:
        assert set(body["cpu_info"]) == {"load_percentage", "physical_cores", "total_cores", "memory"}
        assert body["cpu_info"]["memory"]["total"].endswith(" GB")


# --- /chat


def test_chat_answers_like_the_seeds_call_it(client: TestClient) -> None:
    answer = chat(client, prompt=FRANCE)
    assert (answer.status_code, answer.json()) == (200, {"Result": PARIS})


def test_chat_takes_every_field_of_the_old_servers(client: TestClient) -> None:
    old = {
        "prompt": FRANCE,
        "return_full_text": True,
        "clean_up_tokenization_spaces": False,
        "prefix": None,
        "handle_long_generation": None,
        "generate_kwargs": {
            "max_length": 200, "min_length": 0, "do_sample": False, "early_stopping": False, "num_beams": 1,
            "temperature": 1.0, "top_k": 10, "top_p": 1, "typical_p": 1, "repetition_penalty": 1,
            "pad_token_id": 0, "eos_token_id": 4,
        },
    }  # fmt: skip
    assert chat(client, **old).json() == {"Result": FRANCE + PARIS}


def test_chat_takes_a_conversation(client: TestClient) -> None:
    messages = [
        {"role": "user", "content": FRANCE},
        {"role": "assistant", "content": PARIS},
        {"role": "user", "content": "And Spain?"},
    ]
    assert chat(client, messages=messages).json() == {"Result": "The capital of Spain is Madrid."}


def test_chat_options_change_the_text(client: TestClient) -> None:
    assert chat(client, prompt="France?", prefix="What is the capital of ").json()["Result"] == PARIS
    assert chat(client, prompt=FRANCE, generate_kwargs={"max_new_tokens": 2}).json() == {
        "Result": "The capital"
    }
    stopped = chat(client, prompt=FRANCE, generate_kwargs={"stop_strings": " is"})
    assert stopped.json() == {"Result": "The capital of France"}
    greedy = chat(client, prompt=FRANCE, generate_kwargs={"do_sample": False, "temperature": 2.0})
    assert greedy.json() == {"Result": PARIS}


def test_max_length_counts_the_prompt(client: TestClient) -> None:
    usage = completion(client).json()["usage"]
    room = {"max_length": usage["prompt_tokens"] + 2}
    assert chat(client, prompt=FRANCE, generate_kwargs=room).json() == {"Result": "The capital"}
    refused = chat(client, prompt=FRANCE, generate_kwargs={"max_length": 3})
    assert refused.status_code == 400
    assert f"the prompt alone has {usage['prompt_tokens']} tokens" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({}, 400, "Text generation parameter prompt required"),
        ({"prompt": ""}, 400, "Text generation parameter prompt required"),
        ({"prompt": None}, 400, "Text generation parameter prompt required"),
        ({"messages": []}, 400, "Conversational parameter messages required"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, 400, "not both"),
        ({"prompt": "a", "handle_long_generation": "hole"}, 400, "handle_long_generation is not supported"),
        (
            {"prompt": "a", "generate_kwargs": {"num_beams": 4}},
            400,
            "generate_kwargs.num_beams=4 is not supported",
        ),
        ({"prompt": 5}, 422, "prompt: input should be a valid string, not 5."),
        ({"prompt": ["a"]}, 422, "prompt: input should be a valid string."),
        ({"promt": "a"}, 422, "promt: there is no such field."),
        ({"messages": [{"role": "robot", "content": "b"}]}, 422, "messages.0.role: input should be 'system'"),
        (
            {"prompt": "a", "return_full_text": "yes"},
            422,
            "return_full_text: input should be a valid boolean",
        ),
        ({"prompt": "a", "generate_kwargs": {"max_new_tokens": 0}}, 422, "generate_kwargs.max_new_tokens"),
        ({"prompt": "a", "generate_kwargs": {"temperature": "hot"}}, 422, "generate_kwargs.temperature"),
    ],
)
def test_chat_refuses_with_a_sentence(
    client: TestClient, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = chat(client, **body)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
def test_bodies_that_are_not_json(client: TestClient, path: str) -> None:
    def sentence(answer: Any) -> str:
        body = answer.json()
        return str(body.get("detail") or body["error"]["message"])

    broken = client.post(path, content='{"prompt": ', headers={"Content-Type": "application/json"})
    assert broken.status_code == 400
    assert "not JSON" in sentence(broken)
    form = client.post(
        path, content="prompt=hello", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert form.status_code == 415
    assert "Content-Type: application/json" in sentence(form)
    huge = client.post(path, content=b" " * (17 * 1024 * 1024), headers={"Content-Type": "application/json"})
    assert huge.status_code == 413
    assert "larger than 16 MiB" in sentence(huge)
    assert client.get(path).status_code == 405


def test_an_over_long_prompt_is_refused_with_its_length(client: TestClient) -> None:
    refused = chat(client, prompt="hello " * 3000)
    assert refused.status_code == 400
    detail = refused.json()["detail"]
    length = int(detail.split(" tokens long")[0].rsplit(" ", 1)[1])
    assert length > 3000
    assert "fewer than 1024 tokens" in detail
    error = completion(client, messages=[{"role": "user", "content": "hello " * 3000}], stream=True)
    assert (error.status_code, error.json()["error"]["code"]) == (400, "context_length_exceeded")


# --- /v1/chat/completions


def test_completion_has_openais_shape(client: TestClient) -> None:
    body = completion(client, model="tiny-phi-3", max_completion_tokens=50).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "tiny-phi-3"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": PARIS, "refusal": None}
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_length_finish_reason(client: TestClient) -> None:
    body = completion(client, max_tokens=3).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


def test_content_parts_and_the_developer_role(client: TestClient) -> None:
    messages = [
        {"role": "developer", "content": "You are a helpful assistant."},
        {"role": "user", "content": [{"type": "text", "text": FRANCE}]},
    ]
    assert completion(client, messages=messages).json()["choices"][0]["message"]["content"] == PARIS


def test_streamed_events(client: TestClient) -> None:
    answer = completion(client, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert text == PARIS
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == completion(client).json()["usage"]


def test_stop_texts_end_the_answer(client: TestClient) -> None:
    body = completion(client, stop=[" is", "zebra"]).json()
    assert body["choices"][0]["message"]["content"] == "The capital of France"
    assert body["choices"][0]["finish_reason"] == "stop"


def test_sampling_draws_other_answers(client: TestClient) -> None:
    assert completion(client, temperature=0, seed=7).json()["choices"][0]["message"]["content"] == PARIS
    vague = [{"role": "user", "content": "capital Guinistan Norvania Franca"}]

    def draw(**settings: Any) -> str:
        body = completion(client, messages=vague, max_tokens=40, **settings).json()
        return str(body["choices"][0]["message"]["content"])

    assert len({draw(temperature=2.0) for _ in range(12)}) > 1
    assert len({draw() for _ in range(3)}) == 1
    assert {draw(temperature=2.0, top_p=0.001) for _ in range(10)} == {draw()}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "gpt-4"}, 404, "model_not_found"),
        ({"n": 2}, 400, "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter"),
        ({"logprobs": True}, 400, "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, 400, "unsupported_parameter"),
        ({"seed": 1, "temperature": 0.5}, 400, "unsupported_parameter"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, None),
        ({"messages": []}, 422, "invalid_value"),
        ({"temperature": 3}, 422, "invalid_value"),
        ({"max_tokens": 0}, 422, "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, None),
    ],
)
def test_completion_refuses_in_openais_shape(
    client: TestClient, body: dict[str, Any], status: int, code: str | None
) -> None:
    answer = completion(client, **body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["type"] == "invalid_request_error"
    assert error["message"].endswith((".", "'."))


def test_settings_that_change_nothing_are_accepted(client: TestClient) -> None:
    body = completion(client, n=1, tools=[], user="me", response_format={"type": "text"}, metadata={"a": "b"})
    assert body.status_code == 200
