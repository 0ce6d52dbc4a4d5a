"""Chat templates for weights that bring none, by the name of what is served.

Tokenizers of older models, and copies that somebody made, may have none. Models that were never made for conversations
get one that takes a single prompt and continues it, so that `/chat` answers on every engine.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

#: Ours; those whose names begin with tool-chat are named by the catalogue and replace the weights' own.
TEMPLATES: Final = Path(__file__).parents[1] / "templates"
_NAMES: Final = (
    (r"(meta-)?llama-3.*instruct.*", "llama-3-instruct"),
    (r"llama-2-.*chat.*", "llama-2-chat"),
    (r"mistral-7b(-instruct)?(-v0\.\d)?", "mistral-instruct"),
    (r"falcon-(7b|40b)-instruct", "falcon-instruct"),
    (r"phi-3(\.5)?-(mini|medium)-.*", "phi-3"),
    (r"phi-2", "phi-2"),
)
#: Continues one prompt; everything else is refused.
ONE_PROMPT: Final = (
    "{% if messages | length != 1 or messages[0].role != 'user' %}"
    "{{ raise_exception('it continues one prompt, and was not made for conversations.') }}{% endif %}"
    "{{ messages[0].content }}"
)


def template_name(preset: str) -> str | None:
    """Which of ours words conversations for a preset or a model of the hub; None for models made for none."""
    name = preset.lower().rpartition("/")[2]
    return next((template for pattern, template in _NAMES if re.fullmatch(pattern, name)), None)


def source_for(preset: str) -> str | None:
    """That template's text."""
    name = template_name(preset)
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8") if name is not None else None


def begins(weights: Path, token: str) -> bool:
    """Whether the tokenizer puts `token` before every text, by what tokenizer.json says."""
    try:
        added = json.loads((weights / "tokenizer.json").read_text(encoding="utf-8")).get("post_processor")
    except (OSError, ValueError, AttributeError):
        return False
    return bool(token) and f'"SpecialToken": {{"id": {json.dumps(token)},' in json.dumps(added)
