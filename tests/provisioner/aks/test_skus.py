"""What is read of Azure's Resource SKUs."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.provisioner.aks.skus import MachineSize, nearest, read_sizes, refusal
from kaito.provisioner.testing.sizes import SIZES, Size, Sizes

LOCATION = "eastus"


def sizes(*of: Size) -> dict[str, MachineSize]:
    return read_sizes([size.in_sku_api(LOCATION) for size in of or SIZES], LOCATION)


def test_a_size_is_read_with_cores_family_gpus_zones_and_spot() -> None:
    found = sizes(Size("Standard_NC24ads_A100_v4", 24, 220, 1, "standardNCADSA100v4Family", zones=("2", "1")))
    assert found["standard_nc24ads_a100_v4"] == MachineSize(
        "Standard_NC24ads_A100_v4", "standardNCADSA100v4Family", 24, 1, ("1", "2"), spot=True
    )


def test_zones_that_the_subscription_may_not_use_are_left_out() -> None:
    found = sizes(Size("Standard_X", 4, 8, 0, "family", zones=("1", "2", "3"), restricted_zones=("2",)))
    assert found["standard_x"].zones == ("1", "3")
    assert not found["standard_x"].restricted


@pytest.mark.parametrize(
    "change",
    [
        {"resourceType": "disks"},
        {"capabilities": [{"name": "vCPUs", "value": "many"}]},
        {"capabilities": None},
        {"family": None},
        {"name": ""},
    ],
)
def test_what_is_no_machine_with_cores_and_family_is_left_out(change: dict[str, Any]) -> None:
    assert read_sizes([{**SIZES[0].in_sku_api(LOCATION), **change}], LOCATION) == {}


def test_a_restricted_size_is_refused_with_the_region_the_reason_and_what_can_be_had() -> None:
    region = Sizes()
    region.restrict("Standard_NC24ads_A100_v4")
    region.restrict("Standard_NC40ads_H100_v5")
    found = sizes(*region.all())
    text = refusal(found["standard_nc24ads_a100_v4"], found, LOCATION, spot=False)
    assert text.startswith(
        "Standard_NC24ads_A100_v4 is not available to this subscription in eastus (NotAvailableForSubscription); "
        "available there: Standard_NC16as_T4_v3, Standard_NV36ads_A10_v5, Standard_NC8as_T4_v3; or ask Azure support"
    )
    assert "H100_v5" not in text


def test_a_size_that_cannot_be_spot_is_refused_only_as_spot() -> None:
    found = sizes()
    h100 = found["standard_nc40ads_h100_v5"]
    assert refusal(h100, found, LOCATION, spot=False) == ""
    assert "cannot be had as a spot machine" in refusal(h100, found, LOCATION, spot=True)


def test_sizes_named_instead_have_gpus_enough_and_the_nearest_comes_first() -> None:
    found = sizes()
    assert nearest(found["standard_nc12s_v3"], found) == [
        "Standard_NC48ads_A100_v4",
        "Standard_NV72ads_A10_v5",
        "Standard_NC80adis_H100_v5",
    ]
    only = sizes(Size("Standard_NC6s_v3", 6, 112, 1, "f", restricted=True))
    text = refusal(only["standard_nc6s_v3"], only, LOCATION, spot=False)
    assert "no other size with its GPUs is available there" in text
