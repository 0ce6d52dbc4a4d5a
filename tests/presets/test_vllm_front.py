"""The routes in front of vLLM, without a process: what is answered while the server ends."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from kaito_presets.engines.vllm.front import Front, Serving

SERVING = Serving("tiny-phi-3", None, None, (), max_num_seqs=2, max_queued=1)


def behind() -> FastAPI:
    """What stands for vLLM: it answers everything."""
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    @app.post("/v1/completions")
    async def completions() -> dict[str, str]:
        return {"object": "text_completion"}

    return app


async def asked(serving: Serving, method: str, path: str, body: object = None) -> httpx.Response:
    transport = httpx.ASGITransport(app=Front(behind(), serving))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await client.request(method, path, json=body)


@pytest.mark.parametrize(
    ("path", "body", "shown"),
    [
        ("/v1/completions", {"prompt": "a"}, '"code": "server_shutting_down"'),
        ("/chat", {"prompt": "a"}, '{"detail": "The server is shutting down."}'),
    ],
)
async def test_what_comes_after_the_signal_may_be_asked_again_elsewhere(
    tmp_path: Path, path: str, body: object, shown: str
) -> None:
    serving = Serving(
        "tiny-phi-3", None, None, (), max_num_seqs=2, max_queued=1, closing_file=str(tmp_path / "closing")
    )
    before = await asked(serving, "POST", "/v1/completions", {"prompt": "a"})
    (tmp_path / "closing").touch()
    after = await asked(serving, "POST", path, body)
    assert before.status_code == 200
    assert (after.status_code, after.headers["retry-after"]) == (503, "1")
    assert shown in after.text


@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_load_balancers_may_ask_for_the_head_alone(path: str) -> None:
    assert (await asked(SERVING, "HEAD", path)).status_code == 200
