"""Discovery with aggregated and with older servers."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from kaito.runtime.client import Client
from kaito.runtime.discovery import Discovery, NoMatch
from kaito.runtime.errors import ServiceUnavailable
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import DEPLOYMENTS, EVENTS, PODS, Resource
from kaito.runtime.testing import VirtualClock, json_response
from kaito.runtime.transport import BufferedResponse, Request, Response

DISCOVERY_EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
WIDGETS = Resource("example.com", "v1", "widgets", "Widget", namespaced=False)
OLD_WIDGETS = Resource("example.com", "v1alpha1", "widgets", "Widget", namespaced=False)

SHORT = {"deployments": ["deploy"], "pods": ["po"], "events": ["ev"]}
SUBRESOURCES = {"deployments": ("scale", "status"), "widgets": ("status",)}
SERVED = [PODS, EVENTS, DEPLOYMENTS, DISCOVERY_EVENTS, WIDGETS, OLD_WIDGETS]


class Server:
    """Answers discovery requests as a new or an old API server does."""

    def __init__(self, clock: VirtualClock, *, aggregated: bool) -> None:
        self.aggregated = aggregated
        self.served = list(SERVED)
        self.down: set[str] = set()
        self.paths: list[str] = []
        self.clock = clock
        self.client = Client(MemoryTransport(self.handle, clock), clock=clock)

    async def handle(self, request: Request) -> Response:
        self.paths.append(request.path)
        await self.clock.sleep(1)
        match request.path.split("/")[1:]:
            case ["version"]:
                return json_response({"gitVersion": "v1.34.4"})
            case [root] if self.aggregated and "as=APIGroupDiscoveryList" in request.header("Accept"):
                return json_response(self.new(core=root == "api"))
            case ["api"]:
                return json_response({"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                return json_response(self.groups())
            case ["api" | "apis", *rest]:
                api_version = "/".join(rest)
                if api_version in self.down:
                    error = ServiceUnavailable("no endpoints")
                    return BufferedResponse(503, orjson.dumps(error.to_status()))
                return json_response(self.old(api_version))
        raise AssertionError(request.path)

    def new(self, *, core: bool) -> dict[str, Any]:
        groups: dict[str, dict[str, Any]] = {}
        for res in self.served:
            if bool(res.group) == core:
                continue
            group = groups.setdefault(res.group, {"metadata": {"name": res.group}, "versions": []})
            stale = res.api_version in self.down
            resources = [] if stale else [self.new_entry(each) for each in self.same(res)]
            entry = {
                "version": res.version,
                "freshness": "Stale" if stale else "Current",
                "resources": resources,
            }
            if entry not in group["versions"]:
                group["versions"].append(entry)
        return {"kind": "APIGroupDiscoveryList", "items": list(groups.values())}

    def same(self, res: Resource) -> list[Resource]:
        return [each for each in self.served if each.api_version == res.api_version]

    @staticmethod
    def new_entry(res: Resource) -> dict[str, Any]:
        return {
            "resource": res.plural,
            "responseKind": {"group": res.group, "version": res.version, "kind": res.kind},
            "scope": "Namespaced" if res.namespaced else "Cluster",
            "singularResource": res.kind.lower(),
            "verbs": ["get", "list"],
            "shortNames": SHORT.get(res.plural, []),
            "categories": ["all"],
            "subresources": [
                {"subresource": name, "verbs": ["get"]} for name in SUBRESOURCES.get(res.plural, ())
            ],
        }

    def groups(self) -> dict[str, Any]:
        groups: dict[str, dict[str, Any]] = {}
        for res in reversed(self.served):  # versions in an order that is not the preferred one
            if res.group:
                entry = groups.setdefault(res.group, {"name": res.group, "versions": []})
                entry["versions"].append({"groupVersion": res.api_version, "version": res.version})
                entry["preferredVersion"] = {"version": res.version}
        return {"kind": "APIGroupList", "groups": list(reversed(groups.values()))}

    def old(self, api_version: str) -> dict[str, Any]:
        resources = []
        for res in self.served:
            if res.api_version == api_version:
                base = {"kind": res.kind, "namespaced": res.namespaced, "verbs": ["get", "list"]}
                resources.append(
                    {
                        **base,
                        "name": res.plural,
                        "singularName": res.kind.lower(),
                        "shortNames": SHORT.get(res.plural),
                        "categories": ["all"],
                    }
                )
                resources += [
                    {**base, "name": f"{res.plural}/{name}", "verbs": ["get"]}
                    for name in SUBRESOURCES.get(res.plural, ())
                ]
        return {"kind": "APIResourceList", "resources": resources}


@pytest.fixture(params=[True, False], ids=["aggregated", "one by one"])
def server(request: pytest.FixtureRequest, virtual_clock: VirtualClock) -> Server:
    return Server(virtual_clock, aggregated=request.param)


async def test_both_dialects_tell_the_same(server: Server) -> None:
    discovery = Discovery(server.client)
    served = await discovery.all()
    assert [each.resource for each in served] == SERVED
    deployments = served[2]
    assert deployments.short_names == ("deploy",)
    assert deployments.categories == ("all",)
    assert deployments.verbs == ("get", "list")
    assert deployments.subresources == {"scale": ("get",), "status": ("get",)}
    assert await discovery.failures() == {}
    assert (await discovery.server_version())["gitVersion"] == "v1.34.4"
    assert len(server.paths) == (3 if server.aggregated else 2 + 5 + 1)
    assert server.clock.now() == (3.0 if server.aggregated else 5.0)  # groups are asked at the same time


async def test_kinds_are_found_by_version_group_or_preference(server: Server) -> None:
    discovery = Discovery(server.client)
    assert await discovery.by_kind("Deployment", "apps/v1") == DEPLOYMENTS
    assert await discovery.by_kind("Widget") == WIDGETS
    assert await discovery.by_kind("Widget", "example.com/v1alpha1") == OLD_WIDGETS
    assert await discovery.by_kind("Event") == EVENTS
    assert await discovery.by_kind("Event", group="events.k8s.io") == DISCOVERY_EVENTS
    assert await discovery.by_kind("Event", group="") == EVENTS


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("deploy", DEPLOYMENTS),
        ("Deployment", DEPLOYMENTS),
        ("deployments.apps", DEPLOYMENTS),
        ("deployment.v1.apps", DEPLOYMENTS),
        ("ev", EVENTS),
        ("events.events.k8s.io", DISCOVERY_EVENTS),
        ("widgets.v1alpha1.example.com", OLD_WIDGETS),
        ("po", PODS),
    ],
)
async def test_names_that_people_type(virtual_clock: VirtualClock, name: str, resource: Resource) -> None:
    discovery = Discovery(Server(virtual_clock, aggregated=True).client)
    assert (await discovery.by_name(name)).resource == resource


async def test_what_is_missing_is_looked_for_once_more(server: Server) -> None:
    server.served.remove(WIDGETS)
    server.served.remove(OLD_WIDGETS)
    discovery = Discovery(server.client)
    with pytest.raises(NoMatch, match="the server has no 'Widget'"):
        await discovery.by_kind("Widget")
    once = len(server.paths)
    assert not await discovery.serves(WIDGETS)
    assert len(server.paths) == 2 * once
    server.served += [WIDGETS]
    assert await discovery.serves(WIDGETS)
    assert await discovery.by_kind("Widget") == WIDGETS
    assert await discovery.by_kind("Deployment") == DEPLOYMENTS


async def test_many_who_miss_something_share_one_fetch(virtual_clock: VirtualClock) -> None:
    server = Server(virtual_clock, aggregated=True)
    discovery = Discovery(server.client)
    found = await asyncio.gather(*(discovery.by_kind("Pod") for _ in range(10)))
    assert found == [PODS] * 10
    assert server.paths == ["/api", "/apis"]
    await discovery.refresh()
    assert len(server.paths) == 4


async def test_the_message_helps(virtual_clock: VirtualClock) -> None:
    discovery = Discovery(Server(virtual_clock, aggregated=True).client)
    with pytest.raises(NoMatch, match="no 'Deploymint'; near it: Deployment"):
        await discovery.by_kind("Deploymint")
    with pytest.raises(
        NoMatch, match=r"no 'Widget' in apps/v1; it is in example.com/v1, example.com/v1alpha1"
    ):
        await discovery.by_kind("Widget", "apps/v1")


async def test_a_group_that_is_down_costs_only_itself_and_stays_known(server: Server) -> None:
    server.down.add("example.com/v1")
    discovery = Discovery(server.client)
    assert await discovery.by_kind("Deployment") == DEPLOYMENTS
    assert list(await discovery.failures()) == ["example.com/v1"]
    with pytest.raises(NoMatch, match=r"no 'Widget' in example.com/v1 \(example.com/v1 could not be asked"):
        await discovery.by_kind("Widget", "example.com/v1")
    server.down.clear()
    assert await discovery.by_kind("Widget", "example.com/v1") == WIDGETS
    server.down.add("example.com/v1")
    await discovery.refresh()
    assert await discovery.by_kind("Widget", "example.com/v1") == WIDGETS
