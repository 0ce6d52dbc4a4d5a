"""The figures in Azure's sentences about quotas: the only place where it tells them when it refuses.

Compute words it one way, AKS's own check before that in two others, and classic APIs in a fourth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

REGIONAL: Final = "Total Regional"
SPOT: Final = "LowPriority"
_LINK_LIMIT: Final = 160
"""Characters; longer links end in pages of parameters that a condition's message has no room for."""

_FAMILY: Final = (
    re.compile(r"exceeding approved\s+(?P<family>.+?)\s*(?:Cores|vCPUs)\s+quota", re.IGNORECASE),
    re.compile(r"remaining\s+-?\d+\s+for family\s+(?P<family>.+?)\s+for region", re.IGNORECASE),
    re.compile(r"quota limits? of\s+(?P<family>\w+)", re.IGNORECASE),
)
_REGIONAL: Final = re.compile(
    r"regional (?:vcpu|core)|Total Regional|quota limits? of cores?\b", re.IGNORECASE
)
_SPOT: Final = re.compile(r"low-?\s?priority|\bspot\b", re.IGNORECASE)
_REGION: Final = (
    re.compile(r"Location:\s*(\w+)", re.IGNORECASE),
    re.compile(r"for (?:region|location)\s+(\w+)", re.IGNORECASE),
)
_LIMIT: Final = re.compile(r"(?:Current Limit|Maximum allowed):\s*(\d+)", re.IGNORECASE)
_USED: Final = re.compile(r"(?:Current Usage|Current in use):\s*(\d+)", re.IGNORECASE)
_NEEDED: Final = re.compile(
    r"(?:Additional (?:Required|requested):|vcpu quota requested|requested quota)\s*(\d+)", re.IGNORECASE
)
_LEFT: Final = re.compile(r"(?:remaining|left regional vcpu quota)\s+(-?\d+)", re.IGNORECASE)
_LINK: Final = re.compile(
    r"(?:increase at|increase, please follow this instruction:)\s*(https://[^\s\"'<>]+)"
)


@dataclass(frozen=True, slots=True)
class QuotaFigures:
    """Figures in vCPUs; None: Azure did not say. family: as Azure writes it; "" for the region's total."""

    family: str = ""
    regional: bool = False
    spot: bool = False
    region: str = ""
    needed: int | None = None
    used: int | None = None
    limit: int | None = None
    left: int | None = None
    link: str = ""

    @property
    def is_none_granted(self) -> bool:
        """The subscription was never given any."""
        return self.limit == 0

    def sentence(self, region: str, page: str) -> str:
        """For users. region, page: the cluster's region and where quotas are raised, if Azure did not say."""
        parts = [f"the quota of {self._what()} in {self.region or region} does not suffice"]
        if self.needed is not None:
            parts.append(f": {self.needed} vCPUs needed")
        if self.used is not None and self.limit is not None:
            parts.append(f", {self.used} of {self.limit} in use")
        elif self.left is not None:
            parts.append(f", {self.left} left")
        parts.append(f"; raise it at {self.link or page}, free machines, or name another size")
        return "".join(parts)

    def _what(self) -> str:
        if self.spot:
            return "spot vCPUs"
        return "all sizes together (total regional vCPUs)" if self.regional else self.family or "vCPUs"


def quota_figures(message: str) -> QuotaFigures:
    """What a sentence of Azure's says of a quota; fields that it does not mention are empty."""
    spot = _SPOT.search(message) is not None
    regional = not spot and _REGIONAL.search(message) is not None
    return QuotaFigures(
        family="" if regional or spot else _family(message),
        regional=regional,
        spot=spot,
        region=_first(message, *_REGION).lower(),
        needed=_figure(message, _NEEDED),
        used=_figure(message, _USED),
        limit=_figure(message, _LIMIT),
        left=_figure(message, _LEFT),
        link=_link(message),
    )


def _family(message: str) -> str:
    for pattern in _FAMILY:
        match = pattern.search(message)
        if match is not None:
            return match["family"].strip()
    return ""


def _first(message: str, *patterns: re.Pattern[str]) -> str:
    return next((match[1] for pattern in patterns if (match := pattern.search(message))), "")


def _figure(message: str, pattern: re.Pattern[str]) -> int | None:
    match = pattern.search(message)
    return None if match is None else int(match[1])


def _link(message: str) -> str:
    link = _first(message, _LINK).rstrip(".,;)")
    if len(link) > _LINK_LIMIT:
        link = link.split("/Parameters/")[0]
    return link if len(link) <= _LINK_LIMIT else ""
