"""Prometheus metrics of the server, on a registry of their own, and the middleware that counts requests."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from kaito_presets.engines import Memory
    from kaito_presets.server.names import ModelNames

#: Seconds. From a cached answer of the tiny model to a long answer of a large one.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """All metrics of one server."""

    def __init__(self, names: ModelNames, engine: str, engine_version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "kaito_http_requests", "Requests answered.", ("method", "path", "code"), registry=self.registry
        )
        self.duration = Histogram(
            "kaito_http_request_duration_seconds",
            "Time from a request's first byte to the last byte of its answer.",
            ("method", "path"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "kaito_http_requests_in_flight",
            "Requests for answers (POST) that wait or are being answered now.",
            registry=self.registry,
        )
        self.first_token = Histogram(
            "kaito_time_to_first_token_seconds",
            "Time from a request to the first piece of its answer, waiting included.",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.prompt_tokens = Counter("kaito_prompt_tokens", "Tokens read in prompts.", registry=self.registry)
        self.generation_tokens = Counter(
            "kaito_generation_tokens", "Tokens generated.", registry=self.registry
        )
        info = Gauge(
            "kaito_model_info",
            "1; the labels tell what is served.",
            ("model", "preset", "stand_in", "engine", "engine_version"),
            registry=self.registry,
        )
        info.labels(names.served, names.preset, names.stand_in or "", engine, engine_version).set(1)
        self._ready = Gauge("kaito_model_ready", "1 when the model is loaded.", registry=self.registry)
        self._context = Gauge(
            "kaito_model_context_tokens", "Most tokens of prompt and answer together.", registry=self.registry
        )
        self._memory = Gauge(
            "kaito_model_memory_bytes",
            "Memory that the model's weights take, and that keys and values of running answers may fill (cache).",
            ("part",),
            registry=self.registry,
        )
        self._token = Gauge(
            "kaito_model_cache_token_bytes",
            "Memory that the keys and values of one token take.",
            ("dtype",),
            registry=self.registry,
        )

    def ready(self, context_length: int, memory: Memory | None = None) -> None:
        """Marks the model as loaded. What the engine does not know of its memory has no series."""
        self._ready.set(1)
        self._context.set(context_length)
        if memory:
            self._memory.labels("weights").set(memory.weights)
            self._memory.labels("cache").set(memory.cache)
            self._token.labels(memory.dtype).set(memory.cache_token)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self.registry)


class CountRequests:
    """ASGI middleware. Paths are the routes' templates, so a client can't make new time series.

    Each answer also gets the request's X-Request-Id, or one of our own, unless the application gave it one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        code = "500"
        identity = dict(scope["headers"]).get(b"x-request-id") or uuid.uuid4().hex.encode()

        async def note_status(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
                headers = list(message.get("headers", ()))
                if not any(name == b"x-request-id" for name, _ in headers):
                    message["headers"] = [*headers, (b"x-request-id", identity)]
            await send(message)

        begin = time.perf_counter()
        asks = scope["method"] == "POST"
        self._metrics.in_flight.inc(asks)
        try:
            await self._app(scope, receive, note_status)
        finally:
            self._metrics.in_flight.dec(asks)
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if route != "other" else "any"
            self._metrics.requests.labels(method, route, code).inc()
            self._metrics.duration.labels(method, route).observe(time.perf_counter() - begin)
