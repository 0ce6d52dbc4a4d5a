"""What there is to tell about a region's quotas. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kaito.catalog import Catalog, choices
from kaito.provisioner.aks.ledger import SPOT, TOTAL, Figures, Quota
from kaito.provisioner.aks.skus import MachineSize, Sizes

CREATING: Final = "creating"


@dataclass(frozen=True, slots=True)
class Wish:
    """A claim without a machine. started: its pool has been asked for, or is about to be."""

    name: str
    instance_type: str
    spot: bool
    started: bool


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine size of a family. fits: how many of it the free quota is enough for."""

    name: str
    cores: int
    gpus: int
    restricted: str
    fits: int


@dataclass(frozen=True, slots=True)
class Row:
    """One quota, in cores.

    promised: of machines that are being made. waiting: of claims that wait. presets: models that one free machine of
    the family is enough for.
    """

    name: str
    title: str
    limit: int
    used: int
    promised: int
    waiting: int
    sizes: tuple[Offer, ...] = ()
    presets: tuple[str, ...] = ()

    @property
    def free(self) -> int:
        return self.limit - self.used - self.promised


@dataclass(frozen=True, slots=True)
class Report:
    """A region: its GPU families, those with free cores first, and its totals."""

    location: str
    quota_page: str
    families: tuple[Row, ...]
    totals: tuple[Row, ...]


def make_report(
    location: str,
    quota_page: str,
    figures: Figures,
    sizes: Sizes,
    pools: Iterable[Mapping[str, Any]],
    wishes: Iterable[Wish],
    catalog: Catalog,
) -> Report:
    """The report from what Azure and the cluster say. A pool that is being made and its claim count once."""
    promised, waiting = _asked(sizes, pools, wishes)
    totals = tuple(
        _row(quota, promised, waiting) for name in (TOTAL, SPOT) if (quota := figures.of(name)) is not None
    )
    region_free = next((row.free for row in totals if row.name == TOTAL), None)
    by_family: dict[str, list[MachineSize]] = {}
    for size in sizes.values():
        if size.gpus:
            by_family.setdefault(size.family.lower(), []).append(size)
    rows = []
    for family, members in by_family.items():
        quota = figures.of(family)
        if quota is not None:
            row = _row(quota, promised, waiting)
            rows.append(_with_offers(row, members, catalog, region_free))
    rows.sort(key=lambda row: (row.free <= 0, row.title.lower()))
    return Report(location, quota_page, tuple(rows), totals)


def _asked(
    sizes: Sizes, pools: Iterable[Mapping[str, Any]], wishes: Iterable[Wish]
) -> tuple[Counter[str], Counter[str]]:
    """Cores by quota, in lower case: promised, and waited for."""
    promised: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    there = set()
    for pool in pools:
        properties = pool.get("properties") or {}
        there.add(str(pool.get("name")))
        if str(properties.get("provisioningState")).lower() == CREATING:
            spot = str(properties.get("scaleSetPriority")).lower() == "spot"
            count = int(properties.get("count") or 1)
            _add(promised, sizes, str(properties.get("vmSize")), spot=spot, count=count)
    for wish in wishes:
        if wish.name not in there:
            _add(promised if wish.started else waiting, sizes, wish.instance_type, spot=wish.spot, count=1)
    return promised, waiting


def _add(cores: Counter[str], sizes: Sizes, name: str, *, spot: bool, count: int) -> None:
    size = sizes.get(name.lower())
    if size is None:
        return
    for quota in (SPOT,) if spot else (size.family, TOTAL):
        cores[quota.lower()] += size.cores * count


def _row(quota: Quota, promised: Counter[str], waiting: Counter[str]) -> Row:
    name = quota.name.lower()
    return Row(quota.name, quota.title, quota.limit, quota.used, promised[name], waiting[name])


def _with_offers(row: Row, members: Sequence[MachineSize], catalog: Catalog, region_free: int | None) -> Row:
    free = row.free if region_free is None else min(row.free, region_free)
    offers = tuple(
        Offer(
            size.name,
            size.cores,
            size.gpus,
            size.restricted,
            0 if size.restricted else max(free, 0) // size.cores,
        )
        for size in sorted(members, key=lambda size: (size.cores, size.name))
    )
    free_sizes = {offer.name.lower() for offer in offers if offer.fits}
    return Row(
        row.name,
        row.title,
        row.limit,
        row.used,
        row.promised,
        row.waiting,
        offers,
        _presets(free_sizes, catalog),
    )


def _presets(sizes: set[str], catalog: Catalog) -> tuple[str, ...]:
    """Names of the models that one machine of these sizes holds, those that need most first."""
    if not sizes:
        return ()
    offered = [sku for sku in catalog.skus if sku.cloud == "azure" and sku.name.lower() in sizes]
    fitting = [
        preset
        for preset in catalog.presets
        if preset.gpus
        and not preset.deprecated
        and any(found.nodes == 1 for found in choices(preset, offered)[0])
    ]
    fitting.sort(key=lambda preset: (-preset.required_gpu_memory_gib, preset.name))
    return tuple(preset.name for preset in fitting)
