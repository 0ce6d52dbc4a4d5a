"""The routes. What they answer is decided in chat.py and openai.py, and by the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST

from kaito_presets.engines import Finish, Piece, Prompt, Sampling
from kaito_presets.server import chat, errors, hardware, openai, responses
from kaito_presets.server.metrics import CountRequests
from kaito_presets.server.names import Model
from kaito_presets.server.service import Service


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def create_app(service: Service, on_failure: Callable[[Exception], None]) -> FastAPI:
    """The application. The model is loaded while it already answers; `on_failure` is told when that fails."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def load() -> None:
            try:
                await service.start()
            except Exception as error:  # whatever it is, the process ends with it
                on_failure(error)

        loading = asyncio.create_task(load())
        try:
            yield
        finally:
            await loading  # a thread can't be interrupted
            await service.close()

    app = FastAPI(title="KAITO inference", version=version("kaito-presets"), lifespan=lifespan)
    app.add_middleware(errors.LimitBody)
    app.add_middleware(CountRequests, metrics=service.metrics)
    errors.install(app)
    _add_information(app, service)
    _add_chat(app, service)
    _add_openai(app, service)
    return app


def _add_information(app: FastAPI, service: Service) -> None:
    names = service.names

    @app.get("/")
    async def root() -> dict[str, Any]:
        about = {"message": "Server is running", "model": names.served}
        return about | ({"notice": names.notice} if names.notice else {})

    async def health() -> JSONResponse:
        if not service.ready:
            return JSONResponse({"detail": "Model not initialized"}, 500)
        body = {"status": "Healthy"}
        return JSONResponse(body | ({"stand_in_weights": names.stand_in} if names.stand_in else {}))

    app.get("/healthz")(health)
    app.get("/health")(health)

    @app.get("/version")
    async def versions() -> dict[str, str]:
        engine = service.engine
        return {"version": version("kaito-presets"), "engine": engine.name, "engine_version": engine.version}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/metrics.json")
    def metrics_json() -> dict[str, Any]:
        return hardware.report()

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return openai.models_body(names, service.started)

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        known = names.find(name)  # the plain name of a stand-in is understood, and answered with the true one
        if known is None:
            raise openai.unknown_model(name, names)
        return next(
            dict(m) for m in openai.models_body(names, service.started)["data"] if m["id"] == known.name
        )


def _add_chat(app: FastAPI, service: Service) -> None:
    names = service.names

    @app.post("/chat")
    async def chat_route(body: chat.ChatRequest, request: Request) -> chat.ChatAnswer:
        if not service.ready:
            raise errors.not_ready()
        messages = chat.messages_of(body)
        kwargs = body.generate_kwargs
        counted = None
        if kwargs and kwargs.max_length is not None and kwargs.max_new_tokens is None:
            counted = await service.engine.count_tokens(messages)
        sampling = chat.sampling_of(kwargs, counted)
        ((text, _),) = await _collect(request, service.answer(names.main, messages, sampling))
        return chat.ChatAnswer(Result=chat.result_of(body, text))


def _add_openai(app: FastAPI, service: Service) -> None:
    def model_of(name: str | None) -> Model:
        if not service.ready:
            raise errors.not_ready()
        model = service.names.find(name)
        if model is None:
            raise openai.unknown_model(name or "", service.names)
        return model

    async def collect(
        request: Request, model: Model, prompt: Prompt, sampling: Sampling
    ) -> tuple[str, Finish]:
        (answer,) = await _collect(request, service.answer(model, prompt, sampling))
        return answer

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(
        body: openai.ChatCompletionRequest, request: Request
    ) -> Response | dict[str, Any]:
        model, prompt = model_of(body.model), openai.messages_of(body)
        sampling = openai.sampling_of(body, body.max_completion_tokens or body.max_tokens)
        if not body.stream:
            return openai.completion_body(model.name, *await collect(request, model, prompt, sampling))
        items = service.answer(model, prompt, sampling)
        first = await anext(items)  # an error still has a status code of its own
        return _stream(openai.events(model.name, first, items, chat=True, include_usage=body.include_usage))

    @app.post("/v1/completions", response_model=None)
    async def completions(body: openai.TextCompletionRequest, request: Request) -> Response | dict[str, Any]:
        model, prompts = model_of(body.model), openai.prompts_of(body)
        sampling = openai.sampling_of(body, body.max_tokens or openai.DEFAULT_TEXT_TOKENS)
        if not body.stream:
            many = [service.answer(model, prompt, sampling) for prompt in prompts]
            return openai.text_body(model.name, await _collect(request, *many))
        items = service.answer(model, prompts[0], sampling)
        first = await anext(items)
        return _stream(openai.events(model.name, first, items, chat=False, include_usage=body.include_usage))

    @app.post("/v1/responses", response_model=None)
    async def answers(body: responses.ResponseRequest, request: Request) -> Response | dict[str, Any]:
        model, prompt = model_of(body.model), responses.messages_of(body)
        sampling = responses.sampling_of(body)
        answer = responses.Answer(body, model.name)
        if not body.stream:
            return answer.body(*await collect(request, model, prompt, sampling))
        items = service.answer(model, prompt, sampling)
        first = await anext(items)
        return _stream(answer.events(first, items))


def _stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _collect(request: Request, *many: AsyncGenerator[Piece | Finish]) -> list[tuple[str, Finish]]:
    """The whole answers. When the client goes away, the engine stops, and ClientGone is raised."""

    async def read(items: AsyncGenerator[Piece | Finish]) -> tuple[str, Finish]:
        pieces: list[str] = []
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Finish):
                    return "".join(pieces), item
                pieces.append(item.text)
        raise AssertionError("an engine ends its stream with Finish")

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    reading = [asyncio.create_task(read(items)) for items in many]
    answers, watch = asyncio.gather(*reading), asyncio.create_task(gone())
    try:
        await asyncio.wait((answers, watch), return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise ClientGone
        return answers.result()
    finally:
        for task in (*reading, watch):
            task.cancel()
        await asyncio.gather(answers, *reading, watch, return_exceptions=True)
