"""The check of one's own rights: what is asked, how often, and what is told. Rights themselves: tests/integration."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from kaito.runtime.access import RETRY, RightsCheck
from kaito.runtime.client import Client
from kaito.runtime.errors import TransportError
from kaito.runtime.resources import LEASES, PODS, SECRETS, Resource
from kaito.runtime.rest import RequestRecord
from kaito.runtime.rights import Right
from kaito.runtime.testing import VirtualClock
from kaito.runtime.transport import BufferedResponse, Request, Response

RIGHTS = (
    Right.of(PODS, "list", "watch", why="To see."),
    Right.of(PODS, "patch", subresource="status", why="To tell."),
    Right.of(LEASES, "get", names=("mine",), own_namespace=True, why="To lead."),
)
EVERYTHING: tuple[dict[str, Any], ...] = ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},)


class Authority:
    """An API server that answers questions about rights, and counts them."""

    def __init__(self) -> None:
        self.rules: dict[str, tuple[dict[str, Any], ...]] = {}
        self.allowed: set[tuple[str, str]] = set()
        """(verb, resource) that another authorizer than RBAC allows."""
        self.away = False
        self.asked: list[str] = []

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        if self.away:
            raise TransportError("connection refused")
        body = orjson.loads(request.body or b"{}")
        self.asked.append(body["kind"])
        if body["kind"] == "SelfSubjectRulesReview":
            rules = self.rules.get(body["spec"]["namespace"], ())
            body["status"] = {"resourceRules": list(rules), "incomplete": True}
        else:
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            body["status"] = {"allowed": (asked["verb"], resource) in self.allowed}
        return BufferedResponse(201, orjson.dumps(body))

    async def close(self) -> None:
        """Nothing is open."""


def rule(
    *verbs: str, group: str = "", resources: tuple[str, ...] = ("pods",), names: tuple[str, ...] = ()
) -> Any:
    return {
        "verbs": list(verbs),
        "apiGroups": [group],
        "resources": list(resources),
        **({"resourceNames": list(names)} if names else {}),
    }


@asynccontextmanager
async def running(clock: VirtualClock, authority: Authority) -> AsyncIterator[RightsCheck]:
    client = Client(authority, clock=clock)
    check = RightsCheck(
        client,
        clock,
        RIGHTS,
        "system",
        remedy="Apply the roles.",
        on_recovery=lambda: authority.asked.append("recovered"),
    )
    task = asyncio.create_task(check.run())
    try:
        await clock.sleep(0)
        yield check
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def refused(code: str = "403") -> RequestRecord:
    return RequestRecord("GET", "/api/v1/pods", code, "operator", 0.0)


async def test_with_all_rights_two_questions_are_asked_once(virtual_clock: VirtualClock) -> None:
    authority = Authority()
    authority.rules = {"default": EVERYTHING, "system": EVERYTHING}
    async with running(virtual_clock, authority) as check:
        await virtual_clock.sleep(86400)
        check.check()
        assert authority.asked == ["SelfSubjectRulesReview"] * 2


async def test_what_is_missing_is_named_until_it_is_there(virtual_clock: VirtualClock) -> None:
    authority = Authority()
    authority.rules = {"default": (rule("list"),), "system": (rule("*"),)}
    async with running(virtual_clock, authority) as check:
        with pytest.raises(RuntimeError) as told:
            check.check()
        assert str(told.value) == (
            "may not watch pods, patch pods/status, get leases.coordination.k8s.io mine in the namespace system. "
            "Apply the roles."
        )
        authority.rules["default"] = (rule("list", "watch"), rule("patch", resources=("*/status",)))
        await virtual_clock.sleep(RETRY)
        assert [str(need) for need in check.missing] == [
            "get leases.coordination.k8s.io mine in the namespace system"
        ]
        authority.rules["system"] = (
            rule("get", group=LEASES.group, resources=("leases",), names=("other", "mine")),
        )
        await virtual_clock.sleep(RETRY)
        check.check()
        assert authority.asked.count("recovered") == 1
        asked = len(authority.asked)
        await virtual_clock.sleep(3600)
        assert len(authority.asked) == asked


async def test_what_only_another_authorizer_allows_is_no_fault(virtual_clock: VirtualClock) -> None:
    authority = Authority()
    authority.rules = {"default": EVERYTHING}
    authority.allowed = {("get", "leases")}
    async with running(virtual_clock, authority) as check:
        check.check()
        assert authority.asked.count("SelfSubjectAccessReview") == 1


async def test_a_refusal_leads_to_a_look_and_many_do_not_lead_to_many(virtual_clock: VirtualClock) -> None:
    authority = Authority()
    authority.rules = {"default": EVERYTHING, "system": EVERYTHING}
    async with running(virtual_clock, authority) as check:
        await virtual_clock.sleep(60)
        authority.rules["default"] = (rule("watch"), rule("patch", resources=("pods/status",)))
        check.observe(refused("404"))
        await virtual_clock.sleep(60)
        check.check()
        check.observe(refused())
        await virtual_clock.sleep(0)
        assert [str(need) for need in check.missing] == ["list pods"]
        authority.rules["default"] = EVERYTHING
        await virtual_clock.sleep(RETRY)
        check.check()
        asked = len(authority.asked)
        for _ in range(100):  # a quota refuses too, and no right is missing then
            check.observe(refused())
            await virtual_clock.sleep(0.1)
        assert len(authority.asked) - asked <= 2 * (1 + 10 / RETRY)


async def test_a_server_that_is_away_is_asked_again(virtual_clock: VirtualClock) -> None:
    authority = Authority()
    authority.away = True
    async with running(virtual_clock, authority) as check:
        await virtual_clock.sleep(60)
        check.check()
        authority.away = False
        await virtual_clock.sleep(RETRY)
        assert len(check.missing) == 4


def test_a_right_names_its_resource_as_sentences_do() -> None:
    gadgets = Resource("example.com", "v1", "gadgets", "Gadget")
    assert Right.of(gadgets, "get", subresource="status", why="x").qualified == "gadgets.example.com/status"
    assert Right.of(SECRETS, "get", why="x").qualified == "secrets"
