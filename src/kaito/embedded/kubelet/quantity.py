"""Kubernetes quantities, as far as the downward API needs them."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
}
_FORM = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)([a-zA-Z]*)")


def parse(text: str) -> Decimal:
    """The number a quantity stands for. Raises ValueError."""
    match = _FORM.fullmatch(text.strip())
    if match is None or match.group(2) not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity; write e.g. 500m, 2, 1Gi")
    return Decimal(match.group(1)) * _SUFFIXES[match.group(2)]


def divided(quantity: str, divisor: str) -> str:
    """`quantity / divisor`, rounded up to a whole number, as the downward API shows resources."""
    return str(math.ceil(parse(quantity) / parse(divisor)))
