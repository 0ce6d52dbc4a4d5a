"""`vllm serve`, as far as the tests need it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from kaito_presets.engines import Finish, Message, Piece, Sampling, make_engine
from kaito_presets.engines.vllm import flags

#: Tokens that there is room for.
ROOM = 1024
#: A temperature that this vLLM refuses.
REFUSED = 1.25


def parser() -> argparse.ArgumentParser:
    """An argument parser that takes what vLLM's takes."""
    made = argparse.ArgumentParser(prog="vllm serve", allow_abbrev=False)
    made.add_argument("model_tag")
    types = {"integer": int, "number": float, "json": json.loads}
    for flag in flags.known().flags.values():
        if flag.kind == "switch":
            made.add_argument(f"--{flag.name}", action="store_true")
        elif flag.kind == "boolean":
            made.add_argument(f"--{flag.name}", action=argparse.BooleanOptionalAction)
        else:
            extra: dict[str, Any] = {"nargs": "+"} if flag.many == "list" else {}
            extra |= {"action": "append"} if flag.many == "repeat" else {}
            kind = types.get(flag.kind, str)
            choices = [kind(choice) for choice in flag.choices] or None
            made.add_argument(f"--{flag.name}", type=kind, choices=choices, **extra)
    return made


class Model:
    """The weights with the adapters of --lora-modules."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.limit = 256 if options.max_model_len == "auto" else int(options.max_model_len)
        self.modules = dict(text.split("=", 1) for text in options.lora_modules or ())
        self.names = [*options.served_model_name, *self.modules]
        self._temperature = (options.override_generation_config or {})["temperature"]
        weights = Path(options.model_tag)
        self.engine = make_engine("mistralrs", weights, max_model_len=self.limit, dtype="float32")

    def load(self) -> None:
        self.engine.load({name: Path(path) for name, path in self.modules.items()})

    async def tokens(self, body: dict[str, Any]) -> int:
        return await self.engine.count_tokens(body["prompt"] if "prompt" in body else _turns(body))

    async def pieces(self, body: dict[str, Any]) -> AsyncIterator[Piece | Finish]:
        sampling = Sampling(
            max_tokens=body.get("max_tokens"),
            temperature=body.get("temperature", self._temperature),
            top_k=body.get("top_k"),
            stop=tuple(body.get("stop") or ()),
        )
        name = body.get("model")
        async for item in self.engine.generate(
            _turns(body), sampling, name if name in self.modules else None
        ):
            yield item


def _turns(body: dict[str, Any]) -> list[Message]:
    return [Message(turn["role"], turn["content"]) for turn in body["messages"]]


def create_app(options: argparse.Namespace) -> FastAPI:
    model = Model(options)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(model.load)
        yield
        await model.engine.close()

    app = FastAPI(lifespan=lifespan)
    add_routes(app, model)
    for name in options.middleware or ():
        module, _, attribute = name.rpartition(".")
        app.add_middleware(getattr(importlib.import_module(module), attribute))
    return app


def add_routes(app: FastAPI, model: Model) -> None:
    @app.get("/health")
    def health() -> Response:
        return Response(status_code=503 if Path(os.environ.get("FAKE_VLLM_DEAD", "/none")).exists() else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        cache = f'vllm:cache_config_info{{kv_cache_size_tokens="{ROOM}"}} 1.0'
        return PlainTextResponse(f"vllm:num_requests_running 0.0\n{cache}\n")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        data = [{"id": name, "max_model_len": model.limit} for name in model.names]
        return {"object": "list", "data": data}

    @app.post("/tokenize")
    async def tokenize(body: dict[str, Any]) -> dict[str, Any]:
        return {"count": await model.tokens(body), "max_model_len": model.limit}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: dict[str, Any]) -> Any:
        if body.get("temperature") == REFUSED:
            told = {"message": "that temperature is refused", "type": "BadRequestError", "param": None}
            return JSONResponse({"error": {**told, "code": 400}}, 400)
        if body.get("stream"):
            return StreamingResponse(events(model, body), media_type="text/event-stream")
        texts = [item.text async for item in model.pieces(body) if isinstance(item, Piece)]
        message = {"role": "assistant", "content": "".join(texts)}
        return {
            "object": "chat.completion",
            "model": body["model"],
            "choices": [{"index": 0, "message": message}],
        }


async def events(model: Model, body: dict[str, Any]) -> AsyncIterator[bytes]:
    async for item in model.pieces(body):
        await asyncio.sleep(float(os.environ.get("FAKE_VLLM_SLOW", "0")))
        delta = {"content": item.text} if isinstance(item, Piece) else {}
        yield b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def main() -> None:
    options = parser().parse_args(sys.argv[2:])
    print("(APIServer pid=1) INFO 01-01 00:00:00 [api.py:1] arguments read", flush=True)
    print(
        "(EngineCore pid=2) INFO 01-01 00:00:00 [w.py:1] Model loading took 7.25 GiB memory and 3.1 seconds"
    )
    print("(EngineCore pid=2) INFO 01-01 00:00:00 [w.py:1] Available KV cache memory: 0.5 GiB", flush=True)
    failure = os.environ.get("FAKE_VLLM_FAILS")
    if failure:
        print(f"(EngineCore pid=2) ERROR 01-01 00:00:00 [core.py:1] {failure}", flush=True)
        raise RuntimeError("Engine core initialization failed. See root cause above.")
    if options.headless:
        time.sleep(3600)
    uvicorn.run(
        create_app(options),
        host=options.host,
        port=options.port,
        timeout_graceful_shutdown=options.shutdown_timeout,
    )


if __name__ == "__main__":
    main()
