"""POST /chat, the endpoint of the first KAITO servers.

Its fields, its answer and its errors are kept. Where a request sets nothing, ours differs on purpose: the prompt goes
through the model's chat template, the answer does not repeat it, up to 512 new tokens are generated, and the choice
is greedy, so the same question gives the same answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from kaito_presets.engines import Message, Sampling
from kaito_presets.server.errors import Refused
from kaito_presets.server.fields import (
    MAX_ITEMS,
    Count,
    OneOr,
    RepetitionPenalty,
    Share,
    Temperature,
    Text,
    TokenId,
    TopK,
)

DEFAULT_NEW_TOKENS = 512
#: generate_kwargs that change nothing when they have this value, and that no engine here can do otherwise.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "min_length": (0, None),
    "early_stopping": (False, None),
    "num_beams": (1, None),
    "num_beam_groups": (1, None),
    "num_return_sequences": (1, None),
    "typical_p": (1, None),
    "length_penalty": (1, None),
    "diversity_penalty": (0, None),
    "no_repeat_ngram_size": (0, None),
}


class Turn(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: Text


class GenerateKwargs(BaseModel):
    """How to generate, by the names of Hugging Face's generate()."""

    model_config = ConfigDict(extra="allow")
    max_length: Count | None = None
    """Most tokens of prompt and answer together."""
    max_new_tokens: Count | None = None
    """Most tokens of the answer; wins over max_length."""
    do_sample: StrictBool | None = None
    """true draws tokens at random; unset means true when temperature, top_k or top_p is set, else false."""
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: Share | None = None
    repetition_penalty: RepetitionPenalty | None = None
    stop_strings: OneOr[Text, Text] | None = None
    pad_token_id: OneOr[TokenId, TokenId] | None = None
    """Accepted and not needed: the model's own is used."""
    eos_token_id: OneOr[TokenId, TokenId] | None = None
    """Accepted and not needed: the model's own is used."""


class ChatRequest(BaseModel):
    """The body of POST /chat: either prompt or messages."""

    model_config = ConfigDict(extra="forbid")
    prompt: Text | None = None
    messages: Annotated[list[Turn], Field(max_length=MAX_ITEMS)] | None = None
    return_full_text: StrictBool = False
    clean_up_tokenization_spaces: StrictBool = False
    prefix: Text | None = None
    """Put before the prompt."""
    handle_long_generation: str | None = None
    generate_kwargs: GenerateKwargs | None = None


class ChatAnswer(BaseModel):
    """The body of the answer."""

    Result: str


def messages_of(body: ChatRequest) -> list[Message]:
    """The conversation to answer. Raises Refused (400) when there is none, or two."""
    if body.prompt is not None and body.messages is not None:
        raise Refused(400, "Give either prompt or messages, not both.")
    if body.messages is not None:
        if not body.messages:
            raise Refused(400, "Conversational parameter messages required")
        return [Message(turn.role, turn.content) for turn in body.messages]
    if not body.prompt:
        raise Refused(400, "Text generation parameter prompt required")
    if body.handle_long_generation is not None:
        raise Refused(
            400, "handle_long_generation is not supported: an over-long prompt is refused with its length."
        )
    return [Message("user", (body.prefix or "") + body.prompt)]


def sampling_of(kwargs: GenerateKwargs | None, prompt_tokens: int | None = None) -> Sampling:
    """generate_kwargs for the engine. Raises Refused (400) for what can't be done.

    `max_length` counts the prompt, too: it is applied as far as `prompt_tokens` is known.
    """
    kwargs = kwargs or GenerateKwargs()
    for name, value in (kwargs.model_extra or {}).items():
        if value not in _NEUTRAL.get(name, ()):
            known = sorted(GenerateKwargs.model_fields)
            raise Refused(
                400, f"generate_kwargs.{name}={value!r} is not supported; supported are {', '.join(known)}."
            )
    asked = any(value is not None for value in (kwargs.temperature, kwargs.top_k, kwargs.top_p))
    draws = asked if kwargs.do_sample is None else kwargs.do_sample
    temperature = (1.0 if kwargs.temperature is None else kwargs.temperature) if draws else 0.0
    stop = [kwargs.stop_strings] if isinstance(kwargs.stop_strings, str) else kwargs.stop_strings or []
    if kwargs.max_new_tokens is not None:
        new = kwargs.max_new_tokens
    elif kwargs.max_length is not None:
        new = kwargs.max_length - (prompt_tokens or 0)
        if new < 1:
            raise Refused(
                400,
                f"generate_kwargs.max_length is {kwargs.max_length}, but the prompt alone has {prompt_tokens} tokens; "
                "raise it, or set max_new_tokens instead.",
            )
    else:
        new = DEFAULT_NEW_TOKENS
    return Sampling(
        max_tokens=new,
        temperature=temperature,
        top_p=kwargs.top_p if draws else None,
        top_k=(kwargs.top_k or None) if draws else None,
        repetition_penalty=kwargs.repetition_penalty,
        stop=tuple(text for text in stop if text),
    )


_TIDY = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
    (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def result_of(body: ChatRequest, answer: str) -> str:
    """The text of `Result`: the answer, tidied and with the prompt before it where the request asks for that."""
    if body.clean_up_tokenization_spaces:
        for spaced, tight in _TIDY:
            answer = answer.replace(spaced, tight)
    if body.return_full_text and body.prompt is not None:
        return (body.prefix or "") + body.prompt + answer
    return answer
