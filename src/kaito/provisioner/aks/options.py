"""What a user may say about AKS nodes: annotations of a claim, or the same names for all claims of an operator.

Each option is written as `kaito.sh/aks-NAME` on the claim, or as NAME among the operator's defaults; the claim's own
word wins. Requirements of a claim (zone, capacity type) win over both. What is not understood is refused with the
name of the annotation, what it says and what is allowed: a misspelt option must not make a machine that costs money
otherwise.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from kaito.api import labels
from kaito.api.quantities import amount
from kaito.provisioner.cloud import ClaimSpec
from kaito.provisioner.errors import InvalidConfiguration

PREFIX: Final = labels.AKS_OPTION_PREFIX
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
SPOT: Final = "spot"
ON_DEMAND: Final = "on-demand"
CAPACITY_TYPES: Final = (SPOT, ON_DEMAND)
"""In the order in which they are tried."""
OS_SKUS: Final = ("Ubuntu", "Ubuntu2204", "Ubuntu2404", "AzureLinux", "AzureLinux3")
MIG_PROFILES: Final = ("MIG1g", "MIG2g", "MIG3g", "MIG4g", "MIG7g")
POOL_TYPES: Final = ("VirtualMachineScaleSets", "VirtualMachines")

POOL_NAME: Final = re.compile(r"^[a-z][a-z0-9]{0,11}$")
"""AKS: names of Linux agent pools."""
SMALLEST_DISK: Final = 30
LARGEST_DISK: Final = 2048
"""GiB; AKS refuses OS disks outside of these."""
_GIB: Final = 2**30
_ZONE: Final = re.compile(r"^(?:([a-z0-9]+)-)?([1-9])$")
_TAG_NAME: Final = re.compile(r"^[^<>%&\\?/=,]{1,512}$")
_TAG_VALUE_LIMIT: Final = 256
_PRICE: Final = re.compile(r"^[0-9]+(\.[0-9]{1,5})?$")


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How the pool of one claim is made, apart from its size, zone and capacity type.

    disk_gib: size of the OS disk. zones: numbers of the zones to try, in that order; empty: the region as a whole.
    capacity_types: those that are allowed, in the order in which they are tried. spot_max_price: dollars an hour; -1:
    up to the price of an on-demand machine. Ids: of Azure resources. "" and None: as AKS has it.
    """

    disk_gib: int
    os_sku: str = "Ubuntu"
    os_disk_type: str = ""
    zones: tuple[str, ...] = ()
    capacity_types: tuple[str, ...] = (ON_DEMAND,)
    eviction_policy: str = "Delete"
    spot_max_price: float = -1
    subnet_id: str = ""
    pod_subnet_id: str = ""
    gpu_driver: str = ""
    mig_profile: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    capacity_reservation_group_id: str = ""
    proximity_placement_group_id: str = ""
    pool_type: str = "VirtualMachineScaleSets"
    max_pods: int | None = None
    encryption_at_host: bool | None = None


class Option(NamedTuple):
    """One option: its NAME, the field of `PoolOptions`, how its text is read (ValueError: not understood), and what is
    allowed, as a message and the documentation say it."""

    name: str
    field: str
    read: Callable[[str], Any]
    allowed: str


def check_name(claim: ClaimSpec) -> None:
    """Raises `InvalidConfiguration` where the claim's name cannot be that of an agent pool."""
    if not POOL_NAME.match(claim.name):
        raise InvalidConfiguration(
            f"{claim.kind} {claim.name}: its name becomes the agent pool's, which AKS allows 1 to 12 lower-case "
            "letters and digits, the first a letter; make a claim with such a name"
        )


def read_options(claim: ClaimSpec, location: str, defaults: Mapping[str, str]) -> PoolOptions:
    """The claim's options. location: region, such as westus2. defaults: option NAME to text, as `check_defaults`
    allows.

    Raises `InvalidConfiguration` that names every option that is wrong.
    """
    problems: list[str] = []
    values = _read_all(defaults, "--aks-option {}", problems)
    if not claim.instance_types:
        problems.append(f"requirement {labels.INSTANCE_TYPE_LABEL} names no machine size")
    own = {
        key.removeprefix(PREFIX): text for key, text in claim.annotations.items() if key.startswith(PREFIX)
    }
    values |= _read_all(own, f"annotation {PREFIX}{{}}", problems)
    values.setdefault("os_sku", _image_family(claim))
    if (found := _required(claim, ZONE_LABEL, lambda text: _zone(text, location), problems)) is not None:
        values["zones"] = found
    elif "zones" in values:
        values["zones"] = tuple(_zones_in(values["zones"], location, problems))
    if (found := _required(claim, labels.CAPACITY_TYPE_LABEL, _capacity_type, problems)) is not None:
        values["capacity_types"] = found
    if "capacity_types" in values:
        values["capacity_types"] = tuple(each for each in CAPACITY_TYPES if each in values["capacity_types"])
    if "linux" not in claim.requirements.get(labels.OS_LABEL, ("linux",)):
        problems.append(f"requirement {labels.OS_LABEL} must allow linux; other nodes are not made")
    values["disk_gib"] = _disk(claim, problems)
    if problems:
        raise InvalidConfiguration(f"{claim.kind} {claim.name}: {'; '.join(problems)}")
    return PoolOptions(**values)


def check_defaults(defaults: Mapping[str, str]) -> None:
    """Raises ValueError with a sentence naming every default that is no option or not understood."""
    problems: list[str] = []
    _read_all(defaults, "{}", problems)
    if problems:
        raise ValueError("; ".join(problems))


def _read_all(texts: Mapping[str, str], shown: str, problems: list[str]) -> dict[str, Any]:
    values = {}
    for name, text in sorted(texts.items()):
        option = _BY_NAME.get(name)
        if option is None:
            near = difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.6) or sorted(_BY_NAME)
            problems.append(f"{shown.format(name)} is no option; write {' or '.join(near)}")
            continue
        try:
            values[option.field] = option.read(text.strip())
        except ValueError:
            problems.append(f'{shown.format(name)} says "{text}"; allowed is {option.allowed}')
    return values


def _required(
    claim: ClaimSpec, key: str, read: Callable[[str], str], problems: list[str]
) -> tuple[str, ...] | None:
    """What a requirement allows, in its order; None where there is none."""
    if key not in claim.requirements:
        return None
    found = []
    for text in claim.requirements[key]:
        try:
            found.append(read(text))
        except ValueError as problem:
            problems.append(f'requirement {key} says "{text}"; {problem}')
    return tuple(dict.fromkeys(each for each in found if each))


def _zones_in(texts: Iterable[str], location: str, problems: list[str]) -> Iterator[str]:
    for text in texts:
        try:
            yield _zone(text, location)
        except ValueError as problem:
            problems.append(f'the option zones ({PREFIX}zones) says "{text}"; {problem}')


def _zone(text: str, location: str) -> str:
    """Number of a zone from `1` or `westus2-1`; "" from `0`, which is how AKS labels nodes outside of zones."""
    if text == "0":
        return ""
    match = _ZONE.match(text.strip().lower())
    if match is None:
        raise ValueError(f"allowed are zones such as 1 and {location}-1")
    if match[1] and match[1] != location.replace(" ", "").lower():
        raise ValueError(f"the cluster is in {location}")
    return match[2]


def _capacity_type(text: str) -> str:
    if text not in CAPACITY_TYPES:
        raise ValueError(f"allowed are {' and '.join(CAPACITY_TYPES)}")
    return text


def _image_family(claim: ClaimSpec) -> str:
    """gpu-provisioner's rule: azurelinux in any case, and Ubuntu for everything else."""
    family = claim.annotations.get(labels.NODE_IMAGE_FAMILY_ANNOTATION, "").strip().lower()
    return "AzureLinux" if family == "azurelinux" else "Ubuntu"


def _disk(claim: ClaimSpec, problems: list[str]) -> int:
    """GiB, rounded up: what was asked for must fit."""
    text = claim.requests.get("storage", "")
    size = amount(text) if text else None
    if size is None or size <= 0:
        found = f'is "{text}"' if text else "is missing"
        problems.append(
            f"spec.resources.requests.storage {found}; write the size of the OS disk, such as 100Gi"
        )
        return 0
    gib = max(SMALLEST_DISK, math.ceil(size / _GIB))
    if gib > LARGEST_DISK:
        problems.append(
            f"spec.resources.requests.storage is {text}; AKS makes OS disks of at most {LARGEST_DISK}Gi"
        )
    return gib


def _choice(*values: str) -> Callable[[str], str]:
    known = {value.lower(): value for value in values}

    def read(text: str) -> str:
        if text.lower() not in known:
            raise ValueError(text)
        return known[text.lower()]

    return read


def _resource(kind: str) -> Callable[[str], str]:
    """Reads the id of an Azure resource; kind: its provider and types, such as Microsoft.Compute/x."""
    provider, *types = kind.split("/")
    path = "".join(f"/{each}/[^/\\s]+" for each in types)
    pattern = re.compile(
        rf"^/subscriptions/[^/\s]+/resourceGroups/[^/\s]+/providers/{re.escape(provider)}{path}$",
        re.IGNORECASE,
    )

    def read(text: str) -> str:
        if not pattern.match(text):
            raise ValueError(text)
        return text

    return read


def _list(text: str) -> tuple[str, ...]:
    found = tuple(each.strip() for each in text.split(",") if each.strip())
    if not found:
        raise ValueError(text)
    return found


def _capacity_types(text: str) -> tuple[str, ...]:
    return tuple(map(_capacity_type, _list(text)))


def _zone_list(text: str) -> tuple[str, ...]:
    if not all(_ZONE.match(each.lower()) for each in _list(text)):
        raise ValueError(text)
    return _list(text)


def _tags(text: str) -> dict[str, str]:
    tags = {}
    for pair in _list(text):
        name, separator, value = (part.strip() for part in pair.partition("="))
        if not separator or not _TAG_NAME.match(name) or len(value) > _TAG_VALUE_LIMIT:
            raise ValueError(text)
        tags[name] = value
    return tags


def _price(text: str) -> float:
    if text == "-1":
        return -1
    if not _PRICE.match(text) or float(text) <= 0:
        raise ValueError(text)
    return float(text)


def _pods(text: str) -> int:
    number = int(text)
    if not 10 <= number <= 250:
        raise ValueError(text)
    return number


def _boolean(text: str) -> bool:
    return _choice("true", "false")(text) == "true"


def _one_of(name: str, field_name: str, values: tuple[str, ...]) -> Option:
    return Option(name, field_name, _choice(*values), f"{', '.join(values[:-1])} or {values[-1]}")


def _id_of(name: str, field_name: str, kind: str) -> Option:
    provider, *types = kind.split("/")
    example = "".join(f"/{each}/…" for each in types)
    return Option(
        name,
        field_name,
        _resource(kind),
        f"/subscriptions/…/resourceGroups/…/providers/{provider}{example}",
    )


OPTIONS: Final = (
    _one_of("os-sku", "os_sku", OS_SKUS),
    _one_of("os-disk-type", "os_disk_type", ("Managed", "Ephemeral")),
    Option("zones", "zones", _zone_list, "a list such as 1,2,3 or westus2-1"),
    Option("capacity-type", "capacity_types", _capacity_types, "spot, on-demand or spot,on-demand"),
    _one_of("eviction-policy", "eviction_policy", ("Delete", "Deallocate")),
    Option("spot-max-price", "spot_max_price", _price, "dollars an hour, such as 1.25, or -1"),
    _id_of("subnet-id", "subnet_id", "Microsoft.Network/virtualNetworks/subnets"),
    _id_of("pod-subnet-id", "pod_subnet_id", "Microsoft.Network/virtualNetworks/subnets"),
    _one_of("gpu-driver", "gpu_driver", ("Install", "None")),
    _one_of("mig-profile", "mig_profile", MIG_PROFILES),
    Option("tags", "tags", _tags, "a list such as team=ml,cost-centre=42; tag names have none of <>%&\\?/"),
    _id_of(
        "capacity-reservation-group-id",
        "capacity_reservation_group_id",
        "Microsoft.Compute/capacityReservationGroups",
    ),
    _id_of(
        "proximity-placement-group-id",
        "proximity_placement_group_id",
        "Microsoft.Compute/proximityPlacementGroups",
    ),
    _one_of("pool-type", "pool_type", POOL_TYPES),
    Option("max-pods", "max_pods", _pods, "a number from 10 to 250"),
    Option("encryption-at-host", "encryption_at_host", _boolean, "true or false"),
)
_BY_NAME: Final = {option.name: option for option in OPTIONS}
