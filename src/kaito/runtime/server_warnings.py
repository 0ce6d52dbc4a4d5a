"""Warnings that the API server sends beside an answer: deprecated versions, unknown fields, odd values.

They come as `Warning` headers (RFC 7234, code 299). Each text is worth one log line, however often a
reconcile loop provokes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from multidict import MultiMapping

from kaito.runtime.logs import get_logger

WarningHandler = Callable[[str], None]

MEMORY = 1000
"""Different texts that a `WarningLog` remembers; further ones are logged each time."""

_WARNING = re.compile(r'\s*(\d{3}) +(?:[^\s"]+) +"((?:[^"\\]|\\.)*)"(?: +"[^"]*")?\s*(?:,|(?=\d{3} )|$)')
_ESCAPED = re.compile(r"\\(.)")

log = get_logger(__name__)


class WarningLog:
    """The usual handler: logs each text once."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, text: str) -> None:
        if text in self._seen:
            return
        if len(self._seen) < MEMORY:
            self._seen.add(text)
        log.warning("the API server warns", text=text)


def parse_warnings(headers: Mapping[str, str]) -> list[str]:
    """The texts of all Warning headers with code 299, the one that API servers use; others are of caches."""
    values = headers.getall("Warning", []) if isinstance(headers, MultiMapping) else [headers["Warning"]]
    texts: list[str] = []
    for value in values:
        position = 0
        while match := _WARNING.match(value, position):
            if match[1] == "299":
                texts.append(_ESCAPED.sub(r"\1", match[2]))
            position = match.end()
            if position >= len(value):
                break
    return texts
