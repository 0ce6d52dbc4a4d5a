"""What AKS checks before it takes an agent pool. Pure functions that raise `Refused`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kaito.provisioner.testing.messages import ErrorDetail, Object, Refused
from kaito.provisioner.testing.sizes import Size, Sizes
from kaito.provisioner.testing.state import READ_ONLY, VERSION

NAME: Final = re.compile(r"[a-z][a-z0-9]{0,11}")
_LABEL_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_TAINT: Final = re.compile(r"[^=:]+(=[^=:]*)?:(NoSchedule|PreferNoSchedule|NoExecute)")
_SUBNET: Final = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+",
    re.IGNORECASE,
)
_IMMUTABLE: Final = (
    "availabilityZones",
    "gpuInstanceProfile",
    "osDiskSizeGB",
    "osDiskType",
    "scaleSetPriority",
    "type",
    "vmSize",
    "vnetSubnetID",
)
_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": ("User", "System", "Gateway"),
    "osType": ("Linux", "Windows"),
    "osSKU": (
        "Ubuntu",
        "Ubuntu2204",
        "Ubuntu2404",
        "AzureLinux",
        "AzureLinux3",
        "CBLMariner",
        "AzureContainerLinux",
        "Windows2019",
        "Windows2022",
        "Windows2025",
    ),
    "osDiskType": ("Managed", "Ephemeral"),
    "type": ("VirtualMachineScaleSets", "VirtualMachines", "AvailabilitySet"),
    "scaleSetPriority": ("Regular", "Spot"),
    "scaleSetEvictionPolicy": ("Delete", "Deallocate"),
    "gpuInstanceProfile": ("MIG1g", "MIG2g", "MIG3g", "MIG4g", "MIG7g"),
}
_OURS: Final = ("kubernetes.azure.com/", "kubernetes.io/hostname", "node-role.kubernetes.io/")
"""Labels that only AKS sets."""
SPOT_TAINT: Final = "kubernetes.azure.com/scalesetpriority=spot:NoSchedule"
_MAX_DISK: Final = 2048
_MAX_TAGS: Final = 50


def invalid(parameter: str, message: str, code: str = "InvalidParameter") -> Refused:
    """400 in AKS's words."""
    target = f"agentPoolProfile.{parameter}"
    return Refused(
        400,
        ErrorDetail(
            code, f"The value of parameter {target} is invalid. Error details: {message}", target=target
        ),
    )


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise invalid(
            "name",
            f"Agent pool name {name!r} must start with a lowercase letter, have only lowercase letters and digits, and "
            "at most 12 of them. Please see https://aka.ms/aks-naming-rules for more details.",
        )


def checked(body: Any, sizes: Sizes, location: str) -> tuple[Object, Size]:
    """The properties with AKS's defaults, and the size. Raises `Refused` for what AKS would not take."""
    properties = body.get("properties") if isinstance(body, Mapping) else None
    if not isinstance(properties, Mapping):
        raise Refused(
            400,
            ErrorDetail(
                "InvalidRequestContent", "The request content was invalid: 'properties' is required."
            ),
            nested=True,
        )
    sent = {
        key: value for key, value in properties.items() if key not in READ_ONLY and value not in (None, {})
    }
    size = _size(sent, sizes, location)
    for key, allowed in _ALLOWED.items():
        if key in sent and sent[key] not in allowed:
            raise invalid(key, f"{sent[key]!r} is none of {', '.join(allowed)}.")
    _check_numbers(sent)
    _check_zones(sent, size, location)
    _check_disk(sent, size)
    _check_gpus(sent, size)
    _check_spot(sent, size)
    _check_words(sent)
    return _with_defaults(sent, size), size


def check_unchanged(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """What a pool was made with stays."""
    for key in _IMMUTABLE:
        if before.get(key) != after.get(key):
            raise Refused(
                400,
                ErrorDetail(
                    "PropertyChangeNotAllowed",
                    f"Changing property 'properties.{key}' is not allowed.",
                    target=f"properties.{key}",
                ),
            )


def _size(sent: Mapping[str, Any], sizes: Sizes, location: str) -> Size:
    name = sent.get("vmSize")
    if not isinstance(name, str) or not name:
        raise invalid("vmSize", "vmSize is required.", "InvalidParameter")
    size = sizes.find(name)
    if size is None or size.restricted:
        usable = ", ".join(each.name.lower() for each in sizes.all() if not each.restricted)
        raise Refused(
            400,
            ErrorDetail(
                "VMSizeNotSupported",
                f"The VM size of {name} is not allowed in your subscription in location '{location}'. "
                f"The available VM sizes are '{usable}'.",
                target="agentPoolProfile.vmSize",
            ),
        )
    return size


def _check_numbers(sent: Mapping[str, Any]) -> None:
    for key, low, high in (("count", 0, 1000), ("osDiskSizeGB", 0, _MAX_DISK), ("maxPods", 10, 250)):
        value = sent.get(key, low)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise invalid(key, f"{value!r} is no number from {low} to {high}.")
    if 0 < sent.get("osDiskSizeGB", 0) < 30:
        raise invalid("osDiskSizeGB", "The disk must have at least 30 GB, or 0 for the default.")


def _check_zones(sent: Mapping[str, Any], size: Size, location: str) -> None:
    usable = [zone for zone in size.zones if zone not in size.restricted_zones]
    for zone in sent.get("availabilityZones") or ():
        if zone not in usable:
            raise Refused(
                400,
                ErrorDetail(
                    "AvailabilityZoneNotSupported",
                    f"The zone(s) '{zone}' for resource 'agentpool' is not supported. The supported zones for location "
                    f"'{location}' are '{','.join(usable)}'.",
                    target="agentPoolProfile.availabilityZones",
                ),
            )


def _check_disk(sent: Mapping[str, Any], size: Size) -> None:
    if sent.get("osDiskType") == "Ephemeral" and sent.get("osDiskSizeGB", 0) > size.cache:
        raise invalid(
            "osDiskSizeGB",
            f"The virtual machine size {size.name} has a cache size of {size.cache * 2**30} bytes, but the OS disk "
            f"requires {sent['osDiskSizeGB'] * 2**30} bytes. Use a VM size with larger cache, or a managed disk.",
        )


def _check_gpus(sent: Mapping[str, Any], size: Size) -> None:
    driver = (sent.get("gpuProfile") or {}).get("driver")
    if driver not in (None, "Install", "None"):
        raise invalid("gpuProfile.driver", f"{driver!r} is none of Install, None.")
    if "gpuInstanceProfile" in sent and not any(model in size.family for model in ("A100", "H100")):
        raise invalid("gpuInstanceProfile", f"{size.name} does not support multi-instance GPU.")


def _check_spot(sent: Mapping[str, Any], size: Size) -> None:
    spot = sent.get("scaleSetPriority") == "Spot"
    if spot and not size.spot:
        raise invalid("scaleSetPriority", f"{size.name} is not available as Spot.")
    if spot and sent.get("mode") == "System":
        raise invalid("mode", "A system pool cannot be Spot.")
    for key in ("scaleSetEvictionPolicy", "spotMaxPrice"):
        if not spot and key in sent:
            raise invalid(key, f"{key} can be set for Spot pools only.")
    price = sent.get("spotMaxPrice", -1)
    if not isinstance(price, int | float) or (price != -1 and price <= 0):
        raise invalid("spotMaxPrice", f"{price!r} is neither -1 nor greater than 0.")


def _check_words(sent: Mapping[str, Any]) -> None:
    """Labels, taints, tags and ids."""
    for key, value in (sent.get("nodeLabels") or {}).items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(str(value)):
            raise invalid("nodeLabels", f"{key}={value} is no Kubernetes label.")
        if key.startswith(_OURS):
            raise invalid("nodeLabels", f"The label {key} is reserved for system use.")
    for taint in sent.get("nodeTaints") or ():
        if not _TAINT.fullmatch(taint):
            raise invalid("nodeTaints", f"{taint!r} is not of the form key=value:effect.")
    tags = sent.get("tags") or {}
    if len(tags) > _MAX_TAGS:
        raise invalid("tags", f"{len(tags)} tags; at most {_MAX_TAGS} are allowed.")
    for key, value in tags.items():
        if not key or len(key) > 512 or len(str(value)) > 256 or set(key) & set("<>%&\\?/"):
            raise invalid(
                "tags", f"The tag {key!r} is too long or has one of these characters: <, >, %, &, \\, ?, /."
            )
    subnet = sent.get("vnetSubnetID")
    if subnet is not None and not _SUBNET.fullmatch(str(subnet)):
        raise invalid("vnetSubnetID", f"{subnet!r} is no resource id of a subnet.")


def _with_defaults(sent: Mapping[str, Any], size: Size) -> Object:
    fits = size.cache >= 128
    taints = list(sent.get("nodeTaints") or ())
    if sent.get("scaleSetPriority") == "Spot":
        sent = {"scaleSetEvictionPolicy": "Delete", "spotMaxPrice": -1.0, **sent}
        taints += [SPOT_TAINT] if SPOT_TAINT not in taints else []
    return {
        "count": 1,
        "osDiskSizeGB": 128,
        "osDiskType": "Ephemeral" if fits and sent.get("osDiskSizeGB", 128) <= size.cache else "Managed",
        "kubeletDiskType": "OS",
        "maxPods": 110,
        "type": "VirtualMachineScaleSets",
        "mode": "User",
        "osType": "Linux",
        "osSKU": "Ubuntu",
        "enableFIPS": False,
        "enableAutoScaling": False,
        "orchestratorVersion": VERSION,
        **sent,
        **({"nodeTaints": taints} if taints else {}),
    }
