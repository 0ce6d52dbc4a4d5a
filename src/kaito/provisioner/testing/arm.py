"""A fake of Azure Resource Manager: one managed cluster, its agent pools, and what a provisioner asks Compute for.

`FakeArm.handle` takes a request and gives the answer at once; time passes by the clock that it was given. Two front
ends carry requests to it: `server.ArmServer` over HTTP, `azure.MemoryTransport` inside the Azure SDK without sockets.
What goes wrong is scripted by its methods; all that came in is in `requests`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

import orjson

from kaito.provisioner.testing import routes
from kaito.provisioner.testing.gate import Gate, refused
from kaito.provisioner.testing.handlers import Answers
from kaito.provisioner.testing.messages import (
    STATUS,
    ArmRequest,
    ConnectionDropped,
    ErrorDetail,
    Recorded,
    Refused,
    Reply,
)
from kaito.provisioner.testing.portal import Portal
from kaito.provisioner.testing.quota import Quota
from kaito.provisioner.testing.rules import (
    AnswerRule,
    EndingRule,
    Kind,
    RateLimit,
    Script,
    Status,
)
from kaito.provisioner.testing.settings import Settings
from kaito.provisioner.testing.sizes import SIZES, Size, Sizes
from kaito.provisioner.testing.state import Operation, Place, Pool
from kaito.provisioner.testing.world import Durations, World
from kaito.runtime.clock import Clock

Call: TypeAlias = Literal[
    "*",
    "abort_pool",
    "delete_pool",
    "get_cluster",
    "get_pool",
    "list_machines",
    "list_pools",
    "operation",
    "operation_result",
    "put_pool",
    "skus",
    "start_cluster",
    "stop_cluster",
    "usages",
]
"""Requests that rules are about; `*`: any."""


class FakeArm(Settings):
    """Azure as one cluster's provisioner meets it.

    clock: whose seconds operations take. place: names that paths must have. sizes: of the region.

    Attributes, beside the settings
        durations: seconds that operations take.
        portal: what other people do to the cluster meanwhile.
        quota, sizes: what the subscription may use.
        requests: all that came in, oldest first. on_request: called with each once it is answered.
    """

    def __init__(
        self,
        clock: Clock,
        place: Place | None = None,
        *,
        sizes: Sequence[Size] = SIZES,
        exclusive: bool = False,
    ) -> None:
        super().__init__(exclusive=exclusive)
        self._clock = clock
        self.place = place or Place()
        self.sizes = Sizes(sizes)
        self.quota = Quota()
        self._script = Script()
        self.world = World(clock, self.place, self._script, self.sizes, self.quota)
        self.portal = Portal(self.world)
        self._answers = Answers(self.world, self)
        self._gate = Gate(self.world, self, self._script)
        self.requests: list[Recorded] = []
        self.on_request: Callable[[Recorded], None] | None = None

    # -- what is there

    @property
    def durations(self) -> Durations:
        return self.world.durations

    @property
    def pools(self) -> Mapping[str, Pool]:
        """By name, as they are at this moment."""
        return self.world.pools

    @property
    def operations(self) -> list[Operation]:
        """All that were ever started, oldest first."""
        self.world.advance()
        return list(self.world.operations.values())

    def calls(self, call: Call = "*", *, pool: str = "", refused: bool | None = None) -> list[Recorded]:
        """Requests of that kind, about that pool, refused ones or others only."""
        return [
            each
            for each in self.requests
            if call in ("*", each.call)
            and pool in ("", self._about(each.request))
            and refused in (None, each.refused)
        ]

    # -- scripts

    def fail_next(
        self,
        call: Call,
        *,
        code: str,
        message: str = "",
        status: int | None = None,
        pool: str = "*",
        times: int | None = 1,
        retry_after: float | None = None,
        nested: bool = True,
        details: Iterable[Mapping[str, Any]] = (),
        applied: bool = False,
    ) -> AnswerRule:
        """Answer the next requests of that kind with an error.

        status: default: what comes with the code (`messages.STATUS`). pool: pattern. times: None: until the rule is
        cancelled. nested: in the body's `error`, as Resource Manager words it; else flat, as AKS does. applied: what
        was asked for is done all the same.
        """
        detail = ErrorDetail(code, message or f"Scripted: {code}.", details=tuple(details))
        wanted = STATUS.get(code, 400) if status is None else status
        error = Refused(wanted, detail, nested=nested, retry_after=retry_after)
        return self._answer(AnswerRule(call=call, pool=pool, error=error, applied=applied, times=times))

    def drop_next(
        self, call: Call, *, applied: bool = False, pool: str = "*", times: int | None = 1
    ) -> AnswerRule:
        """Break the connection of the next requests, before anything is done or (applied) after it."""
        return self._answer(AnswerRule(call=call, pool=pool, applied=applied, times=times))

    def throttle(
        self,
        call: Call = "*",
        *,
        retry_after: float | None = 30.0,
        times: int | None = 1,
        seconds: float | None = None,
    ) -> AnswerRule:
        """Answer 429 so many times, or for so many seconds."""
        detail = ErrorDetail(
            "TooManyRequests",
            "The request is being throttled as the limit has been reached for operation type.",
        )
        return self._answer(
            AnswerRule(
                call=call,
                error=Refused(429, detail, nested=True, retry_after=retry_after),
                times=None if seconds is not None else times,
                until=float("inf") if seconds is None else self._clock.now() + seconds,
            )
        )

    def limit_rate(self, *calls: Call, burst: int, per_second: float) -> RateLimit:
        """Take so many requests of these kinds together at once, then so many per second; 429 with Retry-After beyond.

        AKS documents bursts of 20 and one a minute for `put_pool`, of 60 and one a second for its other calls.
        """
        limit = RateLimit(calls=calls, burst=burst, per_second=per_second, since=self._clock.now())
        self._script.rates.append(limit)
        return limit

    def provisioning_error(
        self,
        vm_size: str,
        code: str,
        message: str,
        *,
        pool: str = "*",
        zone: str = "",
        spot: bool | None = None,
        after: float | None = None,
        times: int | None = None,
        details: Iterable[Mapping[str, Any]] = (),
    ) -> EndingRule:
        """Creating pools of that size (a pattern; `*`: of any) is accepted and fails after `after` seconds.

        The operation ends as Failed and so does the pool, both with this error. zone: only where this zone is asked
        for. spot: only spot pools, or only others. times: None: until the rule is cancelled.
        """
        error = ErrorDetail(code, message, details=tuple(details))
        rule = EndingRule(
            kind="create",
            status="Failed",
            error=error,
            pool=pool,
            vm_size=vm_size,
            zone=zone,
            spot=spot,
            after=after,
            times=times,
        )
        self._script.endings.append(rule)
        return rule

    def end_next(
        self,
        kind: Kind,
        status: Status,
        *,
        code: str = "",
        message: str = "",
        pool: str = "*",
        after: float | None = None,
        times: int | None = 1,
    ) -> EndingRule:
        """How the next operations of that kind end: Failed (with the error), Canceled, or InProgress for ever.

        A delete that fails leaves the pool as Failed and without machines.
        """
        error = ErrorDetail(code, message or f"Scripted: {code}.") if code else None
        rule = EndingRule(kind=kind, status=status, error=error, pool=pool, after=after, times=times)
        self._script.endings.append(rule)
        return rule

    def deny(self, *actions: str) -> None:
        """The caller's roles lack these actions: `Microsoft.ContainerService/managedClusters/agentPools/write`."""
        self._script.denied.update(action.lower() for action in actions)

    def forgive(self) -> None:
        """Cancel everything that was scripted; what went wrong stays wrong."""
        self._script.clear()

    def stop_cluster(self, *, seconds: float | None = None) -> None:
        """As `az aks stop`; seconds: how long it takes, 0: stopped at once. Default: `durations.stop`."""
        self._switch(running=False, seconds=seconds)

    def start_cluster(self, *, seconds: float | None = None) -> None:
        """As `az aks start`; seconds as for `stop_cluster`."""
        self._switch(running=True, seconds=seconds)

    def _switch(self, *, running: bool, seconds: float | None) -> None:
        operation = self.world.switch(running=running)
        if seconds is not None:
            operation.ends = self._clock.now() + seconds
            self.world.advance()

    def _answer(self, rule: AnswerRule) -> AnswerRule:
        self._script.answers.append(rule)
        return rule

    # -- requests

    def handle(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        base: str = "https://management.azure.com",
    ) -> Reply:
        """The answer to a request; `path` without host and query, `base` before it in links of the answer.

        Raises `ConnectionDropped` where that is scripted.
        """
        self.world.advance()
        sent = {name.lower(): value for name, value in headers.items()}
        token = sent.pop("authorization", "")
        found = routes.find(method.upper(), unquote(path))
        route, names = found if found is not None else (None, {})
        request = ArmRequest(
            call=route.call if route else "",
            method=method.upper(),
            path=path,
            query=dict(query),
            headers=sent,
            body=_json(body),
            pool=names.get("pool", ""),
            operation=names.get("operation", ""),
            at=self._clock.now(),
            base=base,
        )
        try:
            reply = self._reply(request, route, names, token)
        except ConnectionDropped:
            self._record(Recorded(request, 0))
            raise
        except Refused as refusal:
            self._record(Recorded(request, refusal.status, refusal.detail.code))
            return refusal.reply
        self._record(Recorded(request, reply.status))
        return reply

    def _record(self, recorded: Recorded) -> None:
        self.requests.append(recorded)
        if self.on_request is not None:
            self.on_request(recorded)

    def _reply(
        self, request: ArmRequest, route: routes.Route | None, names: Mapping[str, str], token: str
    ) -> Reply:
        self._gate.check_token(token)
        if route is None:
            raise refused(404, "InvalidResourceType", f"There is nothing at {request.method} {request.path}.")
        if "api-version" not in request.query:
            raise refused(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        self._script.check_rate(request)
        rule = self._script.answer(request, self._about(request))
        if rule is not None:
            if rule.applied:
                with suppress(Refused):
                    self._answers.answer(request)
            if rule.error is None:
                raise ConnectionDropped(f"{request.method} {request.path}")
            raise rule.error
        self._gate.check_place(names)
        self._gate.check_action(route.action)
        return self._answers.answer(request)

    def _about(self, request: ArmRequest) -> str:
        """The pool that a request is about, also through its operation."""
        operation = self.world.operations.get(request.operation)
        return operation.pool if operation is not None else request.pool


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None
