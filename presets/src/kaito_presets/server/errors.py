"""Errors as sentences: one shape for /chat and its neighbours, OpenAI's shape below /v1/."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kaito_presets.engines import BadPrompt, Closing, EngineError, Overloaded, PromptTooLong, Unsupported
from kaito_presets.server.fields import BRANCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Seconds that a client may take to send a request's body.
BODY_SECONDS = 60.0
#: Bytes of a request body. Far above any model's context, far below what hurts the server.
MAX_BODY_BYTES = 16 * 1024 * 1024


#: Answers to what may be asked again in a moment; they come with Retry-After.
LATER = (429, 503)
#: The field that holds the prompt.
_PROMPTS = {"/v1/completions": "prompt", "/v1/responses": "input"}


class Refused(Exception):
    """A request that is answered with an error. `code` and `param` are for OpenAI's clients."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


def not_ready() -> Refused:
    """The answer while the model is being loaded; the sentence is what clients of older servers know."""
    return Refused(503, "Model not initialized", code="model_not_initialized")


def from_engine(error: EngineError) -> Refused:
    """400 for what the client can change, 429 and 503 for what it can do later, 500 for the rest."""
    if isinstance(error, Closing):
        return Refused(503, str(error), code="server_shutting_down")
    if isinstance(error, Overloaded):
        return Refused(429, str(error), code="rate_limit_exceeded")
    if isinstance(error, Unsupported):
        return Refused(400, str(error), code="unsupported_parameter", param=error.setting)
    if isinstance(error, PromptTooLong):
        return Refused(400, str(error), code="context_length_exceeded", param="messages")
    return Refused(400 if isinstance(error, BadPrompt) else 500, str(error))


def openai_body(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """OpenAI's error shape."""
    kind = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _place(loc: Sequence[Any]) -> list[Any]:
    """A field's path without what only pydantic has a name for."""
    return [part for part in loc if not (isinstance(part, str) and part.startswith(BRANCH))]


def describe(error: dict[str, Any]) -> str:
    """One validation error of pydantic as a sentence with the field's path."""
    path = ".".join(str(part) for part in _place(error["loc"]) if part not in ("body", "query"))
    if error["type"] == "extra_forbidden":
        return f"{path}: there is no such field."
    text = str(error["msg"]).removeprefix("Value error, ")
    text = text[:1].lower() + text[1:]
    given = error.get("input")
    shown = (
        f", not {given!r}" if isinstance(given, str | int | float | bool) and len(repr(given)) <= 40 else ""
    )
    return f"{path}: {text}{shown}." if path else f"The request is not as it should be: {text}{shown}."


def _answer(request: Request, refused: Refused) -> JSONResponse:
    path, message, param = request.url.path, _writable(refused.message), refused.param
    if refused.code == "context_length_exceeded":
        param = _PROMPTS.get(path, param)
    if path.startswith("/v1/"):
        body = openai_body(refused.status, message, refused.code, param and _writable(param))
    else:
        body = {"detail": message}
    headers = {"Retry-After": "1"} if refused.status in LATER else None
    return JSONResponse(body, refused.status, headers)


def _writable(text: str) -> str:
    """With what can't be sent (half a character of a field's name) written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def install(app: FastAPI) -> None:
    """Registers the handlers."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return _answer(request, error)

    @app.exception_handler(EngineError)
    async def engine(request: Request, error: EngineError) -> JSONResponse:
        return _answer(request, from_engine(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        sentence = " ".join(dict.fromkeys(describe(entry) for entry in found[:5]))
        first = ".".join(str(part) for part in _place(found[0]["loc"]) if part != "body") or None
        if request.url.path.startswith("/v1/"):
            return _answer(request, Refused(422, sentence, code="invalid_value", param=first))
        places = [
            {
                "loc": [_writable(part) if isinstance(part, str) else part for part in _place(entry["loc"])],
                "msg": _writable(describe(entry)),
                "type": entry["type"],
            }
            for entry in found
        ]
        return JSONResponse({"detail": _writable(sentence), "errors": places}, 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code == 404:
            message = (
                f"There is nothing at {request.url.path}; ask with POST /chat or POST /v1/chat/completions."
            )
        elif error.status_code == 405:
            message = f"{request.method} is not what {request.url.path} answers to."
        answer = _answer(request, Refused(error.status_code, message))
        answer.headers.update(error.headers or {})
        return answer


class LimitBody:
    """ASGI middleware: a body above MAX_BODY_BYTES is refused, announced or not, and one that takes too long."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received, whole = 0, False
        deadline = asyncio.get_running_loop().time() + BODY_SECONDS

        async def counted() -> Message:
            nonlocal received, whole
            if whole:  # only a disconnect can follow, at any time
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"The body did not arrive within {BODY_SECONDS:g} s.") from None
            whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413, f"The body is larger than {MAX_BODY_BYTES // 1024 // 1024} MiB.")
            return message

        await self._app(scope, counted if scope["type"] == "http" else receive, send)
