"""The server with an engine of the tests' own: slow loading, failures, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from kaito_presets.engines import BadPrompt, EngineError, Finish, Memory, Message, Piece, Prompt, Sampling
from kaito_presets.engines.template import ChatTemplate
from kaito_presets.server import hardware
from kaito_presets.server.app import create_app
from kaito_presets.server.connections import bounded
from kaito_presets.server.service import Service
from kaito_presets.server.settings import Settings


class ScriptedEngine:
    """Loads when told to; answers with `pieces`, then fails with `error` or waits for ever (or finishes)."""

    name = "scripted"
    version = "1"
    context_length = 100
    memory = Memory(weights=1000, cache=500, cache_token=5, dtype="float16")

    def __init__(
        self, pieces: Sequence[str] = (), *, error: EngineError | None = None, endless: bool = False
    ) -> None:
        self.pieces = pieces
        self.error = error
        self.endless = endless
        self.load_error: Exception | None = None
        self.stopped = asyncio.Event()
        self.running = 0

    def load(self, adapters: Mapping[str, Path]) -> None:
        if self.load_error:
            raise self.load_error

    async def count_tokens(self, prompt: Prompt) -> int:
        return len(prompt)

    async def generate(
        self, prompt: Prompt, sampling: Sampling, adapter: str | None, *, whole: bool = False
    ) -> AsyncGenerator[Piece | Finish]:
        self.running += 1
        try:
            for piece in self.pieces:
                yield Piece(piece)
            if self.error:
                raise self.error
            if self.endless:
                await asyncio.Event().wait()
            yield Finish("stop", 1, len(self.pieces))
        finally:
            self.running -= 1
            self.stopped.set()

    async def close(self) -> None:
        pass


SETTINGS = Settings("m", None, Path("/nowhere"), Path("/nowhere"))


def service_of(engine: ScriptedEngine, settings: Settings = SETTINGS) -> Service:
    return Service(settings, engine)


@asynccontextmanager
async def served(
    engine: ScriptedEngine, settings: Settings = SETTINGS, *, connections: int = 1000
) -> AsyncIterator[httpx.AsyncClient]:
    """A real server on loopback, in this loop."""
    service = service_of(engine, settings)
    config = uvicorn.Config(
        create_app(service, lambda _: None),
        port=0,
        log_config=None,
        access_log=False,
        http=bounded(connections),
        ws="none",
        timeout_keep_alive=120,  # a slow machine must not meet a connection that ends while it is used again
    )
    server = uvicorn.Server(config)
    with config.bind_socket() as listening:
        task = asyncio.create_task(server.serve([listening]))
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=20
            ) as client:
                while not (server.started and service.ready):  # noqa: ASYNC110 - neither of them can be awaited
                    await asyncio.sleep(0.01)
                yield client
        finally:
            server.should_exit = True
            await task


MESSAGES = {"messages": [{"role": "user", "content": "x"}]}


async def test_a_client_that_leaves_a_stream_stops_the_engine() -> None:
    engine = ScriptedEngine(["a"], endless=True)
    async with served(engine) as client:
        async with client.stream("POST", "/v1/chat/completions", json={**MESSAGES, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                if '"a"' in line:
                    break
            assert engine.running == 1
        await asyncio.wait_for(engine.stopped.wait(), 20)
        assert engine.running == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", {"prompt": "x"}),
        ("/v1/chat/completions", MESSAGES),
        ("/v1/completions", {"prompt": ["x"]}),
        ("/v1/responses", {"input": "x"}),
    ],
)
async def test_a_client_that_does_not_wait_stops_the_engine(path: str, body: dict[str, object]) -> None:
    engine = ScriptedEngine(["a"], endless=True)
    async with served(engine) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(path, json=body, timeout=0.3)
        await asyncio.wait_for(engine.stopped.wait(), 20)
        assert engine.running == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_its_answer_is_no_error_of_the_server(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ScriptedEngine(endless=True)
    async with served(engine) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/completions", json={"prompt": "x", "stream": stream}, timeout=0.3)
        await asyncio.wait_for(engine.stopped.wait(), 20)
        counted = 'kaito_http_requests_total{code="499",method="POST",path="/v1/completions"} 1.0'
        while counted not in (await client.get("/metrics")).text:  # noqa: ASYNC110 - the server is in this loop
            await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_answer_is_whole_for_the_engine_unless_it_is_streamed() -> None:
    asked = []

    class Listening(ScriptedEngine):
        def generate(
            self, prompt: Prompt, sampling: Sampling, adapter: str | None, *, whole: bool = False
        ) -> AsyncGenerator[Piece | Finish]:
            asked.append(whole)
            return super().generate(prompt, sampling, adapter, whole=whole)

    async with served(Listening(["a"])) as client:
        for path, body in (
            ("/chat", {"prompt": "x"}),
            ("/v1/chat/completions", MESSAGES),
            ("/v1/completions", {"prompt": "x"}),
            ("/v1/responses", {"input": "x"}),
        ):
            await client.post(path, json=body)
            if path != "/chat":
                await client.post(path, json={**body, "stream": True})
    assert asked == [True, True, False, True, False, True, False]


async def test_an_error_in_the_middle_of_a_streamed_response_is_its_last_event() -> None:
    async with served(ScriptedEngine(["a"], error=EngineError("It broke."))) as client:
        answer = await client.post("/v1/responses", json={"input": "x", "stream": True})
    events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "It broke."}


async def test_an_error_in_mid_stream_is_an_event() -> None:
    async with served(ScriptedEngine(["a"], error=EngineError("It broke."))) as client:
        answer = await client.post("/v1/chat/completions", json={**MESSAGES, "stream": True})
    lines = [line for line in answer.text.split("\n\n") if line]
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["message"] == "It broke."
    assert lines[-1] == "data: [DONE]"


@pytest.mark.parametrize(
    ("error", "status"), [(BadPrompt("Not like that."), 400), (EngineError("It broke."), 500)]
)
def test_an_error_before_the_first_piece_has_a_status(error: EngineError, status: int) -> None:
    with TestClient(create_app(service_of(ScriptedEngine(error=error)), lambda _: None)) as client:
        while client.get("/healthz").status_code != 200:
            pass
        for stream in (False, True):
            answer = client.post("/v1/chat/completions", json={**MESSAGES, "stream": stream})
            assert (answer.status_code, answer.json()["error"]["message"]) == (status, str(error))
        answer = client.post("/chat", json={"prompt": "x"})
        assert (answer.status_code, answer.json()) == (status, {"detail": str(error)})


def test_until_the_model_is_loaded_the_server_says_so() -> None:
    engine = ScriptedEngine(["a"])
    engine.load_error = RuntimeError("no luck")
    failures: list[Exception] = []
    with TestClient(create_app(service_of(engine), failures.append)) as client:
        health = client.get("/healthz")
        assert (health.status_code, health.json()) == (500, {"detail": "Model not initialized"})
        assert client.get("/health").status_code == 500
        assert client.get("/").json()["message"] == "Server is running"
        chat = client.post("/chat", json={"prompt": "x"})
        assert (chat.status_code, chat.json()) == (503, {"detail": "Model not initialized"})
        completion = client.post("/v1/chat/completions", json=MESSAGES)
        assert (completion.status_code, completion.json()["error"]["type"]) == (503, "server_error")
        assert "kaito_model_ready 0.0" in client.get("/metrics").text
    assert [str(failure) for failure in failures] == ["no luck"]


def test_what_an_engine_knows_of_its_memory_is_a_metric() -> None:
    with TestClient(create_app(service_of(ScriptedEngine()), lambda _: None)) as client:
        while client.get("/healthz").status_code != 200:
            pass
        told = [line for line in client.get("/metrics").text.splitlines() if line.startswith("kaito_model_")]
    assert 'kaito_model_memory_bytes{part="weights"} 1000.0' in told
    assert 'kaito_model_memory_bytes{part="cache"} 500.0' in told
    assert 'kaito_model_cache_token_bytes{dtype="float16"} 5.0' in told


def test_templates_of_hugging_face_directories(tmp_path: Path) -> None:
    assert ChatTemplate.of(tmp_path) is None
    settings = {
        "bos_token": {"content": "<s>"},
        "chat_template": "{{ bos_token }}{{ messages[0]['content'] }}",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    template = ChatTemplate.of(tmp_path)
    assert template is not None
    assert template.render([Message("user", "hi")]) == "<s>hi"
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    template = ChatTemplate.of(tmp_path)
    assert template is not None
    assert template.render([]) == "yes"
    source = (
        "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ [1] | tojson }}"
    )
    (tmp_path / "chat_template.jinja").write_text(source)
    template = ChatTemplate.of(tmp_path)
    assert template is not None
    assert template.render([Message("user", "x")]) == "[1]"
    with pytest.raises(BadPrompt, match="refuses this conversation: user first"):
        template.render([Message("system", "x")])
    (tmp_path / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}")
    template = ChatTemplate.of(tmp_path)
    assert template is not None
    with pytest.raises(BadPrompt):
        template.render([])


def test_gpus_are_reported_in_the_old_shape() -> None:
    output = (
        "GPU-1, Tesla V100-PCIE-16GB, 25, 55, 1024, 16384\nGPU-2, Other, [N/A], 40, 0, 512\nbroken line\n"
    )
    assert hardware.parse_gpus(output) == [
        {
            "id": "GPU-1", "name": "Tesla V100-PCIE-16GB", "load": "25.00%", "temperature": "55 C",
            "memory": {"used": "1.00 GB", "total": "16.00 GB"},
        },
        {
            "id": "GPU-2", "name": "Other", "load": "0.00%", "temperature": "40 C",
            "memory": {"used": "0.00 GB", "total": "0.50 GB"},
        },
    ]  # fmt: skip
