"""What can be bought and in which order, what is remembered, and what is said when nothing is left."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.catalog import load_catalog
from kaito.provisioner.aks import outcome
from kaito.provisioner.aks.cluster import not_running
from kaito.provisioner.aks.offerings import (
    CAPACITY_MEMORY,
    SKU_MEMORY,
    Offering,
    Unavailable,
    nothing_left,
    offerings,
    successor,
)
from kaito.provisioner.aks.options import PoolOptions
from kaito.provisioner.aks.queue import Wait
from kaito.provisioner.errors import (
    ZONAL_ALLOCATION_FAILURE,
    CloudError,
    InstanceTypeUnavailable,
    InsufficientCapacity,
    QuotaReached,
)

CATALOG = load_catalog()
A, B = "Standard_NC24ads_A100_v4", "Standard_NC4as_T4_v3"
EMPTY = InsufficientCapacity("no machine is free", retry_after=1)


def test_sizes_come_first_then_spot_then_zones() -> None:
    options = PoolOptions(100, zones=("2", "1"), capacity_types=("spot", "on-demand"))
    assert [str(each) for each in offerings((A, B), options)][:5] == [
        f"{A} (spot) in zone 2",
        f"{A} (spot) in zone 1",
        f"{A} in zone 2",
        f"{A} in zone 1",
        f"{B} (spot) in zone 2",
    ]
    assert offerings((A,), PoolOptions(100)) == [Offering(A)]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (EMPTY, CAPACITY_MEMORY),
        (InsufficientCapacity("x", retry_after=900), 900),
        (QuotaReached("x"), 600),
        (InstanceTypeUnavailable("x"), SKU_MEMORY),
    ],
)
def test_what_could_not_be_had_is_left_out_for_a_while(error: CloudError, seconds: float) -> None:
    memory = Unavailable()
    memory.mark(Offering(A), error, 100)
    found = memory.refusal(Offering(A.lower()), 100 + seconds - 10)
    assert type(found) is type(error)
    assert found is not None
    assert (found.message, found.retry_after) == (error.message, 10)
    assert memory.refusal(Offering(A), 100 + seconds) is None
    assert len(memory) == 0


def test_a_zone_without_machines_says_nothing_of_the_others() -> None:
    memory = Unavailable()
    memory.mark(Offering(A, zone="1"), EMPTY, 0)
    assert memory.refusal(Offering(A, zone="2"), 1) is None
    assert memory.refusal(Offering(A), 1) is None
    assert memory.refusal(Offering(A, "spot", "1"), 1) is None


def test_a_quota_is_one_for_all_zones() -> None:
    memory = Unavailable()
    memory.mark(Offering(A, zone="1"), QuotaReached("x"), 0)
    assert memory.refusal(Offering(A, zone="2"), 1) is not None


def test_one_offering_keeps_its_own_sentence() -> None:
    error = InsufficientCapacity("no machine is free", reason=ZONAL_ALLOCATION_FAILURE)
    found = nothing_left({Offering(A): error}, CATALOG)
    assert (found.message, found.why) == ("no machine is free", ZONAL_ALLOCATION_FAILURE)


def test_several_are_named_each_with_its_reason_and_the_first_to_come_back_counts() -> None:
    refusals = {
        Offering(A, "spot", "1"): EMPTY,
        Offering(A, "spot", "2"): EMPTY,
        Offering(B): QuotaReached("the quota is used up", retry_after=600),
    }
    found = nothing_left(refusals, CATALOG)
    assert type(found) is InsufficientCapacity
    assert found.retry_after == 1
    assert found.message == (
        f"none of the machines that are allowed can be had: {A} (spot) in zones 1, 2: no machine is free; "
        f"{B}: the quota is used up"
    )


def test_a_quota_that_stops_all_sizes_reads_as_one() -> None:
    found = nothing_left({Offering(A): QuotaReached("x"), Offering(B): QuotaReached("y")}, CATALOG)
    assert type(found) is QuotaReached


def test_the_successor_of_a_retired_size_has_as_much_memory() -> None:
    found = successor("standard_nc6s_v3", CATALOG)
    assert found is not None
    assert found.name == B
    assert successor(A, CATALOG) is None, "it is not retired"
    assert successor("Standard_Unknown", CATALOG) is None


@pytest.mark.parametrize(
    ("wait", "text"),
    [
        (Wait(60, 0, ()), "next in line for the cluster c, which takes one operation at a time"),
        (Wait(60, 0, ("ws1",)), "; the operation on ws1 is awaited"),
        (Wait(60, 1, ("ws1",)), "; 1 was there first"),
        (Wait(60, 5, ()), "; 5 were there first"),
        (Wait(60, 21, ()), "; up to 30 were there first"),
    ],
)
def test_who_waits_is_told_behind_how_many(wait: Wait, text: str) -> None:
    assert outcome.queued(wait, "c").endswith(text)


def a_cluster(power: str | None, state: str | None) -> dict[str, Any]:
    return {
        "name": "c",
        "properties": {
            **({"powerState": {"code": power}} if power else {}),
            **({"provisioningState": state} if state else {}),
        },
    }


@pytest.mark.parametrize(
    ("power", "state", "own", "text"),
    [
        ("Running", "Succeeded", False, None),
        (None, None, False, None),
        ("Running", "Updating", True, None),
        ("Running", "Updating", False, "the cluster c is updating"),
        ("Running", "Failed", True, "ended as Failed"),
        ("Running", "Canceled", False, "ended as Canceled"),
        ("Stopped", "Succeeded", True, "az aks start"),
        ("Running", "Starting", True, "the cluster c is starting"),
        ("Running", "Stopping", True, "the cluster c is stopping"),
        ("Running", "Deleting", True, "the cluster c is deleting"),
    ],
)
def test_when_the_cluster_is_left_alone(
    power: str | None, state: str | None, own: bool, text: str | None
) -> None:
    found = not_running(a_cluster(power, state), own_operations=own)
    assert (found is None) if text is None else (found is not None and text in found)


def test_what_holds_the_cluster_is_said_once() -> None:
    text = outcome.refused_turn("c", "another operation holds the cluster: PUT is in progress")
    assert text == "another operation holds the cluster c, and its end is awaited (PUT is in progress)"
