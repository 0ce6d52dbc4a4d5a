"""The client's side of a request: its body, whether it still waits, and an answer in events.

The routes for answers take the request as it came and do here what the framework would do for them: that was half of
what an answer cost besides the model (docs/decisions/036-server-under-load.md).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from kaito_presets.server.errors import Refused

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


#: Requests whose client left before the answer are counted with this code. Nobody is sent it.
LEFT = 499


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def read(request: Request, model: type[Body]) -> Body:
    """The request's body. Raises Refused (400, 415) and RequestValidationError."""
    content = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Refused(415, "Send JSON, with the header Content-Type: application/json.")
    try:
        values = json.loads(content)
    except json.JSONDecodeError as error:
        raise _no_json(error.msg) from error
    except UnicodeDecodeError as error:
        raise _no_json("it is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise _no_json("it has a number of too many digits, or is nested too deeply") from error
    try:
        return model.model_validate(values, from_attributes=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from error


def _no_json(reason: str) -> Refused:
    return Refused(400, f"The body is not JSON: {reason}.", code="invalid_json")


def described(path: str, model: type[BaseModel]) -> dict[str, Any]:
    """What /openapi.json says of a route that reads its body by itself."""
    place = f"#/paths/{path.replace('/', '~1')}/post/requestBody/content/application~1json/schema/$defs/"
    schema = model.model_json_schema(ref_template=place + "{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def while_it_waits(receive: Receive, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled when the client goes away: then ClientGone is raised."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if gone and not task.uncancel():  # nobody else wants the task to end
            raise ClientGone from None
        raise
    finally:
        watching.cancel()


class EventStream(StreamingResponse):
    """Server-sent events. What is raised before the first of them has a status code of its own."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._events = events
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            try:
                await while_it_waits(receive, self._send(send))
            except ClientGone:
                if not self._begun:
                    raise

    async def _send(self, send: Send) -> None:
        event: bytes | None = await anext(self._events)
        self._begun = True
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while event is not None:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            event = await anext(self._events, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
