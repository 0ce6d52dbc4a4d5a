"""AKS as a `CloudProvider`: one agent pool of one machine for each claim, of the claim's name.

Every verb looks at the pool, starts at most one operation, and returns. The pool itself is the only memory: it
carries its claim's uid, so any process finds at any time how far a claim has come. What is kept here between two
calls saves requests or says more; nothing is lost with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from kaito.catalog import Catalog, load_catalog
from kaito.provisioner.aks import outcome
from kaito.provisioner.aks.cluster import ClusterGuard
from kaito.provisioner.aks.known import AFRESH, MADE_POLL, POLL, Known, holds
from kaito.provisioner.aks.offerings import (
    OFFERING_ERRORS,
    Offering,
    Unavailable,
    nothing_left,
    offerings,
)
from kaito.provisioner.aks.operations import PoolOperations, PoolSource
from kaito.provisioner.aks.options import POOL_NAME, PoolOptions, check_name, read_options
from kaito.provisioner.aks.outcome import Unwanted, Wanted
from kaito.provisioner.aks.pool_metrics import PoolMetrics
from kaito.provisioner.aks.pools import POOL_LABEL, Phase, Pool, pool_body, pool_of
from kaito.provisioner.aks.queue import Order
from kaito.provisioner.cloud import ClaimSpec, CloudProvider, Instance, InstanceRef
from kaito.provisioner.errors import (
    CloudError,
    InstanceNotFound,
    InstancePending,
    PreconditionFailed,
    QuotaReached,
    Throttled,
    WaitingForQuota,
    WaitingForTurn,
)
from kaito.runtime.clock import Clock, rfc3339_micro
from kaito.runtime.lister import Lister
from kaito.runtime.logs import get_logger
from kaito.runtime.metrics import MetricSource
from kaito.runtime.objects import CachedObject

log = get_logger(__name__)


class Gate(MetricSource, Protocol):
    """Whether there is quota; see `quota.QuotaGate`."""

    async def admit(self, claim: ClaimSpec, instance_type: str, *, spot: bool) -> None: ...
    def settled(self, claim_uid: str) -> None: ...
    def given_up(self, claim_uid: str) -> None: ...
    def refused(self, claim_uid: str) -> None: ...


class AksProvider(CloudProvider):
    """`CloudProvider` over the agent pools of one managed cluster.

    arm: the cluster, as `arm.Arm`. nodes: the cache of Nodes. location: the region, such as westus2. cluster: its
    name, for messages. gate: from a function that wakes claims. defaults: options for claims that do not say
    otherwise.
    """

    claim_label: ClassVar[str] = POOL_LABEL

    def __init__(
        self,
        arm: PoolSource,
        clock: Clock,
        nodes: Lister,
        *,
        location: str,
        cluster: str,
        gate: Callable[[Callable[[str], None]], Gate],
        defaults: Mapping[str, str],
        catalog: Catalog | None = None,
    ) -> None:
        self._arm = arm
        self._clock = clock
        self._nodes = nodes
        self._location = location
        self._defaults = dict(defaults)
        self._catalog = catalog if catalog is not None else load_catalog()
        self._guard = ClusterGuard(arm, clock, location)
        self._operations = PoolOperations(arm, clock, self._guard, cluster, self._wake)
        self._gate = gate(self._wake)
        self._unavailable = Unavailable()
        self.metrics: Sequence[MetricSource] = (
            arm.metrics,
            self._gate,
            PoolMetrics(self._operations.queue, self._unavailable),
        )
        self._known: dict[tuple[str, str], Known] = {}
        self._resting: dict[str, float] = {}
        self._subscribers: list[Callable[[str], None]] = []

    async def create(self, claim: ClaimSpec) -> Instance:
        check_name(claim)
        known = self._known.setdefault((claim.name, claim.uid), Known())
        if self._clock.now() >= known.until:
            await self._look(claim.name, known)
        match outcome.wanted(known.pool, claim), known.pool:
            case Wanted.JOIN, Pool() as pool:
                return self._joined(claim, pool)
            case Wanted.TAKEN, Pool() as pool:
                known.until = float("-inf")
                raise outcome.name_taken(pool, claim)
            case Wanted.REPLACE, Pool() as pool:
                await self._replace(claim, known, pool)
            case _, Pool() as pool:
                if pool.phase is Phase.STOPPED:
                    await self.check_running()  # or somebody stopped the pool alone
                raise self._awaited(claim, known, pool)
        raise await self._launch(claim, known)

    async def get(self, ref: InstanceRef) -> Instance:
        name = _pool_name(ref)
        pool = (await self._operations.read(name))[0] if POOL_NAME.match(name) else None
        if pool is None or not (pool.is_meant(ref) or pool.may_be_meant(ref)):
            raise InstanceNotFound(f"there is no agent pool {name} of the claim {ref.claim_name or name}")
        return self._instance(pool, ref.provider_id)

    async def delete(self, ref: InstanceRef) -> bool:
        name = _pool_name(ref)
        if not POOL_NAME.match(name):
            return True  # nothing was ever made for such a claim
        if self._clock.now() < self._resting.get(name, float("-inf")):
            return False
        polled = name in self._resting
        pool = await self._operations.poll(name) if polled else (await self._operations.read(name))[0]
        match outcome.unwanted(pool, ref), pool:
            case Unwanted.LEAVING, _:
                self._rest(name, self._operations.until_next_poll(POLL))
                return False
            case Unwanted.DELETE, Pool() as pool:
                await self._delete(pool)
                return False
            case Unwanted.UNMARKED, Pool() as pool:
                raise outcome.unmarked(pool)
        if pool is not None:
            log.info("an agent pool of somebody else is left alone", pool=name, claim=ref.claim_name)
        self._forget(name, ref.claim_uid)
        return True

    async def list(self) -> Sequence[Instance]:
        pools = await self._operations.list()
        for name in self._resting.keys() - {pool.name for pool in pools}:
            del self._resting[name]  # gone; where there is no claim nobody asks for it again
        return [self._instance(pool) for pool in pools if pool.for_a_claim]

    async def check_running(self) -> None:
        own = self._operations.queue.any_running(self._clock.now())
        await self._guard.require_running(own_operations=own)

    async def close(self) -> None:
        """Ends all connections."""
        await self._arm.close()

    def subscribe(self, wake: Callable[[str], None]) -> None:
        self._subscribers.append(wake)

    def _wake(self, name: str) -> None:
        self._resting.pop(name, None)
        for wake in self._subscribers:
            wake(name)

    # Looking

    async def _look(self, name: str, known: Known) -> None:
        """Reads the pool, and says until when that holds."""
        if known.pool is not None and known.pool.phase in (Phase.BUSY, Phase.DELETING):
            known.pool = await self._operations.poll(name)
            wait = self._operations.until_next_poll(known.seconds_between(self._clock.wall()))
        else:
            known.pool, known.period = await self._operations.read(name)
            wait = known.seconds_between(self._clock.wall())
        known.until = self._clock.now() + holds(known.pool, wait)

    def _awaited(self, claim: ClaimSpec, known: Known, pool: Pool) -> InstancePending:
        left = max(AFRESH, known.until - self._clock.now())
        if pool.phase is not Phase.DELETING:
            return outcome.awaited(pool, left)
        if (
            known.cause is None and pool.error and pool.is_of(claim)
        ):  # it failed, and another process began to remove it
            error = self._arm.problem(pool.error)
            if isinstance(error, OFFERING_ERRORS):
                self._failed(claim, known, pool, error)
        if known.cause is None:
            return outcome.awaited(pool, left)
        return outcome.replacing(pool, known.cause, left)

    def _joined(self, claim: ClaimSpec, pool: Pool) -> Instance:
        self._gate.settled(claim.uid)
        nodes = self._nodes_of(pool.name)
        if outcome.node_of(pool, nodes) is None:
            raise outcome.joining(pool, len(nodes))
        self._known.pop((claim.name, claim.uid), None)
        return outcome.instance(pool, outcome.node_of(pool, nodes), self._catalog, claim.kind)

    def _instance(self, pool: Pool, provider_id: str = "") -> Instance:
        node = outcome.node_of(pool, self._nodes_of(pool.name))
        found = outcome.instance(pool, node, self._catalog)
        if provider_id and provider_id.lower() != found.provider_id.lower():
            found = outcome.with_id(found, provider_id)
        return found

    def _nodes_of(self, pool: str) -> Sequence[Mapping[str, Any]]:
        return [node.cached_view(_essentials) for node in self._nodes.list(selector={POOL_LABEL: pool})]

    # Making

    async def _launch(self, claim: ClaimSpec, known: Known) -> CloudError:
        """Starts making the pool; returns what there is to say about it."""
        now = self._clock.now()
        if known.failure is not None and known.failure[1] > now:
            error, until = known.failure
            return type(error)(error.message, reason=error.why, retry_after=max(AFRESH, until - now))
        options, offering = await self._prepare(claim)
        started = self._clock.wall()
        gpu = outcome.has_gpus(offering.instance_type, self._catalog)
        body = pool_body(claim, options, offering, gpu=gpu, started=started)
        try:
            answer = await self._operations.make(claim.name, _place(claim), body)
        except PreconditionFailed as error:
            return self._contested(claim, known, error)
        except OFFERING_ERRORS as error:
            self._cannot_have(claim, offering, error)
            await self._choose(claim, options)
            text = f"{offering}: {error.message}; the next one is tried"
            return WaitingForTurn(text, reason=error.why, retry_after=AFRESH)
        except WaitingForTurn as waiting:
            return waiting
        except Throttled:
            raise
        except BaseException:
            known.until = float("-inf")  # nobody knows whether it arrived
            raise
        known.operation, known.period = answer.operation, answer.retry_after
        known.cause, known.failure, known.contested = None, None, 0
        known.pool = outcome.just_made(claim, offering, started)
        wait = known.seconds_between(self._clock.wall())
        known.until = self._clock.now() + wait
        log.info("an agent pool is being made", pool=claim.name, offering=str(offering), claim=claim.uid)
        return outcome.making(claim.name, offering, wait, started)

    def _contested(self, claim: ClaimSpec, known: Known, error: PreconditionFailed) -> CloudError:
        """Azure takes something for changed: mostly a pool that came meanwhile, which is looked at. Where there is none
        the cluster itself is in trouble, and asking each second would only use up what Azure allows for all claims."""
        known.until, known.contested = float("-inf"), known.contested + 1
        if known.contested == 1:
            text = f"an agent pool {claim.name} is there already; it is looked at"
            return InstancePending(text, retry_after=AFRESH)
        wait = min(MADE_POLL, AFRESH * 2**known.contested)
        known.failure = (error, self._clock.now() + wait)
        return PreconditionFailed(error.message, reason=error.why, retry_after=wait)

    async def _prepare(self, claim: ClaimSpec) -> tuple[PoolOptions, Offering]:
        """What is made for the claim; one that cannot have anything does not hold up the line."""
        try:
            options = read_options(claim, self._location, self._defaults)
            return options, await self._choose(claim, options)
        except BaseException:
            self._operations.leave(claim.name)
            raise

    async def _choose(self, claim: ClaimSpec, options: PoolOptions) -> Offering:
        """The first offering that may be had, its quota promised. Raises why there is none.

        Where quota is waited for, the claim keeps its place in each line as long as nothing else admits it.
        """
        refusals: dict[Offering, CloudError] = {}
        in_line: WaitingForQuota | None = None
        for offering in offerings(claim.instance_types, options):
            error = self._unavailable.refusal(offering, self._clock.now())
            if error is None:
                try:
                    if not options.capacity_reservation_group_id:
                        await self._gate.admit(claim, offering.instance_type, spot=offering.spot)
                    return offering
                except WaitingForQuota as waiting:
                    in_line = in_line or waiting
                    continue
                except OFFERING_ERRORS as refusal:
                    error = refusal
            refusals[offering] = error
        if in_line is not None:
            raise in_line
        raise nothing_left(refusals, self._catalog)

    def _cannot_have(self, claim: ClaimSpec, offering: Offering, error: CloudError) -> None:
        self._unavailable.mark(offering, error, self._clock.now())
        if isinstance(error, QuotaReached):
            self._gate.refused(claim.uid)
        else:
            self._gate.given_up(claim.uid)

    async def _replace(self, claim: ClaimSpec, known: Known, pool: Pool) -> None:
        """The pool failed: says why, remembers it, and removes the pool. Always raises."""
        error = known.cause
        if error is None:
            error = await self._why(pool, known)
            self._failed(claim, known, pool, error)
        log.warning(
            "an agent pool failed and is removed", pool=pool.name, reason=error.why, error=error.message
        )
        try:
            answer = await self._operations.delete(pool)
        except (InstanceNotFound, PreconditionFailed) as changed:
            known.until, wait = float("-inf"), AFRESH if isinstance(changed, InstanceNotFound) else POLL
        except WaitingForTurn as waiting:
            wait = waiting.retry_after
            known.until = self._clock.now() + wait
        else:
            wait = answer.retry_after or POLL
            known.pool, known.until = outcome.leaving(pool), self._clock.now() + wait
        raise outcome.replacing(pool, error, wait)

    def _failed(self, claim: ClaimSpec, known: Known, pool: Pool, error: CloudError) -> None:
        """Remembers why, so that the same is not tried again at once."""
        known.cause = error
        if isinstance(error, OFFERING_ERRORS):
            self._cannot_have(claim, pool.offering, error)
            return
        self._gate.given_up(claim.uid)
        held = float("inf") if error.terminal else self._clock.now() + error.retry_after
        known.failure = (error, held)

    async def _why(self, pool: Pool, known: Known) -> CloudError:
        """Why the pool failed: from the pool, else from the operation that made it, where this process started it."""
        if pool.error:
            return self._arm.problem(pool.error)
        error = await self._operations.failure(known.operation) if known.operation else None
        return error or CloudError(
            f"AKS could not make the agent pool {pool.name} and does not say why; its activity log may"
        )

    # Ending

    async def _delete(self, pool: Pool) -> None:
        try:
            answer = await self._operations.delete(pool)
        except InstanceNotFound:
            self._resting.pop(pool.name, None)
        except PreconditionFailed:
            self._rest(pool.name, POLL)
        except WaitingForTurn as waiting:
            self._rest(pool.name, waiting.retry_after)
            raise
        else:
            log.info("an agent pool is being deleted", pool=pool.name, claim=pool.uid)
            self._rest(pool.name, answer.retry_after or POLL)

    def _rest(self, name: str, seconds: float) -> None:
        self._resting[name] = self._clock.now() + seconds

    def _forget(self, name: str, uid: str) -> None:
        """The claim's pool is gone for good."""
        self._resting.pop(name, None)
        self._known.pop((name, uid), None)
        self._operations.leave(name)
        if uid:
            self._gate.given_up(uid)


def _essentials(node: CachedObject) -> dict[str, Any]:
    """What is asked of a Node, read once for each version."""
    tree = node.decode()
    metadata = {key: tree["metadata"].get(key) for key in ("name", "labels", "deletionTimestamp")}
    return {"metadata": metadata, "spec": {"providerID": (tree.get("spec") or {}).get("providerID")}}


def _place(claim: ClaimSpec) -> Order:
    return Order(1, rfc3339_micro(claim.created))


def _pool_name(ref: InstanceRef) -> str:
    name = ref.claim_name or pool_of(ref.provider_id)
    if not name:
        raise CloudError(f"{ref.provider_id!r} names no machine of an agent pool")
    return name
