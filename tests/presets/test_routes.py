"""Every route that servers of KAITO have had, each with what its clients rely on; and requests of the wrong types."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from kaito_presets.engines import PromptTooLong
from kaito_presets.server import chat, openai, responses
from kaito_presets.server.app import create_app
from presets.test_engine_interface import ScriptedEngine, service_of

TURN = [{"role": "user", "content": "x"}]
GENERATE_KWARGS = {
    "max_length": 200, "min_length": 0, "do_sample": True, "early_stopping": False, "num_beams": 1, "temperature": 1.0,
    "top_k": 10, "top_p": 1, "typical_p": 1, "repetition_penalty": 1, "pad_token_id": 0, "eos_token_id": 4,
}  # fmt: skip
#: (method, path, body, what must be in the answer: text of a JSON value, "…" for any).
ROUTES: list[tuple[str, str, Any, str]] = [
    ("GET", "/", None, '"message":"Server is running"'),
    ("GET", "/healthz", None, '{"status":"Healthy"}'),
    ("GET", "/health", None, '{"status":"Healthy"}'),
    ("GET", "/version", None, '"engine":"scripted"'),
    ("GET", "/metrics", None, "# TYPE kaito_http_requests_total counter"),
    ("GET", "/metrics.json", None, '"gpu_info":'),
    ("GET", "/v1/models", None, '"id":"m","object":"model"'),
    ("GET", "/v1/models/m", None, '"owned_by":"kaito"'),
    ("POST", "/chat", {"prompt": "x"}, '{"Result":"ab"}'),
    ("POST", "/chat", {"messages": TURN}, '{"Result":"ab"}'),
    ("POST", "/chat", {"prompt": "x", "return_full_text": True}, '{"Result":"xab"}'),
    ("POST", "/chat", {"prompt": "x", "return_full_text": False}, '{"Result":"ab"}'),
    ("POST", "/chat", {"prompt": "x", "clean_up_tokenization_spaces": True}, '{"Result":"ab"}'),
    ("POST", "/chat", {"prompt": "x", "prefix": "p", "handle_long_generation": None}, '{"Result":"ab"}'),
    ("POST", "/chat", {"prompt": "x", "generate_kwargs": None}, '{"Result":"ab"}'),
    ("POST", "/chat", {"prompt": "x", "generate_kwargs": GENERATE_KWARGS}, '{"Result":"ab"}'),
    ("POST", "/v1/chat/completions", {"model": "m", "messages": TURN}, '"role":"assistant","content":"ab"'),
    (
        "POST", "/v1/chat/completions", {"messages": TURN, "max_tokens": 5, "temperature": 0.5, "stream": True},
        "data: [DONE]",
    ),
    ("POST", "/v1/completions", {"prompt": "x"}, '"text":"ab"'),
    ("POST", "/v1/completions", {"prompt": "x", "stream": True}, "data: [DONE]"),
    ("POST", "/v1/responses", {"model": "m", "input": "x", "max_output_tokens": 5}, '"type":"output_text","text":"ab"'),
    ("POST", "/v1/responses", {"input": TURN}, '"status":"completed"'),
    ("POST", "/v1/responses", {"input": "x", "stream": True}, "event: response.completed"),
]  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Any:
    with TestClient(create_app(service_of(ScriptedEngine(["a", "b"])), lambda _: None)) as client:
        while client.get("/healthz").status_code != 200:
            pass
        yield client


@pytest.mark.parametrize(("method", "path", "body", "told"), ROUTES)
def test_each_route_answers_as_its_clients_know_it(
    client: TestClient, method: str, path: str, body: Any, told: str
) -> None:
    answer = client.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    assert told in answer.text
    streamed = bool(body and body.get("stream"))
    kind = "text/event-stream" if streamed else "text/plain" if path == "/metrics" else "application/json"
    assert answer.headers["content-type"].startswith(kind)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_the_table_has_every_route(client: TestClient) -> None:
    described = {
        (method.upper(), path)
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert described == {
        (method, path.replace("/v1/models/m", "/v1/models/{name}")) for method, path, *_ in ROUTES
    }


def test_a_request_keeps_its_id_also_when_it_is_refused(client: TestClient) -> None:
    for path in ("/chat", "/v1/chat/completions", "/nowhere"):
        answer = client.post(path, json={}, headers={"X-Request-Id": "mine-1"})
        assert answer.status_code >= 400
        assert answer.headers.get_list("x-request-id") == ["mine-1"]


def test_a_responses_metadata_is_told_again(client: TestClient) -> None:
    for metadata in ({"run": "7"}, {}):
        answer = client.post("/v1/responses", json={"input": "x", "metadata": metadata})
        assert answer.json()["metadata"] == metadata


# --- wrong types

BODIES: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "/chat": (chat.ChatRequest, {"prompt": "x"}),
    "/v1/chat/completions": (openai.ChatCompletionRequest, {"messages": TURN}),
    "/v1/completions": (openai.TextCompletionRequest, {"prompt": "x"}),
    "/v1/responses": (responses.ResponseRequest, {"input": "x"}),
}
#: Values that no field of these bodies takes. Surrogates and depths are what JSON can say and text can't.
STRANGE: dict[str, str] = {
    "object": '{"a":{"b":1}}', "lists": "[[[]]]", "surrogate": '"\\ud800"', "surrogates": '["\\udfff"]',
    "infinite": "1e999", "digits": "9" * 5000,
}  # fmt: skip
FIELDS = [
    (path, field)
    for path, (model, _) in BODIES.items()
    for field in model.model_fields
    # Names and ids are only looked up or told; options may have more members than are known here.
    if field not in {"model", "handle_long_generation", "stream_options"}
] + [("/chat", f"generate_kwargs.{field}") for field in chat.GenerateKwargs.model_fields]


@pytest.mark.parametrize(("path", "field"), FIELDS)
def test_a_value_that_no_field_takes_is_refused_with_the_fields_path(
    client: TestClient, path: str, field: str
) -> None:
    for strange in STRANGE.values():
        body = {key: json.dumps(value) for key, value in BODIES[path][1].items()}
        outer, _, inner = field.partition(".")
        body[outer] = f'{{"{inner}":{strange}}}' if inner else strange
        text = "{" + ",".join(f'"{key}":{value}' for key, value in body.items()) + "}"
        answer = client.post(path, content=text, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, (strange[:20], answer.text)
        if strange != STRANGE["digits"]:  # more than Python reads: then it is the body that is refused
            told = answer.json()
            sentence = told["detail"] if path == "/chat" else told["error"]["message"]
            assert field in sentence, (strange, sentence)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_tokens", ["5", True, 1.5, 0, -1]),
        ("temperature", ["1", True, -0.1, 2.1]),
        ("top_p", ["1", True, 0, 1.1]),
        ("top_k", ["1", True, 1.5, -1, 2**31]),
        ("presence_penalty", ["1", True, 3]),
        ("frequency_penalty", ["1", True, -3]),
        ("seed", ["1", True, 1.5]),
        ("stop", [5, [5], [""]]),
        ("stream", ["true", 1]),
        ("stream_options", [True, {"include_usage": "yes"}]),
    ],
)
def test_a_value_of_nearly_the_right_type_is_refused_too(
    client: TestClient, field: str, values: list[Any]
) -> None:
    for value in values:
        for path in ("/v1/chat/completions", "/v1/completions"):
            answer = client.post(path, json={**BODIES[path][1], field: value})
            assert 400 <= answer.status_code < 500, (value, answer.text)
            error = answer.json()["error"]
            assert (error["type"], error["param"].split(".")[0]) == ("invalid_request_error", field), value


@pytest.mark.parametrize(
    ("path", "field", "value", "param", "sentence"),
    [
        ("/v1/completions", "prompt", 5, "prompt", "prompt: input should be a valid string, not 5."),
        ("/v1/completions", "prompt", ["a", 5], "prompt.1", "prompt.1: input should be a valid string, not 5."),
        ("/v1/completions", "prompt", [], "prompt", "prompt: give from 1 to 16 texts, not 0."),
        ("/v1/completions", "prompt", ["a"] * 17, "prompt", "prompt: give from 1 to 16 texts, not 17."),
        ("/v1/responses", "input", [], "input", "input: give at least one message."),
        (
            "/v1/chat/completions", "messages", [{"role": "assistant", "content": None}], "messages.0.content",
            "messages.0.content: input should be a valid string.",
        ),
        (
            "/v1/chat/completions", "messages", [{"role": "user", "content": [{"type": 5}]}],
            "messages.0.content.0.type", "messages.0.content.0.type: input should be a valid string, not 5.",
        ),
        (
            "/v1/chat/completions", "messages", [{"role": "user", "content": "a"}] * 10_001, "messages",
            "messages: list should have at most 10000 items after validation, not 10001.",
        ),
    ],
)  # fmt: skip
def test_a_value_of_no_type_that_a_field_has_is_told_once(
    client: TestClient, path: str, field: str, value: Any, param: str, sentence: str
) -> None:
    answer = client.post(path, json={**BODIES[path][1], field: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["message"], error["param"]) == (422, sentence, param)


@pytest.mark.parametrize(
    ("field", "value", "harmless"),
    [
        ("min_p", 0.1, 0), ("min_tokens", 5, 0), ("ignore_eos", True, False), ("stop_token_ids", [5], []),
        ("structured_outputs", {"choice": ["a"]}, None), ("guided_json", {}, None), ("use_beam_search", True, False),
        ("chat_template_kwargs", {"enable_thinking": False}, {}), ("reasoning_effort", "low", "none"),
        ("skip_special_tokens", False, True),
    ],
)  # fmt: skip
def test_settings_that_other_servers_have_are_refused_by_name(
    client: TestClient, field: str, value: Any, harmless: Any
) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        error = client.post(path, json={**BODIES[path][1], field: value}).json()["error"]
        assert (error["message"], error["param"]) == (f"{field} is not supported by this server.", field)
        assert client.post(path, json={**BODIES[path][1], field: harmless}).status_code == 200


@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize(
    "content", [b"[" * 200_000, b'{"\\ud800": 1}', b'{"a": "\xff"}', b"", b"null", b"5", b'{"prompt": nul'],
    ids=["deep", "half a name", "no UTF-8", "empty", "null", "number", "cut"],
)  # fmt: skip
def test_a_body_that_is_no_request_is_refused(client: TestClient, path: str, content: bytes) -> None:
    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 50}]}, "messages"),
        ("/v1/completions", {"prompt": "x" * 50}, "prompt"),
        ("/v1/responses", {"input": "x" * 50}, "input"),
    ],
)
def test_a_prompt_that_is_too_long_is_named_by_its_field(path: str, body: Any, param: str) -> None:
    with TestClient(
        create_app(service_of(ScriptedEngine(error=PromptTooLong(50, 20))), lambda _: None)
    ) as client:
        while client.get("/healthz").status_code != 200:
            pass
        error = client.post(path, json=body).json()["error"]
    assert (error["param"], error["code"]) == (param, "context_length_exceeded")
