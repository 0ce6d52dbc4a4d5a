"""POST /v1/chat/completions, POST /v1/completions and GET /v1/models: the shapes that OpenAI's clients expect.

Features that would change the answer and that no engine here has are refused by name, never ignored. Fields that only
describe the request (user, metadata, …) are ignored.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from kaito_presets.engines import EngineError, Finish, Message, Piece, Sampling
from kaito_presets.server.errors import Refused, from_engine, openai_body
from kaito_presets.server.fields import (
    MAX_ITEMS,
    Count,
    OneOr,
    Penalty,
    RepetitionPenalty,
    Seed,
    Share,
    Temperature,
    Text,
    TopK,
)
from kaito_presets.server.names import ModelNames

MAX_STOPS = 4
#: Texts that one request to /v1/completions may have continued.
MAX_PROMPTS = 16
#: Fields with another value than these ask for something that can't be done.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (1, None),
    "tools": ([], None),
    "functions": ([], None),
    "tool_choice": ("none", "auto", None),
    "logprobs": (False, None),
    "top_logprobs": (0, None),
    "logit_bias": ({}, None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "audio": (None,),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": ("", None),
    "web_search_options": (None,),
    "reasoning_effort": ("none", None),
    "prediction": (None,),
    # of vLLM's beside OpenAI's
    "allowed_token_ids": (None,),
    "bad_words": ([], None),
    "chat_template": (None,),
    "chat_template_kwargs": ({}, None),
    "continue_final_message": (False, None),
    "add_generation_prompt": (True, None),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "guided_json": (None,),
    "guided_regex": (None,),
    "ignore_eos": (False, None),
    "include_stop_str_in_output": (False, None),
    "length_penalty": (1, None),
    "logits_processors": (None,),
    "min_p": (0, None),
    "min_tokens": (0, None),
    "prompt_logprobs": (None,),
    "skip_special_tokens": (True, None),
    "stop_token_ids": ([], None),
    "structured_outputs": (None,),
    "truncate_prompt_tokens": (None,),
    "use_beam_search": (False, None),
}


class Part(BaseModel):
    """One part of a message's content."""

    type: str
    text: Text | None = None


class Turn(BaseModel):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: OneOr[Text, Part]


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    include_usage: StrictBool = False


class Settings(BaseModel):
    """What both APIs take."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: TopK | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: RepetitionPenalty | None = None
    stop: OneOr[Text, Text] | None = None
    seed: Seed | None = None
    stream: StrictBool = False
    stream_options: StreamOptions | None = None

    @property
    def include_usage(self) -> bool:
        """Whether the last event of a stream tells the number of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatCompletionRequest(Settings):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=MAX_ITEMS)]
    max_completion_tokens: Count | None = None


class TextCompletionRequest(Settings):
    """The body of POST /v1/completions: text, which is continued as it is."""

    prompt: OneOr[Text, Text]


#: OpenAI's default for /v1/completions.
DEFAULT_TEXT_TOKENS = 16


def prompts_of(body: TextCompletionRequest) -> list[str]:
    """The texts to continue. Raises Refused (400, 422) for what can't be done with several."""
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise Refused(422, f"prompt: give from 1 to {MAX_PROMPTS} texts, not {len(prompts)}.", param="prompt")
    if body.stream and len(prompts) > 1:
        raise Refused(400, "prompt: with stream, give one text, not several.", param="prompt")
    return prompts


def messages_of(body: ChatCompletionRequest) -> list[Message]:
    """The conversation with the parts of each message joined. Raises Refused (400) for anything but text."""
    found = []
    for index, turn in enumerate(body.messages):
        content = turn.content
        if not isinstance(content, str):
            other = next((part.type for part in content if part.type != "text" or part.text is None), None)
            if other is not None:
                where = f"messages.{index}.content"
                raise Refused(400, f"{where}: this model reads text only, not {other}.", param=where)
            content = "\n".join(part.text or "" for part in content)
        found.append(Message("system" if turn.role == "developer" else turn.role, content))
    return found


def refuse_unsupported(body: BaseModel, neutral: Mapping[str, Sequence[Any]] = _UNSUPPORTED) -> None:
    """Raises Refused (400) for a field that asks for what no engine here does: `neutral` has the values that don't."""
    for name, value in (body.model_extra or {}).items():
        if name in neutral and value not in neutral[name]:
            raise Refused(
                400, f"{name} is not supported by this server.", code="unsupported_parameter", param=name
            )


def sampling_of(body: Settings, max_tokens: int | None) -> Sampling:
    """The request's settings for the engine. Greedy where no temperature is set. Raises Refused (400)."""
    refuse_unsupported(body)
    temperature = body.temperature if body.temperature is not None else (0.0 if body.top_p is None else 1.0)
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stop) > MAX_STOPS or not all(stop):
        raise Refused(400, f"stop: give at most {MAX_STOPS} texts, none of them empty.", param="stop")
    return Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=body.top_p,
        top_k=body.top_k or None,
        repetition_penalty=body.repetition_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        stop=tuple(stop),
        seed=body.seed,
    )


def unknown_model(name: str, names: ModelNames) -> Refused:
    """OpenAI's answer to a model that isn't there."""
    listed = ", ".join(model.name for model in names.listed())
    return Refused(
        404,
        f"The model {name!r} does not exist; served here: {listed}.",
        code="model_not_found",
        param="model",
    )


def models_body(names: ModelNames, created: int) -> dict[str, Any]:
    """The answer of GET /v1/models."""
    data = []
    for model in names.listed():
        entry: dict[str, Any] = {"id": model.name, "object": "model", "created": created, "owned_by": "kaito"}
        if model.parent:
            entry["parent"] = model.parent
        if names.stand_in:
            entry["stand_in_weights"] = names.stand_in
            entry["description"] = names.notice
        data.append(entry)
    return {"object": "list", "data": data}


def _usage(*finishes: Finish) -> dict[str, int]:
    read = sum(finish.prompt_tokens for finish in finishes)
    written = sum(finish.completion_tokens for finish in finishes)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def completion_body(model: str, text: str, finish: Finish) -> dict[str, Any]:
    """The whole answer at once."""
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": finish.reason,
            }
        ],
        "usage": _usage(finish),
    }


def text_body(model: str, answers: Sequence[tuple[str, Finish]]) -> dict[str, Any]:
    """The whole answer of /v1/completions: one choice for each prompt."""
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {"index": index, "text": text, "logprobs": None, "finish_reason": finish.reason}
            for index, (text, finish) in enumerate(answers)
        ],
        "usage": _usage(*(finish for _, finish in answers)),
    }


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def events(
    model: str, items: AsyncGenerator[Piece | Finish], *, chat: bool, include_usage: bool
) -> AsyncGenerator[bytes]:
    """The answer as server-sent events, some at a time. Raises what the engine raises before its first piece.

    `chat`: in the shape of /v1/chat/completions, else in that of /v1/completions.
    """
    head = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": int(time.time()),
        "model": model,
    }

    def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
        told = {"delta": delta} if chat else {"text": delta.get("content", "")}
        choice = {"index": 0, **told, "logprobs": None, "finish_reason": reason}
        return event(head | {"choices": [choice]} | ({"usage": None} if include_usage else {}))

    # All pieces' events are the same but for the text, which alone is written anew.
    before, _, after = chunk({"content": ""}).rpartition(b'""')
    item: Piece | Finish | None = await anext(items)
    told = chunk({"role": "assistant", "content": ""}) if chat else b""
    try:
        while isinstance(item, Piece):
            yield b"".join((told, before, json.dumps(item.text, ensure_ascii=False).encode(), after))
            told = b""
            item = await anext(items, None)
        assert item is not None
        told += chunk({}, item.reason)
        if include_usage:
            told += event(head | {"choices": [], "usage": _usage(item)})
    except EngineError as error:
        refused = from_engine(error)
        told += event(openai_body(refused.status, refused.message, refused.code))
    finally:
        await items.aclose()
    yield told + b"data: [DONE]\n\n"
