"""Machine sizes as the Resource SKUs API tells of them, and what can be wrong with them in a region.

Figures: Azure's documentation of the sizes. Names of families are as Azure has them, with inconsistent case and spaces,
since whoever joins sizes with usages has to cope with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

NOT_FOR_SUBSCRIPTION: Final = "NotAvailableForSubscription"


@dataclass(frozen=True, slots=True)
class Size:
    """A machine size in one region.

    family: as the SKUs API writes it. memory: GiB. cache: GiB that an ephemeral OS disk may take. zones: where it is
    offered. restricted: the subscription may not use it at all. restricted_zones: nor in these zones.
    """

    name: str
    vcpus: int
    memory: int
    gpus: int
    family: str
    cache: int = 1024
    zones: tuple[str, ...] = ("1", "2", "3")
    restricted: bool = False
    restricted_zones: tuple[str, ...] = ()
    spot: bool = True

    def in_sku_api(self, location: str) -> dict[str, Any]:
        """One element of `value` of the Resource SKUs API."""
        return {
            "resourceType": "virtualMachines",
            "name": self.name,
            "tier": "Standard",
            "size": self.name.removeprefix("Standard_"),
            "family": self.family,
            "locations": [location],
            "locationInfo": [{"location": location, "zones": list(self.zones), "zoneDetails": []}],
            "capabilities": self._capabilities(),
            "restrictions": self._restrictions(location),
        }

    def _capabilities(self) -> list[dict[str, str]]:
        found = {
            "MaxResourceVolumeMB": str(self.cache * 1024),
            "OSVhdSizeMB": "1047552",
            "vCPUs": str(self.vcpus),
            "MemoryPreservingMaintenanceSupported": "False",
            "HyperVGenerations": "V1,V2",
            "MemoryGB": str(self.memory),
            "MaxDataDiskCount": "12",
            "CpuArchitectureType": "x64",
            "LowPriorityCapable": str(self.spot),
            "PremiumIO": "True",
            "VMDeploymentTypes": "IaaS",
            "CachedDiskBytes": str(self.cache * 2**30),
            **({"GPUs": str(self.gpus)} if self.gpus else {}),
            "vCPUsAvailable": str(self.vcpus),
            "EphemeralOSDiskSupported": "True",
            "AcceleratedNetworkingEnabled": "True",
        }
        return [{"name": name, "value": value} for name, value in found.items()]

    def _restrictions(self, location: str) -> list[dict[str, Any]]:
        if self.restricted:
            return [_restriction("Location", location, {"locations": [location]})]
        if self.restricted_zones:
            info = {"locations": [location], "zones": list(self.restricted_zones)}
            return [_restriction("Zone", location, info)]
        return []


def _restriction(kind: str, location: str, info: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "values": [location],
        "restrictionInfo": info,
        "reasonCode": NOT_FOR_SUBSCRIPTION,
    }


V100, T4, A10 = "standardNCSv3Family", "Standard NCASv3_T4 Family", "StandardNVADSA10v5Family"
A100, ND_A100 = "standardNCADSA100v4Family", "standardNDASv4_A100Family"
H100, ND_H100 = "StandardNCadsH100v5Family", "standardNDSH100v5Family"
DS_V5, DS_V3 = "standardDSv5Family", "standardDSv3Family"

SIZES: Final = (
    Size("Standard_NC6s_v3", 6, 112, 1, V100, cache=736),
    Size("Standard_NC12s_v3", 12, 224, 2, V100, cache=1474),
    Size("Standard_NC24s_v3", 24, 448, 4, V100, cache=2948),
    Size("Standard_NC4as_T4_v3", 4, 28, 1, T4, cache=176),
    Size("Standard_NC8as_T4_v3", 8, 56, 1, T4, cache=352),
    Size("Standard_NC16as_T4_v3", 16, 110, 1, T4, cache=352),
    Size("Standard_NC64as_T4_v3", 64, 440, 4, T4, cache=2816),
    Size("Standard_NV36ads_A10_v5", 36, 440, 1, A10, cache=1440),
    Size("Standard_NV72ads_A10_v5", 72, 880, 2, A10, cache=2880),
    Size("Standard_NC24ads_A100_v4", 24, 220, 1, A100, cache=256),
    Size("Standard_NC48ads_A100_v4", 48, 440, 2, A100, cache=512),
    Size("Standard_NC96ads_A100_v4", 96, 880, 4, A100),
    Size("Standard_ND96asr_v4", 96, 900, 8, ND_A100, cache=6000),
    Size("Standard_NC40ads_H100_v5", 40, 320, 1, H100, cache=3576, spot=False),
    Size("Standard_NC80adis_H100_v5", 80, 640, 2, H100, cache=7152, spot=False),
    Size("Standard_ND96isr_H100_v5", 96, 1900, 8, ND_H100, cache=28000),
    Size("Standard_D2s_v5", 2, 8, 0, DS_V5, cache=50),
    Size("Standard_D4s_v5", 4, 16, 0, DS_V5, cache=100),
    Size("Standard_D8s_v5", 8, 32, 0, DS_V5, cache=200),
    Size("Standard_D2s_v3", 2, 8, 0, DS_V3, cache=50),
)
"""What every region has unless a test says otherwise."""


class Sizes:
    """The sizes of one region, changed as a test needs it."""

    def __init__(self, sizes: Sequence[Size] = SIZES) -> None:
        self._sizes = {size.name.lower(): size for size in sizes}

    def find(self, name: str) -> Size | None:
        """By name, whatever its case."""
        return self._sizes.get(name.lower())

    def all(self) -> list[Size]:
        return list(self._sizes.values())

    def add(self, size: Size) -> None:
        self._sizes[size.name.lower()] = size

    def remove(self, name: str) -> None:
        """The region never had it, or has it no longer."""
        self._sizes.pop(name.lower(), None)

    def change(self, name: str, **fields: Any) -> None:
        """Fields as of `Size`; raises KeyError for a size that is not there."""
        self._sizes[name.lower()] = replace(self._sizes[name.lower()], **fields)

    def restrict(self, name: str, *zones: str) -> None:
        """The subscription may not use it, or not in these zones."""
        self.change(name, **({"restricted_zones": zones} if zones else {"restricted": True}))
