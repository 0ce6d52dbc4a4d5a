"""An inference server with a GPU, as Prometheus sees it: what the engine of the demo does not know of its memory.

No model runs in it. Its families are those of `kaito-serve`, the sizes are what the catalogue records of the preset.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from hack.dashboards.prometheus import Target
from kaito.catalog import load_catalog
from kaito_presets.engines import Memory
from kaito_presets.server.metrics import Metrics
from kaito_presets.server.names import ModelNames

PRESET = "phi-3-mini-128k-instruct"
CONTEXT = 8192
GIB = 2**30


@asynccontextmanager
async def gpu_server() -> AsyncIterator[Target]:
    """Where it shows its metrics, while the block runs."""
    preset = load_catalog().preset(PRESET)
    assert preset is not None
    assert preset.weights_gib is not None
    assert preset.bytes_per_token is not None
    token = preset.bytes_per_token
    metrics = Metrics(ModelNames(PRESET, None, None, ()), "transformers", "stand-in")
    metrics.ready(CONTEXT, Memory(int(preset.weights_gib * GIB), CONTEXT * token, token, "float16"))

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        labels = {
            "namespace": "default",
            "pod": "on-a-gpu-0",
            "workspace": "on-a-gpu",
            "job": "default/kaito-inference",
        }
        yield Target(f"127.0.0.1:{runner.addresses[0][1]}", labels)
    finally:
        await runner.cleanup()
