"""What Azure says of its machine sizes: how many cores of which family they take, and whether a subscription may have
them. Pure; the answers of `Microsoft.Compute/skus` are read here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

VIRTUAL_MACHINES: Final = "virtualmachines"
LOCATION_RESTRICTION: Final = "location"
NEAREST: Final = 3
"""Other sizes that a message names."""


@dataclass(frozen=True, slots=True)
class MachineSize:
    """A machine size as one region has it.

    family: the quota that it counts against, as `Microsoft.Compute/locations/usages` spells it but for letter case.
    zones: those in which it may be had. restricted: the cloud's word for why the subscription may not have it in the
    region at all, such as NotAvailableForSubscription; "" where it may.
    """

    name: str
    family: str
    cores: int
    gpus: int = 0
    zones: tuple[str, ...] = ()
    spot: bool = False
    restricted: str = ""


Sizes = Mapping[str, MachineSize]
"""Machine sizes by name in lower case."""


def read_sizes(entries: Iterable[Mapping[str, Any]], location: str) -> dict[str, MachineSize]:
    """The machine sizes among the Resource SKUs of a region, by name in lower case.

    What is no machine, or does not say its cores and family, is left out: nothing can be reckoned with it.
    """
    found = {}
    for entry in entries:
        size = _read(entry, location)
        if size is not None:
            found[size.name.lower()] = size
    return found


def _read(entry: Mapping[str, Any], location: str) -> MachineSize | None:
    if str(entry.get("resourceType")).lower() != VIRTUAL_MACHINES:
        return None
    capabilities = {
        str(each.get("name")).lower(): str(each.get("value")) for each in entry.get("capabilities") or ()
    }
    cores, family, name = _number(capabilities.get("vcpus")), entry.get("family"), entry.get("name")
    if not cores or not family or not name:
        return None
    restricted, closed = _restrictions(entry)
    places = [
        place
        for place in entry.get("locationInfo") or ()
        if str(place.get("location")).lower() == location.lower()
    ]
    zones = sorted({str(zone) for place in places for zone in place.get("zones") or ()} - closed)
    return MachineSize(
        name=str(name),
        family=str(family),
        cores=cores,
        gpus=_number(capabilities.get("gpus")),
        zones=tuple(zones),
        spot=capabilities.get("lowprioritycapable", "").lower() == "true",
        restricted=restricted,
    )


def _restrictions(entry: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Why the size may not be had in the region, and the zones in which it may not. The answer is that of one region,
    so a restriction of kind Location is of it."""
    reason, zones = "", set()
    for each in entry.get("restrictions") or ():
        if str(each.get("type")).lower() == LOCATION_RESTRICTION:
            reason = str(each.get("reasonCode") or "restricted")
        else:
            zones |= {str(zone) for zone in (each.get("restrictionInfo") or {}).get("zones") or ()}
    return reason, zones


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def refusal(size: MachineSize, sizes: Sizes, location: str, *, spot: bool) -> str:
    """The sentence that says why the subscription cannot have the size there, and what it can have; "" where it can."""
    if size.restricted:
        return (
            f"{size.name} is not available to this subscription in {location} ({size.restricted}); "
            f"{_instead(size, sizes, spot=spot)} or ask Azure support to lift the restriction"
        )
    if spot and not size.spot:
        return (
            f"{size.name} cannot be had as a spot machine; ask for capacity type on-demand, or "
            f"{_instead(size, sizes, spot=True)}"
        )
    return ""


def _instead(size: MachineSize, sizes: Sizes, *, spot: bool) -> str:
    names = nearest(size, sizes, spot=spot)
    return (
        f"available there: {', '.join(names)};"
        if names
        else "no other size with its GPUs is available there;"
    )


def nearest(size: MachineSize, sizes: Sizes, *, spot: bool = False) -> list[str]:
    """Names of sizes that may be had and have as many GPUs as this one or more, those most like it first."""
    others = [
        each
        for each in sizes.values()
        if not each.restricted
        and each.gpus >= size.gpus
        and (each.gpus > 0 or size.gpus == 0)
        and (each.spot or not spot)
        and each.name != size.name
    ]
    others.sort(key=lambda each: (each.gpus, abs(each.cores - size.cores), each.name))
    return [each.name for each in others[:NEAREST]]
