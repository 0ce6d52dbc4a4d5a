"""Counts the tokens of a prompt before the engine sees it, by rendering the model's own chat template.

The engine renders the template itself when it answers; this copy exists so that an over-long prompt is refused with
its exact length, and so that a limit below the model's own (`--max-model-len`) can be kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kaito_presets.engines import BadPrompt, BadWeights, Message, fallback

#: Marks that are for training alone: what is between them is the assistant's.
#: What ends a template's program: its text is from the weights, and not all of them foresee every conversation.
_FAULTS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)
_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")


class TemplateRefused(BadPrompt):
    """The template called raise_exception(): the conversation has a shape that the model wasn't trained on."""


class ChatTemplate:
    """The template of a Hugging Face directory, with the variables and helpers that such templates expect."""

    def __init__(self, source: str, variables: dict[str, Any]) -> None:
        self.source = _GENERATION.sub("", source)
        self._template = _compile(self.source)
        self._variables = variables
        self.begin = variables.get("bos_token", "") if variables.get("add_bos_token") else ""
        """What the tokenizer puts before a text that no template made."""

    @classmethod
    def of(cls, weights: Path, preset: str = "") -> ChatTemplate | None:
        """The weights' own, else ours for the preset or model of that name; None where there is neither, and for a
        GGUF file, whose template is inside. Raises BadWeights for one that is damaged."""
        settings = _json_of(weights / "tokenizer_config.json")
        source = own_source(weights)
        if source is None and settings:
            source = fallback.source_for(preset)
        if source is None:
            return None
        try:
            return cls(source, _variables(settings))
        except jinja2.TemplateSyntaxError as error:
            raise BadWeights(
                f"The chat template in the weights directory is damaged, in line {error.lineno}: {error}"
            ) from error
        except _FAULTS as error:
            raise BadWeights(f"The chat template in the weights directory is damaged: {error}") from error

    @classmethod
    def of_one_prompt(cls, weights: Path) -> ChatTemplate:
        """Takes one prompt and no conversation; for weights that have no template, and for which we have none."""
        variables = _variables(_json_of(weights / "tokenizer_config.json"))
        first = variables["add_bos_token"] or fallback.begins(weights, variables["bos_token"])
        return cls(("{{ bos_token }}" if first else "") + fallback.ONE_PROMPT, variables)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as the model sees it. Raises BadPrompt when the template refuses the conversation."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(messages=turns, add_generation_prompt=True, **self._variables)
        except TemplateRefused:
            raise
        except _FAULTS as error:
            raise BadPrompt(f"The model's chat template can't word this conversation: {error}") from error


def own_source(weights: Path) -> str | None:
    """The chat template that comes with the weights; None where none does. Raises BadWeights."""
    separate = _text_of(weights / "chat_template.jinja")
    if separate is not None:
        return separate
    for name in ("tokenizer_config.json", "chat_template.json"):
        source = _json_of(weights / name).get("chat_template")
        if isinstance(source, list):  # several named templates
            named = [each for each in source if isinstance(each, dict) and each.get("name") == "default"]
            source = named[0].get("template") if named else None
        if isinstance(source, str):
            return source
    return None


def _variables(settings: dict[str, Any]) -> dict[str, Any]:
    """What templates may ask of a tokenizer_config.json."""
    tokens = {key: _token(settings.get(key)) for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return tokens | {"add_bos_token": settings.get("add_bos_token") is True}


def _json_of(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty where there is none. Raises BadWeights."""
    try:
        found = json.loads(_text_of(path) or "{}")
    except (ValueError, RecursionError) as error:
        raise BadWeights(f"{path.name} in the weights directory is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise BadWeights(f"{path.name} in the weights directory is not a JSON object.")
    return found


def _text_of(path: Path) -> str | None:
    """A file's text; None where there is none. Raises BadWeights."""
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, ValueError) as error:
        raise BadWeights(f"{path.name} in the weights directory can't be read: {error}.") from error


def _token(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _compile(source: str) -> jinja2.Template:
    def refuse(message: str) -> None:
        raise TemplateRefused(f"The model's chat template refuses this conversation: {message}")

    def to_json(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    return environment.from_string(source)
