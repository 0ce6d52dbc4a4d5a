"""What can be seen of provisioning from outside: claims by state and reason, how long each step takes, what clouds say.

No label holds a name or a cloud's own words: reasons are those of `kaito.api.reasons`, anything else is `other`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from kaito.api.conditions import find_condition, is_false, is_true
from kaito.api.reasons import CLOUD_REASONS, GIVEN_UP, OTHER, known
from kaito.controllers.machine.shapes import ClaimShape
from kaito.provisioner.cloud import ClaimSpec, CloudProvider, Instance, InstanceRef
from kaito.provisioner.errors import CloudError, InstanceNotFound, InstancePending
from kaito.runtime.clock import Clock, parse_time
from kaito.runtime.histogram import Histogram
from kaito.runtime.stays import STAY_BUCKETS, Stays

Object = Mapping[str, Any]

LAUNCHING: Final = "launching"
REGISTERING: Final = "registering"
INITIALIZING: Final = "initializing"
READY: Final = "ready"
FAILED: Final = "failed"
DELETING: Final = "deleting"
STATES: Final = (LAUNCHING, REGISTERING, INITIALIZING, READY, FAILED, DELETING)
STAGES: Final = {
    "launch": LAUNCHING,
    "registration": REGISTERING,
    "initialization": INITIALIZING,
    "termination": DELETING,
}
"""Values of the label `stage`, with the state in which a claim is meanwhile."""
METHODS: Final = ("create", "get", "delete", "list")
CLOUD_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds; a cloud's verbs start things and never wait for them."""


def state(shape: ClaimShape, metadata: Object, status: Object) -> str:
    """How far a claim is. On its way out comes first, then what failed for good."""
    found = status.get("conditions") or ()
    if metadata.get("deletionTimestamp"):
        return DELETING
    if is_false(found, shape.launched):
        return FAILED
    for type, meanwhile in zip(shape.dependents, (LAUNCHING, REGISTERING, INITIALIZING), strict=True):
        if not is_true(found, type):
            return meanwhile
    return READY


def entered(shape: ClaimShape, metadata: Object, status: Object) -> datetime:
    """When the claim came into its state, as far as it tells: for one that is seen for the first time."""
    now = state(shape, metadata, status)
    if now == DELETING:
        return parse_time(metadata["deletionTimestamp"])
    turned = {
        REGISTERING: shape.launched,
        INITIALIZING: shape.registered,
        READY: shape.initialized,
        FAILED: shape.launched,
    }
    condition = find_condition(status.get("conditions"), turned.get(now, "")) or {}
    return parse_time(condition.get("lastTransitionTime") or metadata["creationTimestamp"])


def waits_for(shape: ClaimShape, metadata: Object, status: Object) -> str:
    """The reason of the first condition that is not True, fit for a label; empty for a claim that waits for nothing."""
    if metadata.get("deletionTimestamp"):
        return ""
    found = status.get("conditions") or ()
    for type in shape.dependents:
        if not is_true(found, type):
            condition = find_condition(found, type) or {}
            return known(str(condition.get("reason") or "AwaitingReconciliation"))
    return ""


class ClaimMetrics:
    """The numbers of one kind of claim."""

    def __init__(self, shape: ClaimShape, clock: Clock) -> None:
        self.kind = shape.resource.kind
        self.stays = Stays(STATES, clock.now)
        self.ready = Histogram(STAY_BUCKETS)
        self.given_up = dict.fromkeys(GIVEN_UP, 0)
        self._shape = shape
        self._clock = clock
        self._waits: dict[str, str] = {}
        self._seen: dict[str, None] = {}

    def saw(self, claim: Object, status: Object) -> None:
        """One pass over a claim has ended; `status` is the one it now has."""
        metadata = claim["metadata"]
        name, now = metadata["name"], state(self._shape, metadata, status)
        if name not in self._waits:
            self._meet(metadata, claim.get("status") or {})
        before = self.stays.enter(name, now)
        self._waits[name] = waits_for(self._shape, metadata, status)
        was_ready = is_true((claim.get("status") or {}).get("conditions"), self._shape.initialized)
        if now == READY and before != now and not was_ready:
            created = parse_time(metadata["creationTimestamp"])
            self.ready.observe(max(0.0, (self._clock.wall() - created).total_seconds()))

    def _meet(self, metadata: Object, stored: Object) -> None:
        """A claim is seen for the first time; what is stored says how far it was before this pass, and since when."""
        age = (self._clock.wall() - entered(self._shape, metadata, stored)).total_seconds()
        self.stays.enter(metadata["name"], state(self._shape, metadata, stored), age)

    def gone(self, name: str) -> None:
        """There is no such claim any more."""
        self._waits.pop(name, None)
        self.stays.leave(name)

    def gave_up(self, reason: str) -> None:
        """A claim is deleted because nothing can come of it."""
        self.given_up[reason] = self.given_up.get(reason, 0) + 1

    def waiting(self) -> dict[str, int]:
        """Claims by what they wait for, with the reasons that were shown before at 0."""
        counted = Counter(reason for reason in self._waits.values() if reason)
        self._seen.update(dict.fromkeys(sorted(counted)))
        return {reason: counted[reason] for reason in self._seen}


class CloudMetrics:
    """The numbers of the requests to a cloud."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds = {method: Histogram(CLOUD_BUCKETS) for method in METHODS}
        self.errors = {method: dict.fromkeys((*CLOUD_ERRORS, OTHER), 0) for method in METHODS}

    @contextmanager
    def request(self, method: str) -> Iterator[None]:
        """Measures the request that is made inside. That an instance is still being made, or gone, is an answer."""
        started = self._clock.now()
        try:
            yield
        except (InstancePending, InstanceNotFound):
            raise
        except CloudError as error:
            counts = self.errors[method]
            counts[error.why if error.why in counts else OTHER] += 1
            raise
        finally:
            self.seconds[method].observe(self._clock.now() - started)


CLOUD_ERRORS: Final = tuple(
    reason for reason in CLOUD_REASONS if reason not in (InstancePending.reason, InstanceNotFound.reason)
)


class MeasuredCloud(CloudProvider):
    """A `CloudProvider` whose requests are counted and timed."""

    def __init__(self, provider: CloudProvider, metrics: CloudMetrics) -> None:
        self._provider = provider
        self._metrics = metrics

    async def check_running(self) -> None:
        await self._provider.check_running()

    def subscribe(self, wake: Callable[[str], None]) -> None:
        self._provider.subscribe(wake)

    async def create(self, claim: ClaimSpec) -> Instance:
        with self._metrics.request("create"):
            return await self._provider.create(claim)

    async def get(self, ref: InstanceRef) -> Instance:
        with self._metrics.request("get"):
            return await self._provider.get(ref)

    async def delete(self, ref: InstanceRef) -> bool:
        with self._metrics.request("delete"):
            return await self._provider.delete(ref)

    async def list(self) -> Sequence[Instance]:
        with self._metrics.request("list"):
            return await self._provider.list()


class MachineMetrics:
    """The numbers of the machine controller, of all its kinds; a metric source for `RuntimeMetrics.add`."""

    def __init__(self, shapes: Sequence[ClaimShape], clock: Clock) -> None:
        self.cloud = CloudMetrics(clock)
        self._claims = {shape.resource.kind: ClaimMetrics(shape, clock) for shape in shapes}

    def claims(self, shape: ClaimShape) -> ClaimMetrics:
        """The numbers of one kind. Raises KeyError for a shape that was not named before."""
        return self._claims[shape.resource.kind]

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        yield from self._collect_claims()
        yield from self._collect_times()
        yield from self._collect_cloud()

    def _collect_claims(self) -> Iterator[Metric]:
        prefix, kinds = "kaito_provisioner_", self._claims.values()
        claims = GaugeMetricFamily(prefix + "claims", "Claims by how far they are.", labels=["kind", "state"])
        oldest = GaugeMetricFamily(
            prefix + "claim_oldest_seconds",
            "Seconds that the claim that is longest in a state has been in it; 0 without one.",
            labels=["kind", "state"],
        )
        waiting = GaugeMetricFamily(
            prefix + "claims_waiting", "Claims that are not ready, by reason.", labels=["kind", "reason"]
        )
        given_up = CounterMetricFamily(
            prefix + "claims_given_up",
            "Claims that were deleted because no usable node came of them or their node is gone.",
            labels=["kind", "reason"],
        )
        for each in kinds:
            for state, count in each.stays.counts().items():
                claims.add_metric([each.kind, state], count)
            for state, age in each.stays.oldest().items():
                oldest.add_metric([each.kind, state], age)
            for reason, count in each.waiting().items():
                waiting.add_metric([each.kind, reason], count)
            for reason, count in each.given_up.items():
                given_up.add_metric([each.kind, reason], count)
        yield from (claims, oldest, waiting, given_up)

    def _collect_times(self) -> Iterator[Metric]:
        stages = HistogramMetricFamily(
            "kaito_provisioner_claim_stage_seconds",
            "Seconds that claims took for a step: launch, registration of the node, its initialization, termination.",
            labels=["kind", "stage"],
        )
        ready = HistogramMetricFamily(
            "kaito_provisioner_claim_ready_seconds",
            "Seconds from the creation of a claim until its node was ready.",
            labels=["kind"],
        )
        for each in self._claims.values():
            for stage, state in STAGES.items():
                numbers = each.stays.seconds[state]
                stages.add_metric([each.kind, stage], numbers.buckets(), numbers.sum)
            ready.add_metric([each.kind], each.ready.buckets(), each.ready.sum)
        yield from (stages, ready)

    def _collect_cloud(self) -> Iterator[Metric]:
        prefix = "kaito_provisioner_cloud_"
        requests = CounterMetricFamily(prefix + "requests", "Requests to the cloud.", labels=["method"])
        seconds = HistogramMetricFamily(
            prefix + "request_seconds", "Seconds that requests to the cloud took.", labels=["method"]
        )
        errors = CounterMetricFamily(
            prefix + "errors",
            "Requests to the cloud that failed, by the kind of failure.",
            labels=["method", "reason"],
        )
        for method, numbers in self.cloud.seconds.items():
            requests.add_metric([method], numbers.count)
            seconds.add_metric([method], numbers.buckets(), numbers.sum)
            for reason, count in self.cloud.errors[method].items():
                errors.add_metric([method, reason], count)
        yield from (requests, seconds, errors)
