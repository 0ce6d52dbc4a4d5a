"""The gate before every pool: is there quota for it, and whose turn is it?

Asks the cloud for its figures at most once a minute, for all claims together, and never on behalf of a single one. What
cannot be known is no reason to refuse: the gate then says so in the log, once, and the cloud decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from prometheus_client.core import Metric

from kaito.provisioner.aks.clouds import PUBLIC
from kaito.provisioner.aks.ledger import (
    SPOT,
    TOTAL,
    Exceeds,
    Figures,
    Fits,
    Ledger,
    Need,
    Short,
    Verdict,
    judge,
    quotas_of,
    read_usages,
)
from kaito.provisioner.aks.quota_metrics import quota_metrics
from kaito.provisioner.aks.skus import MachineSize, Sizes, read_sizes, refusal
from kaito.provisioner.cloud import ClaimSpec
from kaito.provisioner.errors import (
    REGIONAL_QUOTA_REACHED,
    CloudError,
    InstanceTypeUnavailable,
    QuotaReached,
    WaitingForQuota,
)
from kaito.runtime.clock import Clock
from kaito.runtime.logs import get_logger

FIGURES_AGE: Final = 60.0
"""Seconds between two questions for the figures."""
TRUSTED_AGE: Final = 300.0
"""Seconds for which figures are still believed while the cloud does not tell newer ones."""
SIZES_AGE: Final = 6 * 3600.0
"""Seconds between two questions for the machine sizes: a long answer that hardly ever changes."""
REFUSED_AGE: Final = 600.0
"""The same where a size was refused: a person may have had the restriction lifted."""
PATIENCE: Final = 300.0
"""Seconds after which a claim that no longer asks has left the line; those that wait ask every minute."""
LONGEST_PROMISE: Final = 1800.0
"""Seconds after which a promise ends that nobody renews or settles: far longer than AKS takes to make a pool."""
LAG: Final = 60.0
"""Seconds for which the figures may not yet show a machine that runs already."""
NO_QUOTA_DELAY: Final = 3600.0
"""Seconds until a claim is tried again whose quota is 0: raising it takes a person, and Azure hours."""
CLAIM_UID_LABEL: Final = "kaito.sh/claim-uid"
OTHERS: Final = "pool/"
"""Begins what stands for the uid of a claim where a pool was made for none."""

T = TypeVar("T")
log = get_logger(__name__)


class QuotaSource(Protocol):
    """The part of Azure that is asked; entries as the APIs answer them. All raise CloudError."""

    async def usages(self) -> Sequence[Mapping[str, Any]]: ...
    async def resource_skus(self) -> Sequence[Mapping[str, Any]]: ...
    async def list_pools(self) -> Sequence[Mapping[str, Any]]: ...


class _Shared(Generic[T]):
    """An answer for all who ask, fetched by one of them; a failure is an answer too, and is not repeated at once."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], clock: Clock, what: str) -> None:
        self._fetch = fetch
        self._clock = clock
        self._what = what
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._told = float("-inf")
        self._asked = float("-inf")
        self._failing = False

    async def get(self, age: float, trusted: float) -> T | None:
        """The answer, not older than `age` if it can be had, else than `trusted` seconds, else None."""
        async with self._lock:
            now = self._clock.now()
            if now >= self._told + age and now >= self._asked + FIGURES_AGE:
                self._asked = now
                await self._ask(now)
            return self._value if self._clock.now() < self._told + trusted else None

    async def _ask(self, now: float) -> None:
        try:
            self._value = await self._fetch()
        except CloudError as error:
            if not self._failing:
                log.warning(
                    f"{self._what} cannot be read; Azure decides by itself meanwhile",
                    error=error.message,
                    reason=error.why,
                )
            self._failing = True
            return
        if self._failing:
            log.info(f"{self._what} can be read again")
        self._failing = False
        self._told = now

    def expire(self) -> None:
        """The next who asks has it fetched anew."""
        self._told = self._asked = float("-inf")


class QuotaGate:
    """Admits claims to the cloud as their cores become free.

    arm: whom to ask. location: the region, as in `eastus`. wake: called with the name of a claim that waits and would
    be admitted now. link: where a person raises quotas.
    """

    def __init__(
        self,
        arm: QuotaSource,
        clock: Clock,
        location: str,
        wake: Callable[[str], None],
        *,
        link: str = PUBLIC.quota_page,
    ) -> None:
        self._arm = arm
        self._clock = clock
        self._location = location
        self._wake = wake
        self._link = link
        self._sizes: _Shared[Sizes] = _Shared(self._fetch_sizes, clock, "the machine sizes of the region")
        self._figures: _Shared[Figures] = _Shared(
            self._fetch_figures, clock, "the quotas of the subscription"
        )
        self._known: Figures | None = None
        self._ledger = Ledger(patience=PATIENCE, longest=LONGEST_PROMISE, lag=LAG)
        self._refused: dict[Need, float] = {}
        self._unknown: set[str] = set()
        self._families: dict[str, None] = {TOTAL: None, SPOT: None}
        self._restored = False

    async def admit(self, claim: ClaimSpec, instance_type: str, *, spot: bool) -> None:
        """Returns once the cores of the machine are promised to the claim; asking again renews the promise.

        Raises:
            InstanceTypeUnavailable: the subscription may not have the size in the region.
            QuotaReached: the machine needs more than the whole quota.
            WaitingForQuota: others have the cores; the claim has its place in the line as long as it asks.
        """
        if self._ledger.renew(claim.uid, instance_type, self._clock.now(), spot=spot):
            return
        size = await self._size(instance_type, spot=spot)
        if size is None:
            return
        figures = await self._figures.get(FIGURES_AGE, TRUSTED_AGE)
        need = Need(
            claim.uid,
            claim.name,
            claim.created,
            size.name,
            size.cores,
            quotas_of(size.family, spot=spot),
        )
        now = self._clock.now()
        if self._ledger.expire(now):
            self._wake_the_next()
        if figures is None:
            self._ledger.promise(need, now)
            return
        self._decide(need, figures, now)

    def settled(self, claim_uid: str) -> None:
        """The claim's machine runs, so the cloud counts it from now on; or nothing will ever come of the claim."""
        self._ledger.settle(claim_uid, self._clock.now())

    def given_up(self, claim_uid: str) -> None:
        """Nothing is asked of the cloud for this claim any more, and nothing of it is left there: its cores are free at
        once for those who wait."""
        self._ledger.forget(claim_uid)
        for need in [each for each in self._refused if each.uid == claim_uid]:
            del self._refused[need]
        self._wake_the_next()

    def refused(self, claim_uid: str) -> None:
        """The cloud itself found no quota for the claim, so the figures are wrong: they are fetched anew."""
        self._ledger.forget(claim_uid)
        self._figures.expire()

    def collect(self) -> Iterator[Metric]:
        """The metrics `kaito_provisioner_quota_*`."""
        return quota_metrics(tuple(self._families), self._known, self._ledger.promised, self._ledger.line)

    async def _size(self, instance_type: str, *, spot: bool) -> MachineSize | None:
        """What is known of the size; None for one of which Azure tells nothing. Raises InstanceTypeUnavailable."""
        sizes = await self._sizes.get(SIZES_AGE, float("inf"))
        size = None if sizes is None else sizes.get(instance_type.lower())
        if sizes and size is not None and refusal(size, sizes, self._location, spot=spot):
            sizes = await self._sizes.get(REFUSED_AGE, float("inf")) or sizes
            size = sizes.get(instance_type.lower())
        if sizes is None or size is None:
            if sizes is not None and instance_type.lower() not in self._unknown:
                self._unknown.add(instance_type.lower())
                log.warning("not in Azure's list of sizes; its quota is not checked", size=instance_type)
            return None
        sentence = refusal(size, sizes, self._location, spot=spot)
        if sentence:
            raise InstanceTypeUnavailable(sentence)
        if size.gpus:
            self._families[size.family] = None
        return size

    def _decide(self, need: Need, figures: Figures, now: float) -> None:
        self._ledger.wait(need, now)
        verdicts = judge(figures, self._ledger.promised, self._ledger.line)
        verdict = verdicts.pop(need)
        if isinstance(verdict, Fits):
            self._ledger.promise(need, now)
            self._refused.pop(need, None)
            return
        if isinstance(verdict, Exceeds):
            self._ledger.leave(need)
            self._refused[need] = now
            raise self._exceeds(need, verdict)
        assert isinstance(verdict, Short)
        raise self._short(need, verdict)

    def _wake_the_next(self) -> None:
        """Calls those of the line for whom there is enough now; until they have come their cores are kept."""
        if self._known is None:
            return
        for need in _fitting(judge(self._known, self._ledger.promised, self._ledger.line)):
            self._wake(need.name)

    async def _fetch_sizes(self) -> Sizes:
        return read_sizes(await self._arm.resource_skus(), self._location)

    async def _fetch_figures(self) -> Figures:
        await self._find_pools()
        asked = self._clock.now()
        figures = self._known = read_usages(await self._arm.usages(), asked)
        self._ledger.update(figures)
        self._wake_the_next()
        for need, asked in list(self._refused.items()):
            raised = not isinstance(judge(figures, (), (need,))[need], Exceeds)
            if raised:
                self._wake(need.name)
            if raised or figures.asked > asked + 2 * NO_QUOTA_DELAY:
                del self._refused[need]
        return figures

    async def _find_pools(self) -> None:
        """After a start: the cores of pools that are being made are promised already, whoever makes them. Pools of
        others are looked at again until they are made; nobody else says so."""
        others = [need.uid for need in self._ledger.promised if need.uid.startswith(OTHERS)]
        if self._restored and not others:
            return
        sizes = await self._sizes.get(SIZES_AGE, float("inf")) or {}
        pools = await self._arm.list_pools()
        making = {each.uid: each for pool in pools if (each := self._made_for(pool, sizes)) is not None}
        now = self._clock.now()
        for uid in others:
            if uid not in making:
                self._ledger.settle(uid, now)
        if not self._restored:
            for need in making.values():
                self._ledger.restore(need, now)
        self._restored = True

    def _made_for(self, pool: Mapping[str, Any], sizes: Sizes) -> Need | None:
        """The cores that a pool takes which is being made; None for any other pool."""
        properties = pool.get("properties") or {}
        size = sizes.get(str(properties.get("vmSize")).lower())
        if size is None or str(properties.get("provisioningState")).lower() != "creating":
            return None
        name = str(pool.get("name"))
        uid = (properties.get("nodeLabels") or {}).get(CLAIM_UID_LABEL) or f"{OTHERS}{name}"
        spot = str(properties.get("scaleSetPriority")).lower() == "spot"
        cores = size.cores * int(properties.get("count") or 1)
        return Need(uid, name, self._clock.wall(), size.name, cores, quotas_of(size.family, spot=spot))

    def _exceeds(self, need: Need, verdict: Exceeds) -> QuotaReached:
        quota = verdict.quota
        allowed = f"{quota.limit} are allowed" if quota.limit else "none is allowed (limit 0)"
        return QuotaReached(
            f"{need.instance_type} needs {need.cores} of {quota.title} in {self._location}, where {allowed}; raise the "
            f"quota at {self._link} or choose another size",
            reason=REGIONAL_QUOTA_REACHED if quota.name.lower() == TOTAL else None,
            retry_after=None if quota.limit else NO_QUOTA_DELAY,
        )

    def _short(self, need: Need, verdict: Short) -> WaitingForQuota:
        quota = verdict.quota
        return WaitingForQuota(
            f"{need.instance_type} needs {need.cores} of {quota.title} in {self._location}: {quota.limit} allowed, "
            f"{quota.used} used, {verdict.promised} promised, so {verdict.missing} short; waits {_behind(verdict)}; "
            f"raise it at {self._link}"
        )


def _fitting(verdicts: Mapping[Need, Verdict]) -> Iterator[Need]:
    return (need for need, verdict in verdicts.items() if isinstance(verdict, Fits))


def _behind(verdict: Short) -> str:
    if verdict.ahead:
        return f"behind {_one_of(verdict.ahead)}"
    if verdict.holders:
        return f"for {_one_of(verdict.holders)} to start"
    return "for machines to end"


def _one_of(names: Sequence[str]) -> str:
    return names[-1] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
