"""The rules of the quota: who may take which cores, and behind whom others wait."""

from __future__ import annotations

from datetime import timedelta

from kaito.provisioner.aks.ledger import (
    SPOT,
    TOTAL,
    Exceeds,
    Figures,
    Fits,
    Ledger,
    Need,
    Quota,
    Short,
    Verdict,
    judge,
    quotas_of,
    read_usages,
)
from kaito.runtime.testing.virtual import EPOCH

A100, H100 = "standardNCADSA100v4Family", "StandardNCadsH100v5Family"


def figures(asked: float = 0.0, **limits: tuple[int, int]) -> Figures:
    """Quotas by `a100`, `h100`, `cores`, `spot`: limit and used."""
    names = {"a100": A100, "h100": H100, "cores": TOTAL, "spot": SPOT}
    quotas = {names[key].lower(): Quota(names[key], *pair, names[key]) for key, pair in limits.items()}
    return Figures(quotas, asked)


def quota(world: Figures, name: str) -> Quota:
    found = world.of(name)
    assert found is not None
    return found


def need(number: int, cores: int = 24, family: str = A100, *, spot: bool = False) -> Need:
    name = f"ws{number}"
    created = EPOCH + timedelta(seconds=number)
    return Need(f"uid-{number}", name, created, "Standard_X", cores, quotas_of(family, spot=spot))


def told(verdicts: dict[Need, Verdict]) -> dict[str, Verdict]:
    return {need.name: verdict for need, verdict in verdicts.items()}


def test_limit_less_used_less_promised_is_what_can_be_had() -> None:
    world = figures(a100=(72, 24), cores=(1000, 0))
    assert told(judge(world, [need(0)], [need(1)])) == {"ws1": Fits()}
    verdict = judge(world, [need(0)], [need(1), need(2)])[need(2)]
    assert verdict == Short(quota(world, A100), 48, 24, (), ("ws0", "ws1"))


def test_the_region_counts_all_families_together() -> None:
    world = figures(a100=(1000, 0), h100=(1000, 0), cores=(50, 10))
    verdicts = told(judge(world, [need(0)], [need(1, 40, H100)]))
    assert verdicts["ws1"] == Short(quota(world, TOTAL), 24, 24, (), ("ws0",))


def test_spot_machines_count_against_the_spot_quota_alone() -> None:
    world = figures(a100=(0, 0), cores=(0, 0), spot=(24, 0))
    verdicts = told(judge(world, [], [need(1, spot=True), need(2, spot=True)]))
    assert verdicts["ws1"] == Fits()
    assert verdicts["ws2"] == Short(quota(world, SPOT), 24, 24, (), ("ws1",))


def test_those_who_came_later_wait_behind_a_larger_one_of_the_same_family() -> None:
    world = figures(a100=(96, 48), cores=(1000, 0))
    verdicts = told(judge(world, [], [need(3, 24), need(2, 24), need(1, 96)]))
    a100 = quota(world, A100)
    assert verdicts == {
        "ws1": Short(a100, 0, 48),
        "ws2": Short(a100, 0, 72, ("ws1",)),
        "ws3": Short(a100, 0, 96, ("ws1", "ws2")),
    }


def test_those_who_need_another_family_pass_the_line() -> None:
    world = figures(a100=(24, 24), h100=(80, 0), cores=(1000, 0))
    verdicts = told(judge(world, [], [need(1), need(2, 40, H100), need(3, 40, H100)]))
    assert isinstance(verdicts["ws1"], Short)
    assert (verdicts["ws2"], verdicts["ws3"]) == (Fits(), Fits())


def test_who_waits_for_the_region_is_not_overtaken_there() -> None:
    world = figures(a100=(1000, 0), h100=(1000, 0), cores=(100, 60))
    verdicts = told(judge(world, [], [need(1, 48), need(2, 40, H100)]))
    assert isinstance(verdicts["ws1"], Short)
    waits = verdicts["ws2"]
    assert isinstance(waits, Short)
    assert (waits.quota.name, waits.ahead) == (TOTAL, ("ws1",))


def test_a_need_above_the_whole_limit_holds_nobody_up() -> None:
    world = figures(a100=(24, 0), cores=(1000, 0))
    verdicts = told(judge(world, [], [need(1, 48), need(2)]))
    assert verdicts == {"ws1": Exceeds(quota(world, A100)), "ws2": Fits()}


def test_a_quota_that_is_not_told_or_without_limit_refuses_nobody() -> None:
    assert told(judge(figures(cores=(100, 0)), [], [need(1)])) == {"ws1": Fits()}
    assert told(judge(figures(a100=(-1, 500), cores=(100, 0)), [], [need(1)])) == {"ws1": Fits()}


def test_one_claim_with_two_wishes_takes_cores_once() -> None:
    world = figures(a100=(24, 0), h100=(24, 0), cores=(48, 0))
    both = [need(1), need(1, 24, H100)]
    verdicts = judge(world, [], [*both, need(2, 24, H100)])
    assert [verdicts[each] for each in both] == [Fits(), Fits()]
    assert verdicts[need(2, 24, H100)] == Fits()


def test_usages_are_read_as_azure_writes_them_and_found_in_any_case() -> None:
    found = read_usages(
        [
            {
                "limit": 48,
                "currentValue": 24,
                "unit": "Count",
                "name": {"value": A100, "localizedValue": "A100 vCPUs"},
            },
            {"limit": "48", "currentValue": 24, "name": {"value": "odd"}},
            {"limit": 1, "currentValue": 0},
        ],
        7.0,
    )
    assert found.of(A100.upper()) == Quota(A100, 48, 24, "A100 vCPUs")
    assert found.of("odd") is None
    assert (found.asked, len(found.quotas)) == (7.0, 1)


def ledger() -> Ledger:
    return Ledger(patience=300, longest=1800, lag=60)


def test_a_promise_ends_with_figures_that_are_certain_to_show_it() -> None:
    book = ledger()
    book.promise(need(1), 0)
    book.update(figures(500))
    assert book.promised == [need(1)], "the pool may still be on its way"
    book.settle("uid-1", 500)
    book.settle("uid-1", 550)
    book.update(figures(559))
    assert book.promised == [need(1)], "asked too early to be certain"
    book.update(figures(560))
    assert book.promised == []


def test_a_promise_that_nobody_speaks_of_ends_by_itself() -> None:
    book = ledger()
    book.promise(need(1), 0)
    book.expire(1799)
    assert book.renew("uid-1", "standard_x", 1799, spot=False)
    book.expire(1800)
    assert book.promised == [need(1)]
    book.expire(1799 + 1800)
    assert book.promised == []


def test_another_size_or_kind_of_machine_is_another_promise() -> None:
    book = ledger()
    book.promise(need(1), 0)
    assert not book.renew("uid-1", "Standard_Y", 1, spot=False)
    assert not book.renew("uid-1", "Standard_X", 1, spot=True)
    book.wait(need(1, 96), 2)
    assert (book.promised, book.line) == ([], [need(1, 96)])
    book.promise(need(1, 24, H100), 3)
    assert (book.promised, book.line) == ([need(1, 24, H100)], [])


def test_who_asks_no_more_has_left_the_line() -> None:
    book = ledger()
    book.wait(need(2), 0)
    book.wait(need(1), 250)
    assert book.line == [need(1), need(2)]
    book.expire(300)
    assert book.line == [need(1)]


def test_what_is_restored_never_replaces_what_is_known() -> None:
    book = ledger()
    book.promise(need(1), 0)
    book.restore(need(1, 96), 5)
    book.restore(need(2), 5)
    assert book.promised == [need(1), need(2)]
