"""Requests and answers in ASGI's own words, without a framework: what the routes in front of vLLM are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kaito_presets.server import errors
from kaito_presets.server.errors import Refused

JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Reply:
    """What vLLM's own route answered."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def json(self) -> Any:
        """None where the body is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Inside:
    """vLLM's own routes, asked within the same process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def asked(self, scope: Scope, receive: Receive, path: str, body: Mapping[str, Any]) -> Any:
        """vLLM's answer to that; its refusal as a sentence."""
        reply = await self.ask(scope, receive, "POST", path, json.dumps(body).encode())
        if reply.status != 200:
            told = reply.json()
            error = told.get("error", told) if isinstance(told, dict) else {}
            message = error.get("message") if isinstance(error, dict) else error
            raise Refused(reply.status, str(message or f"vLLM answered with status {reply.status}."))
        return reply.json()

    async def ask(self, scope: Scope, receive: Receive, method: str, path: str, body: bytes = b"") -> Reply:
        """The answer of one of them. Ends with the client's connection."""
        kept = [pair for pair in scope["headers"] if pair[0] in (b"authorization", b"host", b"x-request-id")]
        headers = [*kept, JSON, (b"content-length", str(len(body)).encode())]
        inner = {
            key: value
            for key, value in scope.items()
            if key not in ("route", "endpoint", "path_params", "router")
        }
        inner |= {
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
        }
        status, told, parts = 500, list[tuple[bytes, bytes]](), list[bytes]()

        async def collect(message: Message) -> None:
            nonlocal status, told
            if message["type"] == "http.response.start":
                status, told = message["status"], list(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app(inner, replayed(body, receive), collect)
        return Reply(status, told, b"".join(parts))


def parsed(body: bytes) -> Any:
    """The JSON of a body; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # vLLM says what is wrong with it
        return None


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises Refused (413) above the limit."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > errors.MAX_BODY_BYTES:
            raise Refused(413, f"The body is larger than {errors.MAX_BODY_BYTES // 1024 // 1024} MiB.")
        if not message.get("more_body"):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body was read: gives it once more, and then tells when the client goes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def send_answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Sends the whole answer; Content-Length is added."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, body: Any) -> None:
    """Sends `body` as JSON."""
    await send_answer(send, status, [JSON], json.dumps(body, ensure_ascii=False).encode())


async def send_refusal(send: Send, path: str, refused: Refused) -> None:
    """Sends the sentence, below /v1/ in OpenAI's shape."""
    if path.startswith("/v1/"):
        body = errors.openai_body(refused.status, refused.message, refused.code, refused.param)
    else:
        body = {"detail": refused.message}
    headers = [JSON, (b"retry-after", b"1")] if refused.status in errors.LATER else [JSON]
    await send_answer(send, refused.status, headers, json.dumps(body, ensure_ascii=False).encode())
