"""Prices as a cloud's list says them, made into one for each size. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a list about one size: paid by the hour, on demand, with Linux."""

    size: str
    per_hour: float
    currency: str
    source: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is certain; and why the rest is unknown, by size."""

    prices: tuple[Said, ...]
    unknown: dict[str, str]
    absent: tuple[str, ...] = ()
    """Those of the unknown that the list does not have at all: the cloud does not sell them there."""


def settle(sizes: Iterable[str], said: Iterable[Said]) -> Found:
    """One price for each size that the list is of one mind about."""
    by_size: dict[str, dict[tuple[float, str], Said]] = {}
    for each in said:
        by_size.setdefault(each.size.lower(), {}).setdefault((each.per_hour, each.currency), each)
    prices: list[Said] = []
    unknown: dict[str, str] = {}
    absent: list[str] = []
    for size in sizes:
        lines = list(by_size.get(size.lower(), {}).values())
        match lines:
            case []:
                unknown[size] = "the list does not have it there"
                absent.append(size)
            case [one]:
                prices.append(Said(size, one.per_hour, one.currency, one.source))
            case _:
                amounts = ", ".join(f"{each.per_hour:g} {each.currency}" for each in lines)
                unknown[size] = f"the list has several prices for it: {amounts}"
    return Found(tuple(prices), unknown, tuple(absent))
