"""What the client puts on the wire, and what it makes of the answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kaito.runtime.client import Client, PatchType, RequestRecord
from kaito.runtime.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Gone,
    InternalError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
    TransportError,
)
from kaito.runtime.memory_transport import Fault, FaultScript, MemoryTransport
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, NODES, PODS
from kaito.runtime.testing import Exchange, ScriptedServer, VirtualClock
from kaito.runtime.transport import BufferedResponse

CM: dict[str, Any] = {"metadata": {"name": "a", "namespace": "ns"}, "data": {"k": "v"}}


class Setup:
    def __init__(self, clock: VirtualClock, *script: Exchange) -> None:
        self.records: list[RequestRecord] = []
        self.faults = FaultScript()
        self.server = ScriptedServer(clock, script)
        self.client = Client(
            MemoryTransport(self.server.handle, clock, self.faults),
            clock=clock,
            user_agent="tester/1",
            field_manager="tester",
            observer=self.records.append,
        )

    def sent(self, index: int = 0) -> Any:
        body = self.server.calls[index].body
        return None if body is None else orjson.loads(body)


async def test_get_names_the_caller_and_asks_for_plain_json(virtual_clock: VirtualClock) -> None:
    setup = Setup(virtual_clock, Exchange("GET", "/api/v1/namespaces/ns/pods/p", body={"kind": "Pod"}))
    assert await setup.client.get(PODS, "p", "ns") == {"kind": "Pod"}
    headers = setup.server.calls[0].headers
    assert headers["User-Agent"] == "tester/1"
    assert headers["Accept"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"


async def test_a_namespaced_object_without_namespace_is_a_mistake(virtual_clock: VirtualClock) -> None:
    setup = Setup(virtual_clock)
    with pytest.raises(ValueError, match="pods 'p' needs a namespace"):
        await setup.client.get(PODS, "p")
    with pytest.raises(ValueError, match="neither a namespace argument nor"):
        await setup.client.create(CONFIGMAPS, {"metadata": {"name": "a"}})
    assert setup.server.calls == []


async def test_create_update_and_their_field_manager(virtual_clock: VirtualClock) -> None:
    manager = {"fieldManager": "tester"}
    setup = Setup(
        virtual_clock,
        Exchange("POST", "/api/v1/namespaces/ns/configmaps", manager, body=CM, status=201),
        Exchange("POST", "/api/v1/namespaces/other/configmaps", manager, body=CM, status=201),
        Exchange("POST", "/api/v1/nodes", manager, body={}, status=201),
        Exchange("POST", "/api/v1/namespaces/ns/pods/p/eviction", manager, body={}, status=201),
        Exchange("PUT", "/api/v1/namespaces/ns/configmaps/a", manager, body=CM),
        Exchange("PUT", "/apis/apps/v1/namespaces/ns/deployments/a/scale", manager, body=CM),
    )
    assert await setup.client.create(CONFIGMAPS, CM) == CM
    await setup.client.create(CONFIGMAPS, {"metadata": {"generateName": "x-"}}, "other")
    await setup.client.create(NODES, {"metadata": {"name": "n"}})
    await setup.client.create(PODS, {"metadata": {"name": "p", "namespace": "ns"}}, subresource="eviction")
    await setup.client.update(CONFIGMAPS, CM)
    await setup.client.update(DEPLOYMENTS, CM, subresource="scale")
    setup.server.assert_done()
    assert setup.sent(0) == CM


@pytest.mark.parametrize("kind", list(PatchType))
async def test_patch_content_types(virtual_clock: VirtualClock, kind: PatchType) -> None:
    setup = Setup(virtual_clock, Exchange("PATCH", "/api/v1/nodes/n", body={}))
    patch: Any = [{"op": "test", "path": "/a", "value": 1}] if kind is PatchType.JSON else {"a": 1}
    await setup.client.patch(NODES, "n", patch=patch, patch_type=kind)
    assert setup.server.calls[0].headers["Content-Type"] == kind.value
    assert setup.sent() == patch
    assert setup.server.calls[0].query.get("force") == ("false" if kind is PatchType.APPLY else None)


async def test_apply_forces_and_fills_in_the_type(virtual_clock: VirtualClock) -> None:
    setup = Setup(
        virtual_clock, Exchange("PATCH", query={"force": "true", "fieldManager": "tester"}, body=CM)
    )
    await setup.client.apply(CONFIGMAPS, CM)
    assert setup.sent() == {"apiVersion": "v1", "kind": "ConfigMap", **CM}
    with pytest.raises(ValueError, match="apply needs a client with a field_manager"):
        await setup.client.named("nobody").apply(CONFIGMAPS, CM)


async def test_patch_status_can_be_guarded_by_a_version(virtual_clock: VirtualClock) -> None:
    path = "/apis/apps/v1/namespaces/ns/deployments/d/status"
    setup = Setup(virtual_clock, Exchange("PATCH", path, body={}), Exchange("PATCH", path, body={}))
    await setup.client.patch_status(DEPLOYMENTS, "d", "ns", {"replicas": 1})
    await setup.client.patch_status(DEPLOYMENTS, "d", "ns", {"replicas": None}, resource_version="7")
    assert setup.sent(0) == {"status": {"replicas": 1}}
    assert setup.sent(1) == {"metadata": {"resourceVersion": "7"}, "status": {"replicas": None}}


async def test_delete_options_and_absence(virtual_clock: VirtualClock) -> None:
    setup = Setup(
        virtual_clock,
        Exchange("DELETE", "/api/v1/namespaces/ns/pods/p", body={"kind": "Pod"}),
        Exchange("DELETE", error=NotFound("gone")),
        Exchange("DELETE", error=Conflict("other uid")),
    )
    answer = await setup.client.delete(
        PODS, "p", "ns", propagation="Foreground", uid="u", resource_version="3", grace_period=0
    )
    assert answer == {"kind": "Pod"}
    assert setup.sent() == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": "u", "resourceVersion": "3"},
        "gracePeriodSeconds": 0,
    }
    assert await setup.client.delete(PODS, "p", "ns") is None
    with pytest.raises(Conflict):
        await setup.client.delete(PODS, "p", "ns", uid="u")


async def test_list_follows_pages_and_fills_in_types(virtual_clock: VirtualClock) -> None:
    first = {"labelSelector": "a=b", "fieldSelector": "metadata.name=x", "limit": "1", "continue": None}
    setup = Setup(
        virtual_clock,
        Exchange(
            "GET", "/api/v1/pods", first, body={"metadata": {"continue": "t"}, "items": [{"metadata": {}}]}
        ),
        Exchange(
            "GET",
            "/api/v1/pods",
            {"continue": "t"},
            body={"metadata": {}, "items": [{"kind": "Pod", "apiVersion": "v1"}]},
        ),
    )
    items = await setup.client.list(PODS, label_selector="a=b", field_selector="metadata.name=x", limit=1)
    assert items == [{"apiVersion": "v1", "kind": "Pod", "metadata": {}}, {"kind": "Pod", "apiVersion": "v1"}]


async def test_list_starts_over_unpaged_when_its_token_expires(virtual_clock: VirtualClock) -> None:
    setup = Setup(
        virtual_clock,
        Exchange(
            query={"limit": "500"},
            body={"metadata": {"continue": "t"}, "items": [{"metadata": {"name": "old"}}]},
        ),
        Exchange(query={"continue": "t"}, error=Gone("expired")),
        Exchange(
            query={"limit": None, "continue": None},
            body={"metadata": {}, "items": [{"metadata": {"name": "new"}}]},
        ),
    )
    assert [item["metadata"]["name"] for item in await setup.client.list(PODS)] == ["new"]


@pytest.mark.parametrize(
    "error", [AlreadyExists("there"), Conflict("stale"), InternalError("oops"), Gone("old")]
)
async def test_every_answer_but_2xx_is_typed(virtual_clock: VirtualClock, error: ApiError) -> None:
    setup = Setup(virtual_clock, Exchange(error=error))
    with pytest.raises(type(error), match="GET /api/v1/nodes/n: ") as caught:
        await setup.client.get(NODES, "n")
    assert (caught.value.status, caught.value.reason) == (error.status, error.reason)


async def test_retry_after_is_obeyed_within_the_timeout(virtual_clock: VirtualClock) -> None:
    setup = Setup(
        virtual_clock,
        Exchange(error=TooManyRequests("later", retry_after=4)),
        Exchange(error=ServiceUnavailable("later", retry_after=5)),
        Exchange(body={"kind": "Node"}),
        Exchange(error=TooManyRequests("much later", retry_after=60)),
        Exchange(error=InternalError("no hint")),
    )
    assert await setup.client.get(NODES, "n") == {"kind": "Node"}
    assert [call.at for call in setup.server.calls] == [0, 4, 9]
    with pytest.raises(TooManyRequests) as caught:
        await setup.client.get(NODES, "n")
    assert caught.value.retry_after == 60
    with pytest.raises(InternalError):
        await setup.client.get(NODES, "n")
    assert virtual_clock.now() == 9


async def test_no_answer_in_time_is_a_transport_error(virtual_clock: VirtualClock) -> None:
    setup = Setup(virtual_clock, Exchange(body={}))
    setup.faults.add(Fault(delay=1000))
    with pytest.raises(TransportError, match=r"GET /api/v1/nodes/n: no answer within 30 s"):
        await setup.client.get(NODES, "n")
    assert virtual_clock.now() == 30.0


async def test_the_observer_sees_every_exchange_under_its_name(virtual_clock: VirtualClock) -> None:
    setup = Setup(
        virtual_clock,
        Exchange(body={}),
        Exchange(error=NotFound("x")),
        Exchange(refuse="connection refused"),
        Exchange(stream=[b"x"]),
        Exchange(error=Gone("x")),
    )
    setup.faults.add(Fault(delay=2))
    other = setup.client.named("other/2", "other")
    await setup.client.get(NODES, "n")
    with pytest.raises(NotFound):
        await other.get(NODES, "n")
    with pytest.raises(TransportError):
        await other.get(NODES, "n")
    response = await other.stream("/api/v1/nodes", query=[("watch", "1")])
    assert [chunk async for chunk in response.chunks()] == [b"x"]
    await response.close()
    with pytest.raises(Gone):
        await other.stream("/api/v1/nodes", query=[("watch", "1")])
    assert [(each.user_agent, each.code, each.watch, each.duration) for each in setup.records] == [
        ("tester/1", "200", False, 2.0),
        ("other/2", "404", False, 0.0),
        ("other/2", "<error>", False, 0.0),
        ("other/2", "200", True, 0.0),
        ("other/2", "410", True, 0.0),
    ]


async def test_a_page_that_is_not_a_status_becomes_the_message(virtual_clock: VirtualClock) -> None:
    setup = Setup(virtual_clock)
    setup.faults.add(Fault(answer=lambda: BufferedResponse(502, b"<h1>Bad Gateway</h1>" * 50)))
    with pytest.raises(ApiError, match="Bad Gateway") as caught:
        await setup.client.get(NODES, "n")
    assert caught.value.status == 502
    assert len(caught.value.message) < 300
