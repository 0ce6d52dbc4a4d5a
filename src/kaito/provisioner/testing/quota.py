"""Cores: what the subscription may use in the region, what it uses, and what the Compute usages API says that it uses.

The API's figures lag behind (`lag` seconds), and AKS refuses by those figures; the machines themselves are counted by
Compute when they are made. So claims that come together may pass the first check and fail at the second, as they do on
Azure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kaito.provisioner.testing.messages import ErrorDetail
from kaito.provisioner.testing.sizes import Size

CORES: Final = "cores"
SPOT_CORES: Final = "lowPriorityCores"
_LOCALIZED: Final = {CORES: "Total Regional vCPUs", SPOT_CORES: "Total Regional Low-priority vCPUs"}
_OTHER: Final = (
    ("availabilitySets", "Availability Sets", 2500, 0),
    ("virtualMachines", "Virtual Machines", 25000, 5),
    ("virtualMachineScaleSets", "Virtual Machine Scale Sets", 2500, 2),
)
"""Usages that are not cores: name, title, limit, current value."""
PLENTY: Final = 10_000


@dataclass
class _Holding:
    """Cores of a pool, from when until when (clock seconds)."""

    pool: str
    names: tuple[str, ...]
    cores: int
    since: float
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class Shortage:
    """A quota that a request does not fit in; figures in cores."""

    name: str
    limit: int
    used: int
    needed: int

    def refusal(self, location: str) -> ErrorDetail:
        """AKS, before it starts anything."""
        left = max(self.limit - self.used, 0)
        if self.name == CORES:
            words = (
                f"Insufficient regional vcpu quota left for location {location}. left regional vcpu quota {left}, "
                f"requested quota {self.needed}."
            )
        else:
            words = (
                f"Insufficient vcpu quota requested {self.needed}, remaining {left} for family {self.name} "
                f"for region {location}."
            )
        return ErrorDetail(
            "ErrCode_InsufficientVCPUQuota",
            f"{words} If you want to increase the quota, please follow this instruction: "
            "https://learn.microsoft.com/azure/quotas/view-quotas.",
        )

    def failure(self, location: str) -> ErrorDetail:
        """Compute, while the machine is being made."""
        title = {CORES: "Total Regional Cores", SPOT_CORES: "LowPriorityCores"}.get(
            self.name, f"{self.name} Cores"
        )
        return ErrorDetail(
            "OperationNotAllowed",
            f"Operation could not be completed as it results in exceeding approved {title} quota. Additional "
            f"details - Deployment Model: Resource Manager, Location: {location}, Current Limit: {self.limit}, "
            f"Current Usage: {self.used}, Additional Required: {self.needed}, (Minimum) New Limit Required: "
            f"{self.used + self.needed}. Submit a request for Quota increase at https://aka.ms/ProdportalCRP/"
            "#blade/Microsoft_Azure_Capacity/UsageAndQuota.ReactView by specifying parameters listed in the "
            "'Details' section for deployment to succeed.",
        )


class Quota:
    """Cores by family, regional in total, and spot.

    lag: seconds after which the usage figures show a change; 0: at once.
    """

    def __init__(self) -> None:
        self.lag = 0.0
        self._limits: dict[str, tuple[str, int]] = {}
        """By lower-case name, for cases differ between Azure's APIs: the name as it is written, and the limit."""
        self._base: dict[str, int] = {}
        self._holdings: list[_Holding] = []
        self.limit(CORES, PLENTY)
        self.limit(SPOT_CORES, PLENTY)

    def limit(self, name: str, limit: int, *, used: int = 0) -> None:
        """Set the limit of a family, of `cores` or of `lowPriorityCores`, and what others use of it."""
        self._limits[name.lower()] = name, limit
        self._base[name.lower()] = used

    def used(self, name: str, now: float, *, lag: float = 0.0) -> int:
        """Cores in use, as they were shown `lag` seconds after the fact."""
        name = name.lower()
        held = sum(
            each.cores
            for each in self._holdings
            if name in each.names and each.since + lag <= now < each.until + lag
        )
        return self._base.get(name, 0) + held

    def shortage(self, size: Size, count: int, spot: bool, now: float, *, shown: bool) -> Shortage | None:
        """The first quota that `count` more machines do not fit in; `shown`: by the lagging figures."""
        needed = size.vcpus * count
        for name in self._names(size, spot):
            written, limit = self._limits.get(name.lower(), (name, PLENTY))
            used = self.used(name, now, lag=self.lag if shown else 0.0)
            if used + needed > limit:
                return Shortage(written, limit, used, needed)
        return None

    def hold(self, pool: str, size: Size, count: int, spot: bool, now: float) -> None:
        """The pool's machines are counted from now on, instead of what it had before."""
        self.release(pool, now)
        self._holdings.append(
            _Holding(pool, tuple(map(str.lower, self._names(size, spot))), size.vcpus * count, now)
        )

    def release(self, pool: str, now: float) -> None:
        for each in self._holdings:
            if each.pool == pool and each.until > now:
                each.until = now
        self._holdings = [each for each in self._holdings if each.until + self.lag > now]

    def usages(self, families: set[str], now: float) -> list[dict[str, Any]]:
        """`value` of the Compute usages API."""
        named = {family.lower(): (family, PLENTY) for family in sorted(families)} | self._limits
        found = [
            _usage(name, _title(name), limit, self.used(name, now, lag=self.lag))
            for name, limit in named.values()
        ]
        return [*(_usage(*each) for each in _OTHER), *found]

    def _names(self, size: Size, spot: bool) -> tuple[str, ...]:
        return (SPOT_CORES,) if spot else (size.family, CORES)


def _title(name: str) -> str:
    return _LOCALIZED.get(name) or f"{name.removesuffix('Family').strip()} Family vCPUs"


def _usage(name: str, title: str, limit: int, current: int) -> dict[str, Any]:
    return {
        "limit": limit,
        "unit": "Count",
        "currentValue": current,
        "name": {"value": name, "localizedValue": title},
    }
