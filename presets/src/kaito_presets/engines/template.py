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

from kaito_presets.engines import BadPrompt, Message

#: Marks that are for training alone: what is between them is the assistant's.
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
    def of(cls, weights: Path) -> ChatTemplate | None:
        """From chat_template.jinja or tokenizer_config.json; None when the directory has neither (a GGUF file)."""
        settings: dict[str, Any] = {}
        config = weights / "tokenizer_config.json"
        if config.is_file():
            settings = json.loads(config.read_text(encoding="utf-8"))
        separate = weights / "chat_template.jinja"
        source = separate.read_text(encoding="utf-8") if separate.is_file() else settings.get("chat_template")
        if isinstance(source, list):  # several named templates
            source = next((entry["template"] for entry in source if entry.get("name") == "default"), None)
        if not isinstance(source, str):
            return None
        variables = {
            key: _token(settings.get(key)) for key in ("bos_token", "eos_token", "unk_token", "pad_token")
        }
        return cls(source, variables | {"add_bos_token": settings.get("add_bos_token") is True})

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as the model sees it. Raises BadPrompt when the template refuses the conversation."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(messages=turns, add_generation_prompt=True, **self._variables)
        except TemplateRefused:
            raise
        except jinja2.TemplateError as error:
            raise BadPrompt(f"The model's chat template can't word this conversation: {error}") from error


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
