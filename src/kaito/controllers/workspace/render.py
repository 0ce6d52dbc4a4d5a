"""Templates to manifests.

Templates say what a manifest looks like; they are rendered with StrictUndefined, so a misspelt variable is an error and
not an empty string. Every text that comes from outside goes through `tojson`, which leaves a numbered slot in the text
and keeps the value aside: YAML only ever sees the template's own words and slots, so nothing a user writes can become
structure. The text is parsed, and the values go into their slots. Workspaces of one shape have one text, parsed once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import jinja2
import orjson
import yaml
from jinja2.runtime import Context

Object = dict[str, Any]

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SLOTS: Final = "__slots__"
REMEMBERED: Final = 64
"""Rendered manifests kept in memory, for the passes that follow closely on one another. Rendering takes 0.1 ms; all
manifests of thousands of Workspaces would take more memory than all their objects."""
SHAPES: Final = 256
"""Parsed texts kept in memory: a template gives few different ones, by its conditions and the lengths of its lists."""


def render(template: str, values: Mapping[str, Any]) -> Object:
    """The manifest that `templates/<template>.yaml.j2` describes, as a fresh dict.

    Raises jinja2.UndefinedError for a value that the template needs and `values` lacks, TypeError for a text with half
    of a surrogate pair, which no API server takes.
    """
    rendered: Object = orjson.loads(_rendered(template, orjson.dumps(values, option=orjson.OPT_SORT_KEYS)))
    return rendered


@functools.lru_cache(maxsize=REMEMBERED)
def _rendered(template: str, values: bytes) -> bytes:
    slots: dict[str, Any] = {}
    text = _environment().get_template(f"{template}.yaml.j2").render({**orjson.loads(values), _SLOTS: slots})
    return orjson.dumps(_filled(_parsed(text), slots))


@functools.lru_cache(maxsize=SHAPES)
def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_LOADER)


def _filled(tree: Any, slots: Mapping[str, Any]) -> Any:
    """The tree, which is left as it is, with the values in the place of their slots."""
    if isinstance(tree, dict):
        return {_filled(key, slots): _filled(value, slots) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(item, slots) for item in tree]
    return slots.get(tree, tree) if isinstance(tree, str) else tree


@jinja2.pass_context
def _slot(context: Context, value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises what it stands for
    slots: dict[str, Any] = context[_SLOTS]
    name = f"__{len(slots)}__"
    slots[name] = value
    return name


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kaito.controllers.workspace", "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # YAML, not HTML: every value goes through `tojson`
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["tojson"] = _slot
    return environment
