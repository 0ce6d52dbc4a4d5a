"""What an answer of Azure says, whichever of its shapes it has: codes, messages, and when to come back.

Errors come nested (`{"error": {...}}`, Resource Manager) or flat (`{"code": ..., "message": ...}`, AKS), carry further
errors in `details` and `innererror`, and often quote yet another one, as text or as JSON, within a message.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds; a longer Retry-After, as from a clock that is wrong, is not believed."""
_SHORTEST: Final = 1.0
_DEPTH: Final = 8
_QUOTED_CODE: Final = re.compile(
    r"""\b(?:error\s?|err|sub)?code\W{1,4}(?P<code>[A-Za-z][A-Za-z_]{3,})""", re.IGNORECASE
)
_BARE_CODE: Final = re.compile(r"\bErrCode_\w+")
_SECRETS: Final = (
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"), "<token>"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{4,}", re.IGNORECASE), r"\1 <token>"),
    (
        re.compile(
            r"""\b(sig|signature|client_secret|client_assertion|password|passwd|pwd|accountkey|access_?token|refresh_?token"""
            r"""|id_?token|sharedaccess(?:signature|key)|secret)(["']?\s*(?:=|:|%3d)\s*["']?)[^\s"'&;,)}]+""",
            re.IGNORECASE,
        ),
        r"\1\2<hidden>",
    ),
)


@dataclass(frozen=True, slots=True)
class Signal:
    """One error within an answer: its code, "" if none, and its message."""

    code: str
    message: str


def signals(body: object) -> tuple[Signal, ...]:
    """All errors in a body, outermost first; those that a message quotes come after it. Empty: there is none."""
    return tuple(_walk(body, _DEPTH))


def _walk(node: object, depth: int) -> Iterator[Signal]:
    if depth == 0:
        return
    if isinstance(node, Sequence) and not isinstance(node, str | bytes):
        for each in node:
            yield from _walk(each, depth - 1)
        return
    if not isinstance(node, Mapping):
        return
    if isinstance(node.get("error"), Mapping):
        yield from _walk(node["error"], depth - 1)
        return
    code, message = _text(node.get("code")), _text(node.get("message"))
    if code or message:
        yield Signal(code, message)
    if subcode := _text(node.get("subcode") or node.get("subCode")):
        yield Signal(subcode, message)
    yield from _quoted(message, depth)
    for key in ("details", "innererror", "innerError"):
        yield from _walk(node.get(key), depth - 1)


def _quoted(message: str, depth: int) -> Iterator[Signal]:
    """Errors that a message repeats: as JSON, or as `Code="AllocationFailed" Message="..."`."""
    start = message.find("{")
    if start >= 0:
        try:
            found, _ = json.JSONDecoder().raw_decode(message[start:])
        except ValueError:
            found = None
        yield from _walk(found, depth - 1)
    for match in _QUOTED_CODE.finditer(message):
        yield Signal(match["code"], message)
    for match in _BARE_CODE.finditer(message):
        yield Signal(match[0], message)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds from the header Retry-After, which has seconds or a date; None: there is none that makes sense.

    A date is measured against the answer's own header Date, so that neither clock needs to be right; against `now`
    where that is missing. At least one second, at most `LONGEST_RETRY_AFTER`.
    """
    found = {name.lower(): value for name, value in headers.items()}
    value = found.get("retry-after", "").strip()
    if not value:
        return None
    seconds = _number(value)
    if seconds is None:
        at, sent = _date(value), _date(found.get("date", "")) or now
        if at is None or sent is None:
            return None
        seconds = (at - sent).total_seconds()
    return min(max(seconds, _SHORTEST), LONGEST_RETRY_AFTER)


def told_to_wait(message: str) -> float | None:
    """Seconds from a sentence such as `please retry again in 21 seconds`."""
    match = re.search(
        r"(?:retry|try)(?: again)?(?: after| in)\s+(\d{1,6})\s*(second|minute)", message, re.IGNORECASE
    )
    if match is None:
        return None
    return min(float(match[1]) * (60.0 if match[2].lower() == "minute" else 1.0), LONGEST_RETRY_AFTER)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def without_secrets(text: str) -> str:
    """The text with tokens, passwords and signatures taken out, whatever put them there."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def one_line(text: str, limit: int = 400) -> str:
    """Cut to a length that leaves room for what to do about it, without line ends and secrets."""
    text = " ".join(without_secrets(text).split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
