"""How many requests the server takes at once, whatever the engine: the rest is told to come later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from kaito_presets.server.settings import Settings
from presets.test_engine_interface import MESSAGES, ScriptedEngine, served

ASKS = [
    ("/chat", {"prompt": "x"}),
    ("/v1/chat/completions", MESSAGES),
    ("/v1/chat/completions", {**MESSAGES, "stream": True}),
    ("/v1/completions", {"prompt": "x"}),
    ("/v1/completions", {"prompt": "x", "stream": True}),
    ("/v1/responses", {"input": "x"}),
    ("/v1/responses", {"input": "x", "stream": True}),
]


def limited(*, running: int, waiting: int) -> Settings:
    return Settings("m", None, Path("/nowhere"), Path("/nowhere"), max_num_seqs=running, max_queued=waiting)


async def running(engine: ScriptedEngine, count: int) -> None:
    while engine.running != count:  # noqa: ASYNC110 - the engine's counter can't be awaited
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("path", "body"), ASKS)
async def test_one_request_too_many_is_told_to_come_later(path: str, body: dict[str, object]) -> None:
    engine = ScriptedEngine(["a"], endless=True)
    async with served(engine, limited(running=1, waiting=1)) as client:
        held = [asyncio.create_task(client.post("/chat", json={"prompt": "x"})) for _ in range(2)]
        await running(engine, 2)
        refused = await client.post(path, json=body)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        if path == "/chat":
            assert refused.json()["detail"].startswith("Too many requests: 1 are being answered and 1 wait.")
        else:
            error = refused.json()["error"]
            assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
        assert (await client.get("/healthz")).status_code == 200  # probes and scrapes are never refused
        assert 'code="429"' in (await client.get("/metrics")).text
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_those_who_leave_make_room_again() -> None:
    engine = ScriptedEngine(["a"], endless=True)
    async with served(engine, limited(running=1, waiting=1)) as client:
        held = [asyncio.create_task(client.post("/chat", json={"prompt": "x"})) for _ in range(2)]
        await running(engine, 2)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await running(engine, 0)
        engine.endless = False
        assert (await client.post("/chat", json={"prompt": "x"})).json() == {"Result": "a"}


async def test_a_stream_counts_until_its_end() -> None:
    engine = ScriptedEngine(["a"], endless=True)
    async with served(engine, limited(running=1, waiting=1)) as client:
        body = {**MESSAGES, "stream": True}
        async with (
            client.stream("POST", "/v1/chat/completions", json=body) as first,
            client.stream("POST", "/v1/chat/completions", json=body) as second,
        ):
            assert (first.status_code, second.status_code) == (200, 200)
            assert (await client.post("/chat", json={"prompt": "x"})).status_code == 429
        await running(engine, 0)
        engine.endless = False
        assert (await client.post("/chat", json={"prompt": "x"})).status_code == 200


async def test_hundreds_of_requests_at_once_are_all_answered_or_refused() -> None:
    engine = ScriptedEngine(["a"])
    limits = httpx.Limits(max_connections=100)
    async with served(engine, limited(running=2, waiting=3)) as client:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=60, limits=limits) as many:
            answers = await asyncio.gather(*(many.post("/chat", json={"prompt": "x"}) for _ in range(300)))
        codes = {answer.status_code for answer in answers}
        assert codes <= {200, 429}
        assert 200 in codes
        assert engine.running == 0
        assert (await client.post("/chat", json={"prompt": "x"})).status_code == 200
