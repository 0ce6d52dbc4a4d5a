"""Kubernetes quantities: parsing, comparison and the one canonical spelling each value has."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
"""The pattern Kubernetes prints when a quantity is malformed."""

_QUANTITY = re.compile(
    r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+|Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)?"
)
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_NAMES = {power: suffix for suffix, power in _DECIMAL.items()}
_NANO = 10**9


@lru_cache(maxsize=4096)
def parse(text: str) -> Fraction:
    """The value, rounded up to a nano as Kubernetes does. Raises ValueError if malformed."""
    return _parts(text)[0]


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The spelling Kubernetes stores (`1024Mi` -> `1Gi`, `0.5` -> `500m`). Raises ValueError if malformed."""
    value, form = _parts(text)
    sign, magnitude = ("-" if value < 0 else ""), abs(value)
    if magnitude == 0:
        return "0"
    if form == "binary" and magnitude >= 1024 and magnitude.denominator == 1:
        number, power = magnitude.numerator, 0
        while number % 1024 == 0 and power < 60:
            number, power = number // 1024, power + 10
        suffix = next((name for name, exponent in _BINARY.items() if exponent == power), "")
        return f"{sign}{number}{suffix}"
    nanos, power = (magnitude * _NANO).numerator // (magnitude * _NANO).denominator, -9
    while nanos % 1000 == 0 and power < 18:
        nanos, power = nanos // 1000, power + 3
    if form == "exponent":
        return f"{sign}{nanos}e{power}" if power else f"{sign}{nanos}"
    return f"{sign}{nanos}{_DECIMAL_NAMES[power]}"


def _parts(text: str) -> tuple[Fraction, str]:
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"quantities must match the regular expression '{PATTERN}'")
    sign, digits, suffix = match.group(1), match.group(2), match.group(3) or ""
    value = Fraction(digits if not digits.endswith(".") else digits + "0")
    form = "decimal"
    if suffix in _BINARY:
        value, form = value * 2 ** _BINARY[suffix], "binary"
    elif suffix[:1] in ("e", "E") and len(suffix) > 1:
        exponent = int(suffix[1:])
        if abs(exponent) > 30:
            raise ValueError("unable to parse quantity's suffix")
        value, form = value * Fraction(10) ** exponent, "exponent"
    else:
        value *= Fraction(10) ** _DECIMAL[suffix]
    value = Fraction(-((-value * _NANO) // 1), _NANO)
    return (-value if sign == "-" else value), form
