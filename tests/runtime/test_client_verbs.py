"""Writes as they are reported, pages, one-shot watches, logs, scale, collections, and answers that are none."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from kaito.runtime.client import Client
from kaito.runtime.errors import Conflict, Gone, Invalid, MalformedAnswer, NotFound, TransportError
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, NODES, PODS, ObjectKey, Resource
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock, watch_line
from kaito.runtime.transport import BufferedResponse
from kaito.runtime.wire import MalformedStream
from kaito.runtime.writes import Write

ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")


def answer(version: str = "8", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": version, **metadata}}


class Setup:
    def __init__(self, clock: VirtualClock, *script: Exchange) -> None:
        self.server = ScriptedServer(clock, script)
        self.faults = FaultScript()
        self.client = Client(MemoryTransport(self.server.handle, clock, self.faults), clock=clock)
        self.writes: list[Write] = []
        self.client.on_write = self.writes.append

    def told(self) -> list[tuple[str, ObjectKey, str, str, bool, dict[str, str]]]:
        return [
            (str(w.resource), w.key, w.uid, w.resource_version, w.deleted, dict(w.labels))
            for w in self.writes
        ]


KEY = ObjectKey("ns", "a")
BODY: dict[str, Any] = {"metadata": {"name": "a", "namespace": "ns"}}


async def test_every_accepted_write_is_told_under_any_name(virtual_clock: VirtualClock) -> None:
    setup = Setup(
        virtual_clock,
        Exchange("POST", body=answer("1", labels={"x": "y"}), status=201),
        Exchange("PUT", body=answer("2")),
        Exchange("PATCH", body=answer("3")),
        Exchange("PATCH", body=answer("4")),
        Exchange("PATCH", path="/api/v1/namespaces/ns/configmaps/a/status", body=answer("5")),
    )
    other = setup.client.named("other", "manager")
    await setup.client.create(CONFIGMAPS, BODY)
    await other.update(CONFIGMAPS, BODY)
    await other.patch(CONFIGMAPS, "a", "ns", patch={"data": {}})
    await other.apply(CONFIGMAPS, BODY)
    await setup.client.patch_status(CONFIGMAPS, "a", "ns", {})
    assert setup.told() == [
        ("configmaps", KEY, "u", "1", False, {"x": "y"}),
        *[("configmaps", KEY, "u", str(version), False, {}) for version in (2, 3, 4, 5)],
    ]


async def test_what_was_refused_or_only_tried_is_not_told(virtual_clock: VirtualClock) -> None:
    dry = {"dryRun": "All", "fieldValidation": "Strict"}
    setup = Setup(
        virtual_clock,
        Exchange("POST", query=dry, body=answer(), status=201),
        Exchange("PUT", query=dry, body=answer()),
        Exchange("PATCH", query=dry, body=answer()),
        Exchange("DELETE", query={"dryRun": "All"}, body=answer()),
        Exchange("DELETE", query={"dryRun": "All"}, body={"items": [answer()]}),
        Exchange("PUT", error=Conflict("no")),
        Exchange("POST", error=Invalid("no")),
        Exchange("DELETE", error=NotFound("no")),
        # Neither names a version of the pod or the account: nothing that a cache will show.
        Exchange(
            "POST", path="/api/v1/namespaces/ns/pods/a/eviction", body={"kind": "Status", "metadata": {}}
        ),
        Exchange("POST", path="/api/v1/namespaces/ns/serviceaccounts/a/token", body={"status": {}}),
    )
    client = setup.client
    await client.create(CONFIGMAPS, BODY, dry_run=True, field_validation="Strict")
    await client.update(CONFIGMAPS, BODY, dry_run=True, field_validation="Strict")
    await client.patch(CONFIGMAPS, "a", "ns", patch={}, dry_run=True, field_validation="Strict")
    await client.delete(CONFIGMAPS, "a", "ns", dry_run=True)
    await client.delete_collection(CONFIGMAPS, "ns", dry_run=True)
    with pytest.raises(Conflict):
        await client.update(CONFIGMAPS, BODY)
    with pytest.raises(Invalid):
        await client.create(CONFIGMAPS, BODY)
    assert await client.delete(CONFIGMAPS, "a", "ns") is None
    await client.create(PODS, BODY, subresource="eviction")
    await client.create(ACCOUNTS, {**BODY, "spec": {}}, subresource="token")
    setup.server.assert_done()
    assert setup.told() == []


async def test_deletions_are_told_as_the_server_answered_them(virtual_clock: VirtualClock) -> None:
    setup = Setup(
        virtual_clock,
        Exchange("DELETE", body=answer("9", deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["f"])),
        Exchange("DELETE", body={"kind": "Status", "metadata": {}, "details": {"uid": "u"}}),
        Exchange("DELETE", body={"kind": "Status", "metadata": {}}),
        Exchange(
            "DELETE",
            "/api/v1/namespaces/ns/configmaps",
            {"labelSelector": "a=b", "fieldSelector": "metadata.name=a"},
            body={"items": [answer("41"), answer("opaque", name="b")]},
        ),
    )
    client = setup.client
    await client.delete(CONFIGMAPS, "a", "ns")
    await client.delete(CONFIGMAPS, "a", "ns")
    await client.delete(NODES, "n", "ignored")
    deleted = await client.delete_collection(
        CONFIGMAPS, "ns", label_selector="a=b", field_selector="metadata.name=a", grace_period=0
    )
    assert [item["kind"] for item in deleted] == ["ConfigMap", "ConfigMap"]
    assert setup.told() == [
        ("configmaps", KEY, "u", "9", True, {}),
        ("configmaps", KEY, "u", "", True, {}),
        ("nodes", ObjectKey(None, "n"), "", "", True, {}),
        ("configmaps", KEY, "u", "42", True, {}),
        ("configmaps", ObjectKey("ns", "b"), "u", "opaque", True, {}),
    ]
    with pytest.raises(ValueError, match="configmaps needs a namespace"):
        await client.delete_collection(CONFIGMAPS)


async def test_scale(virtual_clock: VirtualClock) -> None:
    path = "/apis/apps/v1/namespaces/ns/deployments/a/scale"
    scale = {"kind": "Scale", **answer("12"), "spec": {"replicas": 3}}
    setup = Setup(virtual_clock, Exchange("GET", path, body=scale), Exchange("PATCH", path, body=scale))
    assert (await setup.client.get_scale(DEPLOYMENTS, "a", "ns"))["spec"] == {"replicas": 3}
    await setup.client.scale(DEPLOYMENTS, "a", "ns", replicas=3, resource_version="11")
    sent = setup.server.calls[1].body
    assert sent == b'{"spec":{"replicas":3},"metadata":{"resourceVersion":"11"}}'
    assert setup.told() == [("deployments.apps", KEY, "u", "12", False, {})]


def page(token: str, *names: str, **metadata: Any) -> dict[str, Any]:
    listed = {"resourceVersion": "5", **({"continue": token} if token else {}), **metadata}
    return {"metadata": listed, "items": [{"metadata": {"name": name}} for name in names]}


async def test_pages_come_one_at_a_time(virtual_clock: VirtualClock) -> None:
    setup = Setup(
        virtual_clock,
        Exchange(query={"limit": "2", "labelSelector": "x"}, body=page("t", "a", "b", remainingItemCount=1)),
        Exchange(query={"continue": "t", "limit": "2", "labelSelector": "x"}, body=page("", "c")),
    )
    seen = []
    async for each in setup.client.pages(CONFIGMAPS, "ns", label_selector="x", limit=2):
        names = [item["metadata"]["name"] for item in each.items]
        seen.append((len(setup.server.calls), names, each.resource_version, each.remaining))
    assert seen == [(1, ["a", "b"], "5", 1), (2, ["c"], "5", 0)]


async def test_an_expired_page_ends_the_pages_because_the_first_are_given_away(
    virtual_clock: VirtualClock,
) -> None:
    setup = Setup(virtual_clock, Exchange(body=page("t", "a")), Exchange(error=Gone("expired")))
    pages = setup.client.pages(CONFIGMAPS)
    assert len((await anext(pages)).items) == 1
    with pytest.raises(Gone):
        await anext(pages)


async def test_a_first_page_that_is_gone_is_not_asked_for_again(virtual_clock: VirtualClock) -> None:
    setup = Setup(virtual_clock, Exchange(error=Gone("expired")))
    with pytest.raises(Gone):
        await setup.client.list(CONFIGMAPS)
    assert len(setup.server.calls) == 1


async def test_watch_once(virtual_clock: VirtualClock) -> None:
    query = {"watch": "1", "timeoutSeconds": "60", "resourceVersion": "5", "fieldSelector": "metadata.name=a"}
    lines = watch_line("ADDED", answer("6")) + watch_line("DELETED", answer("7"))
    setup = Setup(
        virtual_clock,
        Exchange("GET", query=query, stream=[lines[:20], 1.0, lines[20:]]),
        Exchange(stream=[watch_line("ERROR", {"code": 410, "reason": "Expired", "message": "too old"})]),
        Exchange(stream=[b"<html>\n"]),
        Exchange(hold=True),
    )
    watch = setup.client.watch(
        CONFIGMAPS, "ns", resource_version="5", field_selector="metadata.name=a", seconds=60
    )
    assert [(e.type, e.object["metadata"]["resourceVersion"]) async for e in watch] == [
        ("ADDED", "6"),
        ("DELETED", "7"),
    ]
    with pytest.raises(Gone, match="WATCH /api/v1/configmaps: too old"):
        await anext(setup.client.watch(CONFIGMAPS))
    with pytest.raises(MalformedStream, match="not an event"):
        await anext(setup.client.watch(CONFIGMAPS))
    with pytest.raises(TransportError, match="connection is dead"):
        await anext(setup.client.watch(CONFIGMAPS, seconds=60))
    assert virtual_clock.now() == 66.0


async def test_leaving_a_watch_closes_its_connection(virtual_clock: VirtualClock) -> None:
    server = ScriptedServer(virtual_clock, [Exchange(stream=[watch_line("ADDED", answer())], hold=True)])
    transport = MemoryTransport(server.handle, virtual_clock)
    async with aclosing(Client(transport, clock=virtual_clock).watch(CONFIGMAPS)) as events:
        await anext(events)
        assert transport.open_streams == 1
    assert transport.open_streams == 0


async def test_logs_line_by_line(virtual_clock: VirtualClock) -> None:
    query = {
        "container": "c",
        "follow": "true",
        "previous": None,
        "timestamps": "true",
        "tailLines": "0",
        "sinceSeconds": "5",
    }
    setup = Setup(
        virtual_clock,
        Exchange(
            "GET",
            "/api/v1/namespaces/ns/pods/p/log",
            query,
            stream=[b"one\n\ntw", 10_000.0, b"o\nbad \xff", b"\nend"],
        ),
        Exchange(error=NotFound("no such pod")),
    )
    log = setup.client.logs(
        "p", "ns", container="c", follow=True, timestamps=True, tail_lines=0, since_seconds=5
    )
    assert [line async for line in log] == ["one", "", "two", "bad \ufffd", "end"]
    assert virtual_clock.now() == 10_000.0
    with pytest.raises(NotFound):
        await anext(setup.client.logs("p", "ns"))


async def test_a_line_without_end_comes_in_pieces(virtual_clock: VirtualClock) -> None:
    chunk = b"x" * 700_000
    setup = Setup(virtual_clock, Exchange(stream=[chunk, chunk, chunk]))
    assert [len(line) async for line in setup.client.logs("p", "ns")] == [1_400_000, 700_000]


@pytest.mark.parametrize("body", [b"<html>please log in</html>", b"[]", b'"text"', b"{"])
async def test_a_success_that_is_no_object_is_weather(virtual_clock: VirtualClock, body: bytes) -> None:
    setup = Setup(virtual_clock)
    setup.faults.add(Fault(answer=lambda: BufferedResponse(200, body)))
    with pytest.raises(MalformedAnswer, match=r"GET /api/v1/nodes/n: .* is a proxy or a login page"):
        await setup.client.get(NODES, "n")


async def test_a_redirect_is_an_error_too(virtual_clock: VirtualClock) -> None:
    setup = Setup(virtual_clock)
    setup.faults.add(Fault(answer=lambda: BufferedResponse(302, b"", {"Location": "/login"})), times=2)
    for call in (setup.client.request("GET", "/x"), setup.client.stream("/x")):
        with pytest.raises(Exception, match="the server answered 302"):
            await call
