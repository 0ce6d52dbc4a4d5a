"""The routes. What they answer is decided in chat.py and openai.py, and by the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from kaito_presets.engines import Finish, Piece
from kaito_presets.server import chat, errors, hardware, openai, responses
from kaito_presets.server.client import LEFT, Body, ClientGone, EventStream, described, read, while_it_waits
from kaito_presets.server.metrics import CountRequests
from kaito_presets.server.names import Model
from kaito_presets.server.service import Service


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
    app.add_exception_handler(ClientGone, lambda _, __: Response(status_code=LEFT))
    _add_openai(app, service)  # the first that are looked up
    _add_chat(app, service)
    _add_information(app, service)
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

    for path in ("/healthz", "/health"):
        app.get(path)(health)
        app.head(path, include_in_schema=False)(health)

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

    @app.post("/chat", response_model=chat.ChatAnswer, openapi_extra=described("/chat", chat.ChatRequest))
    async def chat_route(request: Request) -> Response:
        if not service.ready:
            raise errors.not_ready()
        body = await read(request, chat.ChatRequest)
        messages = chat.messages_of(body)
        kwargs = body.generate_kwargs
        counted = None
        if kwargs and kwargs.max_length is not None and kwargs.max_new_tokens is None:
            counted = await service.engine.count_tokens(messages)
        sampling = chat.sampling_of(kwargs, counted)
        ((text, _),) = await _collect(request, service.answer(names.main, messages, sampling, whole=True))
        return JSONResponse({"Result": chat.result_of(body, text)})


def _add_openai(app: FastAPI, service: Service) -> None:
    def model_of(name: str | None) -> Model:
        if not service.ready:
            raise errors.not_ready()
        model = service.names.find(name)
        if model is None:
            raise openai.unknown_model(name or "", service.names)
        return model

    def post(path: str, body: type[Body], answer: Callable[[Request, Body], Awaitable[Response]]) -> None:
        async def route(request: Request) -> Response:
            return await answer(request, await read(request, body))

        app.post(path, response_model=None, openapi_extra=described(path, body))(route)

    async def chat_completions(request: Request, body: openai.ChatCompletionRequest) -> Response:
        model, prompt = model_of(body.model), openai.messages_of(body)
        sampling = openai.sampling_of(body, body.max_completion_tokens or body.max_tokens)
        items = service.answer(model, prompt, sampling, whole=not body.stream)
        if body.stream:
            return EventStream(openai.events(model.name, items, chat=True, include_usage=body.include_usage))
        (answer,) = await _collect(request, items)
        return JSONResponse(openai.completion_body(model.name, *answer))

    async def completions(request: Request, body: openai.TextCompletionRequest) -> Response:
        model, prompts = model_of(body.model), openai.prompts_of(body)
        sampling = openai.sampling_of(body, body.max_tokens or openai.DEFAULT_TEXT_TOKENS)
        many = [service.answer(model, prompt, sampling, whole=not body.stream) for prompt in prompts]
        if body.stream:
            return EventStream(
                openai.events(model.name, many[0], chat=False, include_usage=body.include_usage)
            )
        return JSONResponse(openai.text_body(model.name, await _collect(request, *many)))

    async def answers(request: Request, body: responses.ResponseRequest) -> Response:
        model, prompt = model_of(body.model), responses.messages_of(body)
        items = service.answer(model, prompt, responses.sampling_of(body), whole=not body.stream)
        answer = responses.Answer(body, model.name)
        if body.stream:
            return EventStream(answer.events(items))
        (whole,) = await _collect(request, items)
        return JSONResponse(answer.body(*whole))

    post("/v1/chat/completions", openai.ChatCompletionRequest, chat_completions)
    post("/v1/completions", openai.TextCompletionRequest, completions)
    post("/v1/responses", responses.ResponseRequest, answers)


async def _collect(request: Request, *many: AsyncGenerator[Piece | Finish]) -> list[tuple[str, Finish]]:
    """The whole answers. When the client goes away, the engine stops, and ClientGone is raised."""
    if len(many) == 1:
        return [await while_it_waits(request.receive, _whole(many[0]))]
    return await while_it_waits(request.receive, _together([_whole(items) for items in many]))


async def _together(answers: list[Coroutine[Any, Any, tuple[str, Finish]]]) -> list[tuple[str, Finish]]:
    """What fails first is raised; the others are stopped then."""
    tasks = [asyncio.create_task(answer) for answer in answers]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _whole(items: AsyncGenerator[Piece | Finish]) -> tuple[str, Finish]:
    pieces: list[str] = []
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Finish):
                return "".join(pieces), item
            pieces.append(item.text)
    raise AssertionError("an engine ends its stream with Finish")
