"""What can be bought, in the order in which it is tried, and what lately could not be had. Pure rules and a small
memory.

An offering is a machine size, spot or on-demand, in one zone or in the region as a whole. Losing the memory costs one
more try: the cloud says the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kaito.catalog import Catalog, GpuSku
from kaito.provisioner.aks.options import ON_DEMAND, SPOT, PoolOptions
from kaito.provisioner.errors import CloudError, InstanceTypeUnavailable, InsufficientCapacity, QuotaReached

MINUTE: Final = 60.0
CAPACITY_MEMORY: Final = 5 * MINUTE
"""Seconds for which an offering without machines is not asked for again."""
SKU_MEMORY: Final = 60 * MINUTE
"""Seconds for which a size that the region or the subscription lacks is not asked for again."""
SOON: Final = 1.0
"""Seconds that anybody waits at least."""
OFFERING_ERRORS: Final = (InsufficientCapacity, QuotaReached, InstanceTypeUnavailable)
"""What is wrong with an offering alone: another may be had."""


class Offering(NamedTuple):
    """zone: its number; "" for the region as a whole."""

    instance_type: str
    capacity_type: str = ON_DEMAND
    zone: str = ""

    @property
    def spot(self) -> bool:
        return self.capacity_type == SPOT

    def __str__(self) -> str:
        zone = f" in zone {self.zone}" if self.zone else ""
        return f"{self.instance_type}{' (spot)' if self.spot else ''}{zone}"


def offerings(instance_types: Iterable[str], options: PoolOptions) -> list[Offering]:
    """All that a claim may get, best first: by size, spot before on-demand, zones in their order."""
    return [
        Offering(instance_type, capacity_type, zone)
        for instance_type in instance_types
        for capacity_type in options.capacity_types
        for zone in options.zones or ("",)
    ]


@dataclass(slots=True)
class Unavailable:
    """Offerings that could not be had, with the cloud's word and until when it is believed. Times: `Clock.now()`."""

    _until: dict[Offering, tuple[CloudError, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._until)

    def mark(self, offering: Offering, error: CloudError, now: float) -> None:
        seconds = error.retry_after
        if isinstance(error, InsufficientCapacity):
            seconds = max(seconds, CAPACITY_MEMORY)
        elif isinstance(error, InstanceTypeUnavailable):
            seconds = SKU_MEMORY
        # Quota is one for all zones.
        key = offering._replace(zone="") if isinstance(error, QuotaReached) else offering
        self._until[_folded(key)] = (error, now + seconds)

    def refusal(self, offering: Offering, now: float) -> CloudError | None:
        """Why it is not to be tried now, with the seconds that are left; None: try it."""
        self._until = {key: value for key, value in self._until.items() if value[1] > now}
        for key in (offering, offering._replace(zone="")):
            if (found := self._until.get(_folded(key))) is not None:
                error, until = found
                return type(error)(error.message, reason=error.why, retry_after=max(SOON, until - now))
        return None


def nothing_left(refusals: Mapping[Offering, CloudError], catalog: Catalog) -> CloudError:
    """The error for a claim none of whose offerings can be had; it says so for each of them.

    Of one kind where all refusals are, so that a full quota reads as one; else `InsufficientCapacity`.
    """
    first = next(iter(refusals.values()))
    kind = (
        type(first) if all(type(each) is type(first) for each in refusals.values()) else InsufficientCapacity
    )
    reason = first.why if len({each.why for each in refusals.values()}) == 1 else kind.reason
    seconds = min(each.retry_after for each in refusals.values())
    texts: dict[tuple[str, bool, str], list[str]] = {}
    for offering, error in refusals.items():
        key = (offering.instance_type, offering.spot, _sentence(offering, error, catalog))
        texts.setdefault(key, []).append(offering.zone)
    if len(texts) == 1:
        return kind(next(iter(texts))[2], reason=reason, retry_after=seconds)
    each = "; ".join(
        f"{name}{' (spot)' if spot else ''}{_in_zones(zones)}: {sentence}"
        for (name, spot, sentence), zones in texts.items()
    )
    return kind(
        f"none of the machines that are allowed can be had: {each}", reason=reason, retry_after=seconds
    )


def successor(name: str, catalog: Catalog) -> GpuSku | None:
    """What to use instead of a size that the cloud has retired: what the catalogue names, or else the smallest one on
    offer with as many GPUs and as much memory. None where the catalogue does not know that it was retired."""
    sku = catalog.sku(name)
    if sku is None or sku.retired is None:
        return None
    if sku.replacement is not None:
        return catalog.sku(sku.replacement)
    fitting = [
        each
        for each in catalog.skus
        if each.cloud == sku.cloud
        and each.retired is None
        and not each.unusable
        and each.gpus >= sku.gpus
        and each.memory_gib >= sku.memory_gib
        and (each.compute_capability or 0) >= (sku.compute_capability or 0)
    ]
    return min(fitting, key=lambda each: (each.memory_gib, each.gpus), default=None)


def _sentence(offering: Offering, error: CloudError, catalog: Catalog) -> str:
    sku = catalog.sku(offering.instance_type)
    if not isinstance(error, InstanceTypeUnavailable) or sku is None or sku.retired is None:
        return error.message
    instead = successor(offering.instance_type, catalog)
    advice = f"; write {instead.name} instead" if instead is not None else ""
    return f"{error.message} (Azure retired {sku.name} on {sku.retired}{advice})"


def _in_zones(zones: list[str]) -> str:
    named = [zone for zone in zones if zone]
    if not named:
        return ""
    return f" in zone{'s' if len(named) > 1 else ''} {', '.join(named)}"


def _folded(offering: Offering) -> Offering:
    """Azure's names of sizes are one in any case."""
    return offering._replace(instance_type=offering.instance_type.lower())
