"""Many claims, few cores, late figures: Azure never refuses one, all come to their turn, and nobody is overtaken."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kaito.provisioner.aks.quota import LAG
from kaito.provisioner.errors import QuotaReached, WaitingForQuota
from kaito.runtime.testing import VirtualClock, run_virtual
from support.quotas import A100_FAMILY, Gated

SIZES = (
    "Standard_NC24ads_A100_v4",
    "Standard_NC48ads_A100_v4",
    "Standard_NC96ads_A100_v4",
    "Standard_NC6s_v3",
)
FAMILIES = (A100_FAMILY, "standardNCSv3Family", "cores", "lowPriorityCores")


@dataclass(frozen=True)
class Life:
    """One claim: when it comes, what it wants, and how long its pool takes and lives. Seconds."""

    arrives: int
    size: str
    spot: bool
    before_put: int
    until_counted: int
    until_made: int
    fails: bool
    lives: int


lives = st.lists(
    st.builds(
        Life,
        arrives=st.integers(0, 200),
        size=st.sampled_from(SIZES),
        spot=st.booleans(),
        before_put=st.sampled_from((0, 1, 100)),
        until_counted=st.sampled_from((0, 1, 100)),
        until_made=st.sampled_from((0, 10, 30, 300)),
        fails=st.booleans(),
        lives=st.sampled_from((1, 600, 3000)),
    ),
    min_size=1,
    max_size=12,
)
limits = st.tuples(*(st.sampled_from((0, 24, 48, 102, 200)) for _ in FAMILIES))


class Story:
    def __init__(self, limits: tuple[int, ...], lag: int) -> None:
        self.gated = Gated(VirtualClock(), self.wake)
        self.called: dict[str, asyncio.Event] = {}
        self.passed: set[int] = set()
        self.gated.arm.quota.lag = float(lag)
        for name, limit in zip(FAMILIES, limits, strict=True):
            self.gated.arm.quota.limit(name, limit)
        self.waiting: dict[int, Life] = {}
        self.admitted: set[int] = set()
        self.refused: set[int] = set()

    async def live(self, number: int, life: Life) -> None:
        clock, gate = self.gated.clock, self.gated.gate
        await clock.sleep(life.arrives)
        if not await self.turn(number, life):
            return
        await clock.sleep(life.before_put)
        await self.run(number, life)
        gate.given_up(f"uid-{number}")

    async def turn(self, number: int, life: Life) -> bool:
        """Asks until it is admitted; False when it never can be."""
        while True:
            try:
                await self.gated.admit(number, life.size, spot=life.spot)
            except WaitingForQuota:
                assert number not in self.passed, f"{number} was overtaken"
                self.waiting[number] = life
                await self.rest(f"ws{number}")
            except QuotaReached:
                self.refused.add(number)
                return False
            else:
                self.not_overtaken(number, life)
                self.waiting.pop(number, None)
                self.admitted.add(number)
                return True

    async def rest(self, name: str) -> None:
        """Until it is woken, or a minute has passed."""
        woken = self.called[name] = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with self.gated.clock.timeout(60):
                await woken.wait()

    def wake(self, name: str) -> None:
        if name in self.called:
            self.called[name].set()

    def not_overtaken(self, number: int, life: Life) -> None:
        """Older ones that still wait for the same have been called too, so that they are next."""
        family = self.family(life)
        self.passed |= {
            each for each, other in self.waiting.items() if each < number and self.family(other) == family
        }
        self.passed.discard(number)

    def family(self, life: Life) -> str:
        return "spot" if life.spot else self.gated.arm.size(life.size).family

    async def run(self, number: int, life: Life) -> None:
        """The pool: counted by Azure at some moment of its making, and gone in the end."""
        clock, quota, size = self.gated.clock, self.gated.arm.quota, self.gated.arm.size(life.size)
        await clock.sleep(life.until_counted)
        short = quota.shortage(size, 1, life.spot, clock.now(), shown=False)
        assert short is None, f"Azure would refuse {number}: {short}"
        quota.hold(f"ws{number}", size, 1, life.spot, clock.now())
        await clock.sleep(life.until_made)
        if not life.fails:
            self.gated.gate.settled(f"uid-{number}")
            await clock.sleep(life.lives)
        quota.release(f"ws{number}", clock.now())


@settings(max_examples=40, deadline=None)
@given(lives, limits, st.sampled_from((0, int(LAG))))
def test_promises_never_exceed_the_limit_and_nobody_starves(
    claims: list[Life], limits: tuple[int, ...], lag: int
) -> None:
    story = Story(limits, lag)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number, life in enumerate(claims):
                group.create_task(story.live(number, life))

    run_virtual(main)
    assert story.admitted | story.refused == set(range(len(claims)))
    for number in story.refused:
        size, spot = story.gated.arm.size(claims[number].size), claims[number].spot
        allowed = dict(zip(FAMILIES, limits, strict=True))
        quotas = ("lowPriorityCores",) if spot else (size.family, "cores")
        assert size.vcpus > min(allowed[quota] for quota in quotas)
