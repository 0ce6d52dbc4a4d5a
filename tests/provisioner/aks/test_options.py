"""Options of agent pools: what is read, and that everything else is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kaito.api import labels
from kaito.provisioner.aks.options import (
    OPTIONS,
    PREFIX,
    PoolOptions,
    check_defaults,
    check_name,
    read_options,
)
from kaito.provisioner.errors import InvalidConfiguration
from support.agentpools import a_claim

SUBNET = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/gpu"
ZONE = "topology.kubernetes.io/zone"


def read(annotations: dict[str, str] | None = None, **changes: Any) -> PoolOptions:
    own = {PREFIX + name: text for name, text in (annotations or {}).items()}
    defaults = changes.pop("defaults", {})
    claim = a_claim(annotations={**own, **changes.pop("plain", {})}, **changes)
    return read_options(claim, "westus2", defaults)


def complaint(annotations: dict[str, str] | None = None, **changes: Any) -> str:
    with pytest.raises(InvalidConfiguration) as problem:
        read(annotations, **changes)
    assert problem.value.terminal
    return problem.value.message


def test_a_claim_that_says_nothing_gets_what_gpu_provisioner_makes() -> None:
    assert read() == PoolOptions(disk_gib=100)


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("os-sku", "azurelinux3", "os_sku", "AzureLinux3"),
        ("os-disk-type", "ephemeral", "os_disk_type", "Ephemeral"),
        ("zones", "2, westus2-1", "zones", ("2", "1")),
        ("capacity-type", "on-demand,spot", "capacity_types", ("spot", "on-demand")),
        ("eviction-policy", "deallocate", "eviction_policy", "Deallocate"),
        ("spot-max-price", "1.25", "spot_max_price", 1.25),
        ("spot-max-price", "-1", "spot_max_price", -1),
        ("subnet-id", SUBNET, "subnet_id", SUBNET),
        ("gpu-driver", "none", "gpu_driver", "None"),
        ("mig-profile", "MIG3g", "mig_profile", "MIG3g"),
        ("tags", "team=ml, cost centre=a=b", "tags", {"team": "ml", "cost centre": "a=b"}),
        ("pool-type", "VirtualMachines", "pool_type", "VirtualMachines"),
        ("max-pods", "30", "max_pods", 30),
        ("encryption-at-host", "True", "encryption_at_host", True),
    ],
)
def test_an_annotation_is_read(name: str, text: str, field: str, value: object) -> None:
    assert getattr(read({name: text}), field) == value
    assert getattr(read(defaults={name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("os-sku", "Windows2022"),
        ("os-disk-type", "Fast"),
        ("zones", "4x"),
        ("zones", ""),
        ("capacity-type", "cheap"),
        ("eviction-policy", "Keep"),
        ("spot-max-price", "0"),
        ("spot-max-price", "1.123456"),
        ("subnet-id", "gpu"),
        ("subnet-id", SUBNET + "/more"),
        ("gpu-driver", "yes"),
        ("mig-profile", "MIG5g"),
        ("tags", "team"),
        ("tags", "a/b=c"),
        ("tags", "a=" + 257 * "x"),
        ("capacity-reservation-group-id", SUBNET),
        ("pool-type", "AvailabilitySet"),
        ("max-pods", "9"),
        ("max-pods", "many"),
        ("encryption-at-host", "1"),
    ],
)
def test_what_is_not_understood_is_refused_with_name_text_and_what_is_allowed(name: str, text: str) -> None:
    allowed = next(option.allowed for option in OPTIONS if option.name == name)
    assert complaint({name: text}) == (
        f'NodeClaim ws1: annotation kaito.sh/aks-{name} says "{text}"; allowed is {allowed}'
    )


def test_a_misspelt_option_is_refused_with_the_right_one() -> None:
    assert complaint({"subnet": SUBNET}) == (
        "NodeClaim ws1: annotation kaito.sh/aks-subnet is no option; write subnet-id"
    )


def test_all_that_is_wrong_is_said_at_once() -> None:
    text = complaint({"os-sku": "x", "max-pods": "x"}, requests={})
    assert text.count(";") >= 3
    assert "kaito.sh/aks-os-sku" in text
    assert "kaito.sh/aks-max-pods" in text
    assert "spec.resources.requests.storage is missing" in text


def test_the_claims_own_word_wins_over_the_operators() -> None:
    assert read({"os-sku": "Ubuntu2404"}, defaults={"os-sku": "AzureLinux"}).os_sku == "Ubuntu2404"


def test_wrong_defaults_are_known_before_anything_starts() -> None:
    check_defaults({"os-sku": "AzureLinux", "tags": "a=b"})
    with pytest.raises(
        ValueError, match=r'os-sku says "x"; allowed is Ubuntu, .*; subnet is no option; write subnet-id'
    ):
        check_defaults({"subnet": "y", "os-sku": "x"})


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("AzureLinux", "AzureLinux"),
        ("azurelinux", "AzureLinux"),
        ("Ubuntu", "Ubuntu"),
        ("Unknown", "Ubuntu"),
        (None, "Ubuntu"),
    ],
)
def test_the_image_family_of_the_workspace_names_the_system(family: str | None, expected: str) -> None:
    plain = {} if family is None else {labels.NODE_IMAGE_FAMILY_ANNOTATION: family}
    labelled = {labels.NODE_IMAGE_FAMILY_ANNOTATION: "AzureLinux"}
    assert read(plain=plain, labels=labelled).os_sku == expected


@pytest.mark.parametrize(
    ("storage", "gib"),
    [("30Gi", 30), ("50Gi", 50), ("50G", 47), ("1Ti", 1024), ("10Gi", 30), (str(40 * 2**30), 40)],
)
def test_the_disk_is_what_was_asked_for_and_no_less_than_aks_makes(storage: str, gib: int) -> None:
    assert read(requests={"storage": storage}).disk_gib == gib


@pytest.mark.parametrize("storage", ["0", "-1Gi", "much", "3Ti"])
def test_a_disk_that_cannot_be_is_refused(storage: str) -> None:
    assert "spec.resources.requests.storage" in complaint(requests={"storage": storage})


def test_zones_of_a_requirement_win_and_keep_their_order() -> None:
    found = read({"zones": "1"}, requirements={ZONE: ("westus2-3", "westus2-2")})
    assert found.zones == ("3", "2")
    assert read({"zones": "1"}, requirements={ZONE: ("0",)}).zones == ()


def test_a_zone_of_another_region_is_refused() -> None:
    assert "the cluster is in westus2" in complaint(requirements={ZONE: ("eastus-1",)})
    assert "the cluster is in westus2" in complaint({"zones": "eastus-1"})


def test_capacity_types_of_a_requirement_win() -> None:
    key = labels.CAPACITY_TYPE_LABEL
    assert read({"capacity-type": "spot"}, requirements={key: ("on-demand",)}).capacity_types == (
        "on-demand",
    )
    assert read(requirements={key: ("on-demand", "spot")}).capacity_types == ("spot", "on-demand")
    assert "allowed are spot and on-demand" in complaint(requirements={key: ("reserved",)})


def test_other_systems_than_linux_are_refused() -> None:
    assert "must allow linux" in complaint(requirements={labels.OS_LABEL: ("windows",)})
    assert read(requirements={labels.OS_LABEL: ("windows", "linux")}) == PoolOptions(disk_gib=100)


def test_a_claim_without_machine_size_is_refused() -> None:
    assert "names no machine size" in complaint(instance_types=())


@pytest.mark.parametrize("name", ["invalid-name", "Ws1", "1ws", "", "abcdefghijklm"])
def test_a_name_that_no_pool_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidConfiguration, match="1 to 12 lower-case letters and digits"):
        check_name(a_claim(name=name))


def test_a_name_that_a_pool_can_have_passes() -> None:
    check_name(a_claim(name="ws0123abcdef"))


def test_the_guide_lists_every_option_and_no_other() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "aks.md").read_text(encoding="utf-8")
    section = guide.partition("\n## Options\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)
    assert rows == [option.name for option in OPTIONS]
