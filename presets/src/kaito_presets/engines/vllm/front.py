"""The routes that every KAITO server has, in front of vLLM's own and inside its process.

vLLM loads this class by its option --middleware, so nothing of vLLM is changed. What it answers itself: `/`, `/health`,
`/healthz`, `/version`, `/metrics.json`, `/v1/models`, and `/chat` by asking vLLM's own /v1/chat/completions. In all
other requests it looks up the model's name, and it counts them: one too many is answered with 429.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from prometheus_client import Counter
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from kaito_presets.adapters import AdapterChoice
from kaito_presets.engines import CLOSING, Closing, Memory, Overloaded, PromptTooLong, Sampling
from kaito_presets.engines.lengths import CHARACTERS_PER_TOKEN, beginnings, refuse_if_certain
from kaito_presets.engines.vllm.asgi import (
    Inside,
    parsed,
    read_body,
    replayed,
    send_answer,
    send_json,
    send_refusal,
)
from kaito_presets.server import chat, errors, hardware, openai
from kaito_presets.server.errors import Refused
from kaito_presets.server.metrics import CountRequests, Metrics
from kaito_presets.server.names import ModelNames

#: The variable that tells what is served: the JSON of `Serving`.
VARIABLE = "KAITO_VLLM_SERVING"
#: Families of our own metrics that mean something here; the rest vLLM counts itself.
_OUR_METRICS = (b"kaito_http_", b"kaito_model_", b"kaito_ratelimit_")
#: Paths whose JSON names a model. They are counted, too.
_ASKING = (
    "/v1/",
    "/tokenize",
    "/detokenize",
    "/pooling",
    "/score",
    "/rerank",
    "/v2/rerank",
    "/classify",
    "/generative_scoring",
)
_CACHE_TOKENS = re.compile(rb'kv_cache_size_tokens="(\d+)"')


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, as far as the routes need it."""

    preset: str
    served: str | None
    stand_in: str | None
    adapters: tuple[tuple[str, float], ...]
    max_num_seqs: int
    max_queued: int
    engine_version: str = ""
    memory_file: str = ""
    """Where the supervisor writes what it read of memory in vLLM's log: the JSON of weights and cache in bytes, gpus
    that share them, copies of the model, and dtype."""
    closing_file: str = ""
    """Is there once the supervisor was told to end."""

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> Serving:
        values = json.loads(text)
        return cls(**{**values, "adapters": tuple((name, float(s)) for name, s in values["adapters"])})

    def names(self) -> ModelNames:
        """The names, and what they mean."""
        return ModelNames(
            self.preset, self.served, self.stand_in, [AdapterChoice(name, s) for name, s in self.adapters]
        )


class Front:
    """The middleware. Another instance than vLLM's may be given what is served; vLLM gives it in the environment."""

    def __init__(self, app: ASGIApp, serving: Serving | None = None) -> None:
        self._app = app
        self._inside = Inside(app)
        self.serving = serving or Serving.from_json(os.environ[VARIABLE])
        self.names = self.serving.names()
        self.started = int(time.time())
        self.metrics = Metrics(self.names, "vllm", self.serving.engine_version)
        self._rejected = Counter(
            "kaito_ratelimit_rejected",
            "Requests refused because too many waited.",
            registry=self.metrics.registry,
        )
        self._open = 0
        self._routed = CountRequests(self._route, self.metrics)
        self._own: dict[tuple[str, str], Callable[[Scope, Receive], Awaitable[tuple[int, Any]]]] = {
            ("GET", "/"): self._root,
            ("GET", "/health"): self._health,
            ("HEAD", "/health"): self._health,
            ("GET", "/healthz"): self._health,
            ("HEAD", "/healthz"): self._health,
            ("GET", "/version"): self._version,
            ("GET", "/metrics.json"): self._hardware,
            ("GET", "/v1/models"): self._models,
            ("POST", "/chat"): self._chat,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._routed(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"].rstrip("/") or "/", scope["method"]
        try:
            own = self._own.get((method, path))
            if own is not None:
                scope["route"] = _Route(path)
                status, body = await own(scope, receive)
                await send_json(send, status, body)
            elif method == "GET" and path.startswith("/v1/models/"):
                scope["route"] = _Route("/v1/models/{name}")
                await send_json(send, 200, self._model(path.removeprefix("/v1/models/")))
            elif method == "GET" and path == "/metrics":
                await self._send_metrics(scope, receive, send)
            elif method == "POST" and path.startswith(_ASKING):
                await self._ask(scope, receive, send)
            elif any(known == path for _, known in self._own):
                raise Refused(405, f"{method} is not what {path} answers to.")
            else:
                await self._app(scope, receive, send)
        except Refused as refused:
            await send_refusal(send, path, refused)

    async def _root(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        about = {"message": "Server is running", "model": self.names.served}
        return 200, about | ({"notice": self.names.notice} if self.names.notice else {})

    async def _health(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        reply = await self._inside.ask(scope, receive, "GET", "/health")
        if reply.status != 200:
            return 500, {"detail": "vLLM's engine does not run any more"}
        body = {"status": "Healthy"}
        return 200, body | ({"stand_in_weights": self.names.stand_in} if self.names.stand_in else {})

    async def _version(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        about = {"version": version("kaito-presets"), "engine": "vllm"}
        return 200, about | {"engine_version": self.serving.engine_version}

    async def _hardware(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        return 200, await asyncio.to_thread(hardware.report)

    async def _models(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        return 200, openai.models_body(self.names, self.started)

    def _model(self, name: str) -> dict[str, Any]:
        known = self.names.find(name)
        if known is None:
            raise openai.unknown_model(name, self.names)
        entries = openai.models_body(self.names, self.started)["data"]
        return next(dict(entry) for entry in entries if entry["id"] == known.name)

    async def _send_metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = await self._inside.ask(scope, receive, "GET", "/metrics")
        scope["route"] = _Route("/metrics")
        listed = (await self._inside.ask(scope, receive, "GET", "/v1/models")).json() or {}
        lengths = [entry.get("max_model_len") for entry in listed.get("data", ())]
        memory = memory_of(self.serving.memory_file, reply.body)
        self.metrics.ready(next((int(length) for length in lengths if length), 0), memory)
        body = reply.body + _ours(self.metrics.text())
        kept = [pair for pair in reply.headers if pair[0].lower() == b"content-type"]
        await send_answer(send, reply.status, kept, body)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request for an answer: the model's name becomes the one that vLLM knows, and the request is counted."""
        body = await read_body(receive)
        asked = parsed(body)
        headers = list(scope["headers"])
        if isinstance(asked, dict) and isinstance(asked.get("model"), str | None):
            model = self.names.find(asked.get("model"))
            if model is None:
                raise openai.unknown_model(asked["model"], self.names)
            if model.name != asked.get("model"):
                body = json.dumps({**asked, "model": model.name}).encode()
                headers = [pair for pair in headers if pair[0] != b"content-length"]
                headers.append((b"content-length", str(len(body)).encode()))
                scope["headers"] = headers
        self._enter()
        try:
            await self._app(scope, replayed(body, receive), send)
        finally:
            self._open -= 1

    def _enter(self) -> None:
        serving = self.serving
        if serving.closing_file and Path(serving.closing_file).exists():  # vLLM fails what comes now
            raise errors.from_engine(Closing(CLOSING))
        if self._open >= serving.max_num_seqs + serving.max_queued:
            self._rejected.inc()
            raise errors.from_engine(
                Overloaded(
                    f"Too many requests: {serving.max_num_seqs} are being answered and {serving.max_queued} wait. "
                    "Try again later."
                )
            )
        self._open += 1

    async def _chat(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        request = _chat_request(await read_body(receive), scope)
        messages = chat.messages_of(request)
        self._enter()
        try:
            return await self._answered(request, messages, scope, receive)
        finally:
            self._open -= 1

    async def _answered(
        self, request: chat.ChatRequest, messages: list[Any], scope: Scope, receive: Receive
    ) -> tuple[int, Any]:
        model = self.names.main.name
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        await self._refuse_far_too_long("\n".join(turn.content for turn in messages), scope, receive)
        counted = await self._inside.asked(
            scope, receive, "/tokenize", {"model": model, "messages": turns, "add_generation_prompt": True}
        )
        tokens, limit = int(counted["count"]), int(counted["max_model_len"])
        if tokens >= limit:
            raise errors.from_engine(PromptTooLong(tokens, limit))
        body = _settings(chat.sampling_of(request.generate_kwargs, tokens), limit - tokens)
        answer = await self._inside.asked(
            scope, receive, "/v1/chat/completions", {"model": model, "messages": turns, **body}
        )
        text = answer["choices"][0]["message"].get("content") or ""
        return 200, {"Result": chat.result_of(request, text)}

    async def _refuse_far_too_long(self, text: str, scope: Scope, receive: Receive) -> None:
        """Raises Refused where the beginning of a long text is too long by itself: vLLM would count all of it."""
        limit = None
        for beginning in beginnings(text, 0):
            if limit is not None and len(beginning) < CHARACTERS_PER_TOKEN * limit:
                continue
            asked = {"model": self.names.main.name, "prompt": beginning, "add_special_tokens": False}
            counted = await self._inside.asked(scope, receive, "/tokenize", asked)
            limit = int(counted["max_model_len"])
            try:
                refuse_if_certain(int(counted["count"]), limit)
            except PromptTooLong as error:
                raise errors.from_engine(error) from error


@dataclass(frozen=True, slots=True)
class _Route:
    """What the counting middleware looks for: requests are counted by the path of their route."""

    path: str


def memory_of(file: str, metrics: bytes) -> Memory | None:
    """What the model takes on this node; None where vLLM has not said it (on a CPU, say)."""
    tokens = _CACHE_TOKENS.search(metrics)
    try:
        told = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    weights, cache = told["weights"] * told["gpus"], told["cache"] * told["gpus"]
    room = int(tokens[1]) * told["copies"] if tokens else 0
    return Memory(weights, cache, cache // room if room else 0, told["dtype"])


def _settings(sampling: Sampling, room: int) -> dict[str, Any]:
    """The settings of an answer for vLLM; `room`: tokens that are left for it."""
    body: dict[str, Any] = {
        "max_tokens": min(sampling.max_tokens or room, room),
        "temperature": sampling.temperature,
    }
    further = {
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop) or None,
        "seed": getattr(sampling, "seed", None),
    }
    return body | {name: value for name, value in further.items() if value is not None}


def _chat_request(body: bytes, scope: Scope) -> chat.ChatRequest:
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    if not any(b"json" in kind for kind in kinds):
        raise Refused(415, "Send JSON, with the header Content-Type: application/json.")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is not JSON: {error}.", code="invalid_json") from error
    try:
        return chat.ChatRequest.model_validate(values)
    except ValidationError as error:
        told = (errors.describe(cast("dict[str, Any]", each)) for each in error.errors()[:5])
        raise Refused(422, " ".join(dict.fromkeys(told))) from error


def _ours(text: bytes) -> bytes:
    """The families of our metrics that vLLM does not count."""
    kept = []
    for line in text.splitlines(keepends=True):
        name = line.split(maxsplit=3)[2] if line.startswith(b"#") else line
        if name.startswith(_OUR_METRICS) and b"_created" not in name:
            kept.append(line)
    return b"".join(kept)
