"""String formats and regular expressions of OpenAPI schemas, as the Go server reads them."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_DURATION = re.compile(r"([-+])?((?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_UUID = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")
_HOSTNAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*"
)
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ", "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ", "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_CLASS = re.compile(r"\[:(\^?)(\w+):\]")


@lru_cache(maxsize=1024)
def compile_pattern(text: str) -> re.Pattern[str]:
    """A Go (RE2) regular expression as a Python one. Raises ValueError for what RE2 does not have."""
    if re.search(r"(?<!\\)\(\?(=|!|<=|<!|\()", text) or re.search(r"(?<!\\)(\\\\)*\\[1-9]", text):
        raise ValueError(
            "invalid or unsupported Perl syntax: look-around and back-references do not exist in RE2"
        )
    result: list[str] = []
    index, in_class = 0, False
    while index < len(text):
        sign = text[index]
        if sign == "\\" and index + 1 < len(text):
            following = text[index + 1]
            result.append(r"\Z" if following == "z" and not in_class else sign + following)
            index += 2
            continue
        posix = _CLASS.match(text, index) if in_class else None
        if posix and posix.group(2) in _POSIX and not posix.group(1):
            result.append(_POSIX[posix.group(2)])
            index = posix.end()
            continue
        if sign == "[":
            in_class, sign = True, r"\[" if in_class else "["
        elif sign == "]" and in_class:
            in_class = False
        elif sign == "$" and not in_class:
            sign = r"\Z"
        result.append(sign)
        index += 1
    try:
        return re.compile("".join(result), re.ASCII)
    except re.error as error:
        raise ValueError(str(error)) from error


def parse_duration(text: str) -> timedelta:
    """A Go duration such as `1h30m`. Raises ValueError."""
    if text in ("0", "+0", "-0"):
        return timedelta()
    if not _DURATION.fullmatch(text):
        raise ValueError(f"invalid duration {text!r}")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


def parse_date_time(text: str) -> datetime:
    """An RFC 3339 time. Raises ValueError."""
    if not _DATE_TIME.fullmatch(text):
        raise ValueError(f"invalid date-time {text!r}")
    return datetime.fromisoformat(text.upper())


def _parses(parse: Callable[[str], object]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, str):
            return True
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return check


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, str) or pattern.fullmatch(value) is not None


def _base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _uri(text: str) -> None:
    if not urlsplit(text).scheme and not text.startswith("/"):
        raise ValueError("not a URI")


def _integer(bits: int) -> Callable[[Any], bool]:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return lambda value: not isinstance(value, int) or low <= value <= high


FORMATS: dict[str, Callable[[Any], bool]] = {
    "int32": _integer(32),
    "int64": _integer(64),
    "date-time": _parses(parse_date_time),
    "datetime": _parses(parse_date_time),
    "date": _parses(date.fromisoformat),
    "duration": _parses(parse_duration),
    "byte": _parses(_base64),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": _parses(lambda text: ipaddress.ip_network(text, strict=False)),
    "uri": _parses(_uri),
    "uuid": _matches(_UUID),
    "hostname": _matches(_HOSTNAME),
    "mac": _matches(_MAC),
    "email": _matches(_EMAIL),
}
"""Formats that are checked; others are ignored, as Kubernetes ignores formats it doesn't know."""
