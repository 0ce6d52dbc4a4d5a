"""Templates to manifests.

Templates say what a manifest looks like; they are rendered with StrictUndefined, so a misspelt variable is an error and
not an empty string. Every text that comes from outside goes through `tojson`, whose output is a YAML scalar on one
line, so nothing a user writes can become structure. The result is parsed and handed on as a dict.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import jinja2
import orjson
import yaml

Object = dict[str, Any]

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
REMEMBERED: Final = 4096
"""Rendered manifests kept in memory, so that a reconcile of an unchanged Workspace does not render again."""


def quoted(value: Any) -> str:
    """JSON that YAML reads as the same value: characters that YAML would refuse or fold are escaped.

    Raises ValueError for text with half of a surrogate pair, which no API server takes.
    """
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if _SURROGATE.search(text):
        raise ValueError("text holds an unpaired surrogate")
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def render(template: str, values: Mapping[str, Any]) -> Object:
    """The manifest that `templates/<template>.yaml.j2` describes, as a fresh dict.

    Raises jinja2.UndefinedError for a value that the template needs and `values` lacks.
    """
    rendered: Object = orjson.loads(_rendered(template, orjson.dumps(values, option=orjson.OPT_SORT_KEYS)))
    return rendered


@functools.lru_cache(maxsize=REMEMBERED)
def _rendered(template: str, values: bytes) -> bytes:
    text = _environment().get_template(f"{template}.yaml.j2").render(orjson.loads(values))
    return orjson.dumps(yaml.load(text, Loader=_LOADER))


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
    environment.filters["tojson"] = quoted
    return environment
