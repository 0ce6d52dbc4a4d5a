"""`kaito-serve --engine=transformers` as a process, asked by OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx
import openai
import pytest

from presets.support import ServerProcess, get

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(server: ServerProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=24)  # type: ignore
    return answer.choices[0].message.content or ""


def test_the_official_client_asks_every_name(client: openai.OpenAI) -> None:
    with client:
        assert [model.id for model in client.models.list()] == ["tiny", "base", "one", "two"]
        answers = {name: ask(client, name) for name in ("tiny", "base", "one", "two")}
        assert len(set(answers.values())) == 4
        with pytest.raises(openai.NotFoundError, match="served here: tiny, base, one, two"):
            ask(client, "gpt-4")


def test_the_official_client_streams_the_same_words(client: openai.OpenAI) -> None:
    with client:
        chunks = list(
            client.chat.completions.create(  # type: ignore
                model="one",
                messages=QUESTION,
                max_tokens=24,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == ask(client, "one")
        assert chunks[-1].usage.completion_tokens <= 24


def test_the_official_client_continues_text_and_uses_responses(client: openai.OpenAI) -> None:
    with client:
        whole = client.completions.create(model="base", prompt="what is", max_tokens=20)
        pieces = client.completions.create(model="base", prompt="what is", max_tokens=20, stream=True)
        assert "".join(chunk.choices[0].text for chunk in pieces) == whole.choices[0].text
        answer = client.responses.create(model="two", input=QUESTION[0]["content"], max_output_tokens=24)
        assert answer.output_text == ask(client, "two")
        events = client.responses.create(
            model="two", input=QUESTION[0]["content"], max_output_tokens=24, stream=True
        )
        told = list(events)
        assert told[-1].response.output_text == answer.output_text


def test_information(server: ServerProcess, tiny: Path) -> None:
    assert json.loads(get(f"{server.url}/healthz")[1]) == {"status": "Healthy"}
    version = json.loads(get(f"{server.url}/version")[1])
    assert version["engine"] == "transformers"
    assert version["engine_version"].startswith("5.")
    metrics = get(f"{server.url}/metrics")[1].decode()
    assert 'kaito_model_info{engine="transformers"' in metrics
    assert "kaito_model_context_tokens 512.0" in metrics
    # 64 floats for each of 2 layers, keys and values; and the weights as they lie on disk.
    assert 'kaito_model_cache_token_bytes{dtype="float32"} 512.0' in metrics
    size = float(re.search(r'kaito_model_memory_bytes{part="weights"} (\S+)', metrics)[1])  # type: ignore[index]
    assert size == pytest.approx((tiny / "model.safetensors").stat().st_size, rel=0.02)
    assert "Computing in float32 on the CPU" in server.log


async def test_too_many_requests_get_429_and_the_others_their_answer(server: ServerProcess) -> None:
    body = {"messages": QUESTION, "max_tokens": 200}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        answers = await asyncio.gather(*(http.post("/v1/chat/completions", json=body) for _ in range(60)))
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 429}
        texts = {answer.json()["choices"][0]["message"]["content"] for answer in answers if answer.is_success}
        assert len(texts) == 1
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 200


async def test_clients_that_leave_stop_what_was_computed_for_them(server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        for _ in range(30):  # more than may run and wait together
            body = {"messages": QUESTION, "stream": True, "temperature": 1.0}
            async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                assert answer.status_code == 200
                async for _ in answer.aiter_lines():
                    break
        deadline = asyncio.get_running_loop().time() + 20
        while "kaito_http_requests_in_flight 0.0" not in (await http.get("/metrics")).text:
            assert asyncio.get_running_loop().time() < deadline


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"messages": 5}', json.dumps({"prompt": "hello " * 100_000}).encode(), b"\xff\xfe"],
)
def test_bad_requests_leave_the_server_as_it_was(server: ServerProcess, body: bytes) -> None:
    for path in ("/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses"):
        answer = httpx.post(
            f"{server.url}{path}", content=body, headers={"Content-Type": "application/json"}, timeout=60
        )
        assert 400 <= answer.status_code < 500
    assert httpx.post(f"{server.url}/chat", json={"prompt": "hi"}, timeout=60).status_code == 200
