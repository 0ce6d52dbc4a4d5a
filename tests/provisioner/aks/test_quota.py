"""The gate before every pool, on virtual time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kaito.provisioner.aks.clouds import PUBLIC
from kaito.provisioner.errors import (
    CloudUnreachable,
    InstanceTypeUnavailable,
    QuotaReached,
    Unauthorized,
    WaitingForQuota,
)
from kaito.runtime.testing.virtual import VirtualClock
from support.quotas import A100, A100_FAMILY, H100, H100_FAMILY, Gated, pool

V100 = "Standard_NC6s_v3"


@pytest.fixture
def gated(virtual_clock: VirtualClock) -> Gated:
    return Gated(virtual_clock)


async def test_two_claims_never_pass_on_the_same_cores(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24)
    gated.arm.takes = 1.0
    answers = await asyncio.gather(gated.admit(1), gated.admit(2), return_exceptions=True)
    assert answers[0] is None
    assert isinstance(answers[1], WaitingForQuota)
    assert gated.arm.asked == {"resource_skus": 1, "list_pools": 1, "usages": 1}


async def test_the_waiting_one_is_told_how_much_is_missing_behind_whom_and_where_to_raise_it(
    gated: Gated,
) -> None:
    gated.arm.quota.limit(A100_FAMILY, 48, used=24)
    await gated.admit(1)
    first, second, third = [await gated.refusal(number) for number in (2, 3, 4)]
    title = "standardNCADSA100v4 Family vCPUs in eastus: 48 allowed, 24 used, 24 promised"
    assert first.message == (
        f"{A100} needs 24 of {title}, so 24 short; waits for ws1 to start; raise it at {PUBLIC.quota_page}"
    )
    assert f"{title}, so 48 short; waits behind ws2; " in second.message
    assert f"{title}, so 72 short; waits behind ws3 (and 1 more); " in third.message
    assert len(third.message) <= 256, "a Workspace's status shows no more"
    assert (first.why, first.retry_after) == ("WaitingForQuota", 60)


async def test_who_waits_for_cores_of_running_machines_is_told_so(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24, used=24)
    assert "waits for machines to end" in (await gated.refusal(1)).message


async def test_no_quota_at_all_says_so_and_is_tried_again_slowly(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 0)
    error = await gated.refusal(1)
    assert isinstance(error, QuotaReached)
    assert (error.why, error.retry_after, error.terminal) == ("SubscriptionQuotaReached", 3600, False)
    assert error.message == (
        f"{A100} needs 24 of standardNCADSA100v4 Family vCPUs in eastus, where none is allowed (limit 0); raise the "
        f"quota at {PUBLIC.quota_page} or choose another size"
    )


async def test_the_whole_region_may_be_the_limit(gated: Gated) -> None:
    gated.arm.quota.limit("cores", 20)
    error = await gated.refusal(1)
    assert isinstance(error, QuotaReached)
    assert (error.why, error.retry_after) == ("RegionalQuotaReached", 600)
    assert "Total Regional vCPUs in eastus, where 20 are allowed" in error.message
    await gated.admit(2, V100)


async def test_spot_machines_need_spot_cores_alone(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 0)
    gated.arm.quota.limit("lowPriorityCores", 24)
    await gated.admit(1, spot=True)
    waits = await gated.refusal(2, spot=True)
    assert "Total Regional Low-priority vCPUs" in waits.message
    assert isinstance(await gated.refusal(3), QuotaReached)


async def test_a_claim_with_a_promise_asks_nothing_more(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24)
    await gated.admit(1)
    before = gated.arm.asked.copy()
    await gated.clock.sleep(1000)
    await gated.admit(1)
    assert gated.arm.asked == before
    await gated.clock.sleep(1000)
    assert isinstance(await gated.refusal(2), WaitingForQuota), "asking again renewed the promise"


async def test_the_figures_are_asked_for_once_a_minute_for_all(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24)
    await gated.admit(0)
    for _ in range(59):
        await asyncio.gather(*(gated.refusal(number) for number in range(1, 51)))
        await gated.clock.sleep(1)
    assert gated.arm.asked["usages"] == 1
    await gated.clock.sleep(1)
    await gated.refusal(1)
    assert gated.arm.asked == {"resource_skus": 1, "list_pools": 1, "usages": 2}


async def test_the_next_in_line_follows_when_the_cores_are_counted_and_freed(gated: Gated) -> None:
    quota, clock = gated.arm.quota, gated.clock
    quota.limit(A100_FAMILY, 48)
    await gated.admit(1)
    await gated.admit(2)
    for number in (4, 3):
        await gated.refusal(number)
    gated.gate.given_up("uid-1")
    assert gated.woken == ["ws3"], "the older one, though it asked later"
    await gated.admit(3)
    assert isinstance(await gated.refusal(4), WaitingForQuota)
    quota.hold("ws2", gated.arm.size(A100), 1, False, clock.now())
    gated.gate.settled("uid-2")
    quota.release("ws2", clock.now() + 100)
    await clock.sleep(120)
    await gated.admit(4)


async def test_cores_kept_for_one_who_was_called_are_free_again_when_it_does_not_come(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24)
    await gated.admit(1)
    await gated.refusal(2)
    await gated.refusal(3)
    gated.gate.given_up("uid-1")
    assert isinstance(await gated.refusal(3), WaitingForQuota)
    for _ in range(5):
        await gated.clock.sleep(59)
        assert isinstance(await gated.refusal(3), WaitingForQuota)
    await gated.clock.sleep(6)
    await gated.admit(3)


async def test_a_claim_that_goes_while_it_waits_holds_nobody_up(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 48, used=24)
    large = "Standard_NC48ads_A100_v4"
    await gated.refusal(1, large)
    assert "behind ws1" in (await gated.refusal(2)).message
    gated.gate.given_up("uid-1")
    assert gated.woken == ["ws2"]
    await gated.admit(2)


async def test_a_raised_quota_calls_those_who_were_refused(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 0)
    await gated.refusal(1)
    gated.arm.quota.limit(A100_FAMILY, 24)
    await gated.clock.sleep(60)
    await gated.admit(9, V100)
    assert gated.woken == ["ws1"]
    await gated.admit(1)


async def test_a_refusal_by_azure_itself_has_the_figures_fetched_anew(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24)
    await gated.admit(1)
    gated.arm.quota.limit(A100_FAMILY, 24, used=24)
    gated.gate.refused("uid-1")
    assert "24 used, 0 promised" in (await gated.refusal(1)).message


async def test_a_size_that_the_subscription_may_not_have_is_refused_and_looked_at_again_later(
    gated: Gated,
) -> None:
    gated.arm.sizes.restrict(A100)
    error = await gated.refusal(1)
    assert isinstance(error, InstanceTypeUnavailable)
    assert "in eastus (NotAvailableForSubscription)" in error.message
    gated.arm.sizes.change(A100, restricted=False)
    await gated.clock.sleep(599)
    await gated.refusal(1)
    await gated.clock.sleep(1)
    await gated.admit(1)
    assert gated.arm.asked["resource_skus"] == 2


async def test_what_azure_does_not_list_is_left_to_azure(
    gated: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        await gated.admit(number, "Standard_Unheard_v9")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert gated.arm.asked == {"resource_skus": 1}


async def test_without_rights_azure_decides_and_the_log_says_so_once(
    gated: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24)
    gated.arm.failing["usages"] = Unauthorized("may not read usages")
    for number in range(3):
        await gated.admit(number)
        await gated.clock.sleep(61)
    assert gated.arm.asked["usages"] == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert gated.metric("promised")[A100_FAMILY] == 72
    gated.arm.failing.clear()
    assert isinstance(await gated.refusal(3), WaitingForQuota), "what was let through counts"


async def test_figures_are_believed_for_a_while_when_azure_falls_silent(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24)
    await gated.admit(1)
    gated.arm.failing["usages"] = CloudUnreachable("no answer")
    await gated.clock.sleep(299)
    assert isinstance(await gated.refusal(2), WaitingForQuota)
    await gated.clock.sleep(1)
    await gated.admit(2)


async def test_after_a_restart_pools_that_are_being_made_count_as_promised(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 72)
    gated.arm.pools = [
        pool("ws1", uid="uid-1"),
        pool("theirs"),
        pool("old", state="Succeeded", uid="uid-9"),
        pool("cheap", scaleSetPriority="Spot", uid="uid-8"),
    ]
    await gated.admit(2)
    assert "72 promised" in (await gated.refusal(3)).message
    gated.arm.pools = []
    await gated.clock.sleep(60)
    await gated.refusal(3)  # somebody else's pool is made now: counted twice for one more look
    await gated.clock.sleep(60)
    await gated.admit(3)
    assert gated.arm.asked["list_pools"] == 3


async def test_another_family_is_not_held_up(gated: Gated) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24, used=24)
    await gated.refusal(1)
    await gated.admit(2, H100)


async def test_metrics_tell_of_families_that_were_asked_for_and_of_the_totals(gated: Gated) -> None:
    assert gated.metric("promised") == gated.metric("waiting") == {"cores": 0, "lowPriorityCores": 0}
    assert gated.metric("limit") == {}
    gated.arm.quota.limit(A100_FAMILY, 48, used=24)
    await gated.admit(1)
    await gated.refusal(2)
    await gated.admit(3, "Standard_D4s_v5")
    assert gated.metric("limit") == {A100_FAMILY: 48, "cores": 10_000, "lowPriorityCores": 10_000}
    assert gated.metric("used") == {A100_FAMILY: 24, "cores": 0, "lowPriorityCores": 0}
    assert gated.metric("promised") == {A100_FAMILY: 24, "cores": 28, "lowPriorityCores": 0}
    assert gated.metric("waiting") == {A100_FAMILY: 24, "cores": 0, "lowPriorityCores": 0}
    assert H100_FAMILY not in gated.metric("limit")


async def test_a_claim_that_waits_for_two_sizes_leaves_both_lines_with_the_first_that_is_free(
    gated: Gated,
) -> None:
    gated.arm.quota.limit(A100_FAMILY, 24)
    gated.arm.quota.limit(H100_FAMILY, 40)
    await gated.admit(1)
    await gated.admit(2, H100)
    await gated.refusal(3)
    await gated.refusal(3, H100)
    assert "behind ws3" in (await gated.refusal(4)).message
    gated.gate.given_up("uid-2")
    assert gated.woken == ["ws3"]
    assert isinstance(await gated.refusal(3), WaitingForQuota), "its first choice is still taken"
    await gated.admit(3, H100)
    assert "waits for ws1 to start" in (await gated.refusal(4)).message
