"""POST /v1/responses: OpenAI's newer API, as far as it means the same as a chat completion.

Nothing is stored: `previous_response_id`, conversations and background answers are refused by name, and so are tools.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, StrictBool

from kaito_presets.engines import EngineError, Finish, Message, Piece, Sampling
from kaito_presets.server import openai
from kaito_presets.server.errors import Refused, from_engine
from kaito_presets.server.fields import Count, OneOr, Share, Temperature, Text

#: Fields with another value than these ask for something that can't be done here.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "previous_response_id": (None,),
    "conversation": (None,),
    "prompt": (None,),
    "background": (False, None),
    "tools": ([], None),
    "tool_choice": ("none", "auto", None),
    "text": ({"format": {"type": "text"}}, {}, None),
    "include": ([], None),
    "top_logprobs": (0, None),
    "truncation": ("disabled", None),
    "reasoning": ({}, None),
}


class Item(BaseModel):
    """One message of the input."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: OneOr[Text, openai.Part]


class ResponseRequest(BaseModel):
    """The body of POST /v1/responses."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    input: OneOr[Text, Item]
    instructions: Text | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    stream: StrictBool = False


def messages_of(body: ResponseRequest) -> list[Message]:
    """The conversation: the instructions as the system's message, then the input. Raises Refused (400)."""
    found = [Message("system", body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*found, Message("user", body.input)]
    if not body.input:
        raise Refused(422, "input: give at least one message.", param="input")
    for index, item in enumerate(body.input):
        content = item.content
        if not isinstance(content, str):
            for part in content:
                if part.type not in ("input_text", "output_text", "text") or part.text is None:
                    where = f"input.{index}.content"
                    raise Refused(400, f"{where}: this model reads text only, not {part.type}.", param=where)
            content = "\n".join(part.text or "" for part in content)
        found.append(Message("system" if item.role == "developer" else item.role, content))
    return found


def sampling_of(body: ResponseRequest) -> Sampling:
    """Greedy where neither temperature nor top_p is set. Raises Refused (400)."""
    openai.refuse_unsupported(body, _UNSUPPORTED)
    temperature = body.temperature if body.temperature is not None else (0.0 if body.top_p is None else 1.0)
    return Sampling(max_tokens=body.max_output_tokens, temperature=temperature, top_p=body.top_p)


class Answer:
    """One answer in OpenAI's shape: whole, or as the events of a stream."""

    def __init__(self, request: ResponseRequest, model: str) -> None:
        self._request = request
        self._model = model
        self._id = f"resp_{uuid.uuid4().hex}"
        self._message = f"msg_{uuid.uuid4().hex}"
        self._created = int(time.time())

    def body(self, text: str, finish: Finish) -> dict[str, Any]:
        """The whole answer at once."""
        cut = finish.reason == "length"
        return self._head("incomplete" if cut else "completed") | {
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": [self._item(text, "incomplete" if cut else "completed")],
            "usage": {
                "input_tokens": finish.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": finish.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": finish.prompt_tokens + finish.completion_tokens,
            },
        }

    def _head(self, status: str) -> dict[str, Any]:
        request = self._request
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self._model,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": (request.model_extra or {}).get("metadata") or {},
            "output": [],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": request.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": request.top_p,
            "truncation": "disabled",
            "usage": None,
        }

    def _item(self, text: str | None, status: str) -> dict[str, Any]:
        content = [] if text is None else [_part(text)]
        return {
            "id": self._message,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    async def events(self, items: AsyncGenerator[Piece | Finish]) -> AsyncGenerator[bytes]:
        """The answer as server-sent events. Raises what the engine raises before its first piece."""
        number = -1

        def tell(kind: str, **fields: Any) -> bytes:
            nonlocal number
            number += 1
            value = {"type": kind, "sequence_number": number, **fields}
            return b"event: " + kind.encode() + b"\n" + openai.event(value)

        place = {"item_id": self._message, "output_index": 0, "content_index": 0}
        pieces: list[str] = []
        item: Piece | Finish | None = await anext(items)
        try:
            yield tell("response.created", response=self._head("in_progress"))
            yield tell("response.in_progress", response=self._head("in_progress"))
            yield tell("response.output_item.added", output_index=0, item=self._item(None, "in_progress"))
            yield tell("response.content_part.added", **place, part=_part(""))
            while isinstance(item, Piece):
                pieces.append(item.text)
                yield tell("response.output_text.delta", **place, delta=item.text, logprobs=[])
                item = await anext(items, None)
            assert item is not None
            text = "".join(pieces)
            whole = self.body(text, item)
            yield tell("response.output_text.done", **place, text=text, logprobs=[])
            yield tell("response.content_part.done", **place, part=_part(text))
            yield tell("response.output_item.done", output_index=0, item=whole["output"][0])
            yield tell(f"response.{whole['status']}", response=whole)
        except EngineError as error:
            refused = from_engine(error)
            failed = self._head("failed") | {"error": {"code": "server_error", "message": refused.message}}
            yield tell("response.failed", response=failed)
        finally:
            await items.aclose()


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
