"""`kaito operator` in a cluster that is not as it should be: it says so, goes on with what it can, and recovers by
itself. In virtual time, on an API server of its own."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kaito.api.crds import crd_manifests
from kaito.api.resources import MACHINES, WORKSPACES
from kaito.cli.operator.config import OperatorConfig
from kaito.cli.operator.names import LEASE_NAME
from kaito.cli.operator.run import operator_manager
from kaito.runtime.errors import NotFound
from kaito.runtime.leader import LeaderElectionLost
from kaito.runtime.manager import Manager
from kaito.runtime.resources import CRDS, LEASES, NAMESPACES
from kaito.runtime.testing import VirtualClock
from kaito.testing.faults import Answer, Chaos, CutWatch, Delay, Match
from kaito.testing.memory_api import MemoryApi

OPERATOR = Match(user_agent="kaito-*")
CONFIG = OperatorConfig(
    kubeconfig=None,
    context=None,
    node_provisioner="machine",
    node_class_group="",
    node_class_kind="",
    node_class_name="",
    node_class_names="",
    cloud="azure",
    cloud_provider="none",
    preset_registry=None,
    stand_in_weights="",
    images=(),
    metrics_bind_address="0",
    health_probe_bind_address="0",
    leader_elect=False,
    log_format="json",
    webhook=False,
    webhook_bind_address=None,
    webhook_service="kaito-webhook",
    webhook_cert_dir=Path() / "none",
    webhook_register=False,
)


@dataclass
class Operator:
    """The operator at work, as an administrator sees it."""

    api: MemoryApi
    manager: Manager
    task: asyncio.Task[None]

    def metric(self, name: str, **labels: str) -> float:
        found = self.manager.metrics.registry.get_sample_value(name, labels)
        assert found is not None, name
        return found

    def failing(self, check: str) -> bool:
        return self.metric("kaito_operator_check_failing", check=check) == 1

    async def create(self, name: str) -> None:
        body = {
            "apiVersion": WORKSPACES.api_version,
            "kind": WORKSPACES.kind,
            "metadata": {"name": name, "namespace": "default"},
            "resource": {
                "instanceType": "Standard_NC24ads_A100_v4",
                "labelSelector": {"matchLabels": {"apps": name}},
            },
            "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
        }
        await self.api.direct_client("user").create(WORKSPACES, body)

    def status(self, name: str) -> dict[str, Any]:
        try:
            found = self.api.server.find(WORKSPACES.name, "default", name)
        except NotFound:
            return {}
        return found.get("status") or {}

    def asked_for_a_node(self, name: str) -> bool:
        """As far as a Workspace comes without anybody who makes nodes."""
        return any(each.get("claimUID") for each in self.status(name).get("nodes") or ())

    async def until(self, done: Callable[[], bool], what: str, seconds: float = 300) -> None:
        deadline = self.api.clock.now() + seconds
        while not done():
            assert not self.task.done(), f"the operator ended: {self.task}"
            assert self.api.clock.now() < deadline, what
            await self.api.clock.sleep(0.25)


@asynccontextmanager
async def operating(
    api: MemoryApi, clock: VirtualClock, config: OperatorConfig = CONFIG
) -> AsyncIterator[Operator]:
    client = api.client("kaito-operator/test", "kaito-operator")
    manager = operator_manager(client, clock, config, "kaito-system")
    task = asyncio.create_task(manager.run())
    try:
        yield Operator(api, manager, task)
        assert config.leader_elect or not task.done(), "it never ends by itself"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LeaderElectionLost):
            await task


async def bought(api: MemoryApi) -> Counter[str]:
    """Claims by Workspace."""
    claims = await api.direct_client().list(MACHINES)
    return Counter(each["metadata"]["labels"]["kaito.sh/workspace"] for each in claims)


def definitions(name: str = "") -> list[dict[str, Any]]:
    return [each for each in crd_manifests() if name in each["metadata"]["name"]]


def without(definition: dict[str, Any], *path: str) -> dict[str, Any]:
    """The definition as it was before a field existed."""
    older = copy.deepcopy(definition)
    for version in older["spec"]["versions"]:
        properties = version["schema"]["openAPIV3Schema"]["properties"]
        for name in path[:-1]:
            properties = properties[name]["properties"]
        del properties[path[-1]]
    return older


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], bool]:
    return lambda text: text in caplog.text


async def test_without_definitions_it_waits_and_starts_by_itself(
    memory_api: MemoryApi, virtual_clock: VirtualClock, logged: Callable[[str], bool]
) -> None:
    await memory_api.load(*definitions("machines"))
    async with operating(memory_api, virtual_clock) as operator:
        await virtual_clock.sleep(3600)
        assert operator.failing("crds")
        assert logged("the CustomResourceDefinition workspaces.kaito.sh is missing")
        assert logged("kubectl apply --server-side -k manifests/crd")
        await memory_api.load(*definitions())
        await operator.create("late")
        await operator.until(lambda: operator.asked_for_a_node("late"), "it starts by itself", 30)
        assert not operator.failing("crds")


async def test_definitions_of_an_older_version_are_named_and_an_upgrade_is_noticed(
    memory_api: MemoryApi, virtual_clock: VirtualClock, logged: Callable[[str], bool]
) -> None:
    await memory_api.load(*definitions())
    async with operating(memory_api, virtual_clock) as operator:
        await virtual_clock.sleep(60)
        assert not operator.failing("crds")
        await memory_api.load(*(without(each, "status", "nodes") for each in definitions("workspaces")))
        await operator.create("phi")
        await operator.until(lambda: operator.failing("crds"), "what is dropped is noticed", 60)
        assert logged(".status.nodes is lost")
        assert operator.metric("kaito_operator_fields_dropped_total") > 0
        assert operator.status("phi")["conditions"], "what the definition knows is told all the same"
        await memory_api.load(*definitions("workspaces"))
        await operator.until(lambda: not operator.failing("crds"), "the upgrade is noticed", 60)
        await operator.until(lambda: operator.asked_for_a_node("phi"), "the status is whole again", 60)


async def test_definitions_that_go_and_come_back(memory_api: MemoryApi, virtual_clock: VirtualClock) -> None:
    await memory_api.load(*definitions())
    async with operating(memory_api, virtual_clock) as operator:
        await virtual_clock.sleep(60)
        await memory_api.direct_client().delete(CRDS, "workspaces.kaito.sh")
        await operator.until(lambda: operator.failing("crds"), "what went is noticed", 120)
        await memory_api.load(*definitions("workspaces"))
        await operator.create("again")
        await operator.until(lambda: operator.asked_for_a_node("again"), "it goes on", 120)
        assert not operator.failing("crds")


@pytest.mark.parametrize("outage", [1.0, 3600.0])
async def test_the_api_server_goes_away_and_comes_back(
    memory_api: MemoryApi, virtual_clock: VirtualClock, outage: float
) -> None:
    await memory_api.load(*definitions())
    async with operating(memory_api, virtual_clock) as operator:
        await operator.create("before")
        await operator.until(lambda: operator.asked_for_a_node("before"), "it works", 30)
        away = asyncio.create_task(memory_api.restart(outage))
        await virtual_clock.sleep(outage / 2)
        await operator.create("meanwhile")
        await away
        await operator.until(lambda: operator.asked_for_a_node("meanwhile"), "it has caught up", 120)


async def test_what_failed_in_an_outage_does_not_wait_for_its_turn(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(*definitions())
    async with operating(memory_api, virtual_clock) as operator:
        await virtual_clock.sleep(60)
        memory_api.faults.add(Match(user_agent="kaito-*", verb="create"), Answer(503), times=None)
        await operator.create("begun")
        await virtual_clock.sleep(1)
        away = asyncio.create_task(memory_api.restart(3600))
        await virtual_clock.sleep(3599)
        memory_api.faults.heal()
        await away
        # A failure every 1,000 s at the most: its turn would come up to a quarter of an hour later.
        await operator.until(lambda: operator.asked_for_a_node("begun"), "it is tried again at once", 90)


async def test_it_starts_while_the_api_server_is_away(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(*definitions())
    away = asyncio.create_task(memory_api.restart(3600))
    await virtual_clock.sleep(0)
    async with operating(memory_api, virtual_clock) as operator:
        await operator.create("waiting")
        await virtual_clock.sleep(600)
        assert operator.failing("crds")
        await away
        await operator.until(lambda: operator.asked_for_a_node("waiting"), "it starts by itself", 120)


async def test_a_slow_api_server(memory_api: MemoryApi, virtual_clock: VirtualClock) -> None:
    await memory_api.load(*definitions())
    memory_api.faults.add(OPERATOR, Delay(5.0), times=None)
    async with operating(memory_api, virtual_clock) as operator:
        for name in ("one", "two", "three"):
            await operator.create(name)
        for name in ("one", "two", "three"):
            await operator.until(lambda name=name: operator.asked_for_a_node(name), f"{name}, slowly", 300)


async def test_an_api_server_that_asks_for_patience_and_watches_that_break(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(*definitions())
    patience = Match(user_agent="kaito-*", verb="create|patch|list|get")
    memory_api.faults.add(patience, Answer(429, retry_after=1), times=30)
    memory_api.faults.add(Match(user_agent="kaito-*", verb="watch"), CutWatch(), times=100)
    async with operating(memory_api, virtual_clock) as operator:
        await operator.create("patient")
        await operator.until(lambda: operator.asked_for_a_node("patient"), "it gets there", 900)
        memory_api.faults.heal()


@pytest.mark.parametrize("seed", range(3))
async def test_anything_that_can_go_wrong_between(
    memory_api: MemoryApi, virtual_clock: VirtualClock, seed: int
) -> None:
    await memory_api.load(*definitions())
    memory_api.faults.stand(Chaos(seed, budget=60, rate=0.4, match=OPERATOR))
    async with operating(memory_api, virtual_clock) as operator:
        names = [f"w{number}" for number in range(5)]
        for name in names:
            await operator.create(name)
        for name in names:
            await operator.until(lambda name=name: operator.asked_for_a_node(name), name, 3600)
        memory_api.faults.heal()


async def test_what_is_refused_to_one_workspace_is_no_matter_of_the_others(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    """A right that ends at one namespace, a quota, a webhook of somebody else's."""
    await memory_api.load(*definitions())
    refused = Match(user_agent="kaito-workspace/*", resource="workspaces", name="unlucky")
    memory_api.faults.add(refused, Answer(403, message="somebody says no"), times=None)
    async with operating(memory_api, virtual_clock) as operator:
        await operator.create("unlucky")
        await operator.create("lucky")
        await operator.until(lambda: operator.asked_for_a_node("lucky"), "the other goes on", 30)
        await virtual_clock.sleep(60)
        assert not operator.failing("rights"), "a refusal of one object is no missing right"
        memory_api.faults.heal()
        await operator.until(lambda: operator.asked_for_a_node("unlucky"), "it recovers", 1200)


@pytest.mark.parametrize("seed", range(3))
async def test_two_that_both_believe_to_lead_buy_nothing_twice(
    memory_api: MemoryApi, virtual_clock: VirtualClock, seed: int
) -> None:
    """What a frozen or skewed leader would do at the worst: go on for as long as it likes."""
    await memory_api.load(*definitions())
    memory_api.faults.stand(Chaos(seed, budget=40, rate=0.2, match=OPERATOR))
    names = [f"w{number}" for number in range(10)]
    async with operating(memory_api, virtual_clock) as one, operating(memory_api, virtual_clock) as two:
        for name in names:
            await one.create(name)
        for name in names:
            await one.until(lambda name=name: one.asked_for_a_node(name), name, 3600)
        await virtual_clock.sleep(600)
        assert await bought(memory_api) == dict.fromkeys(names, 1)
        for name in names:
            await memory_api.direct_client("user").delete(WORKSPACES, name, "default")
        await two.until(lambda: not any(one.status(name) for name in names), "all are gone", 3600)
        assert await bought(memory_api) == {}
        memory_api.faults.heal()


async def test_a_lease_that_is_deleted_by_hand(memory_api: MemoryApi, virtual_clock: VirtualClock) -> None:
    """The next leader begins at once, and the former one ends at its next renewal."""
    await memory_api.load(*definitions())
    await memory_api.direct_client().create(NAMESPACES, {"metadata": {"name": "kaito-system"}})
    elected = replace(CONFIG, leader_elect=True)
    async with operating(memory_api, virtual_clock, elected) as first:
        await virtual_clock.sleep(10)
        async with operating(memory_api, virtual_clock, elected) as second:
            await virtual_clock.sleep(11)
            await memory_api.direct_client().delete(LEASES, LEASE_NAME, "kaito-system")
            await virtual_clock.sleep(3)
            ended = [each for each in (first, second) if each.task.done()]
            assert ended == [first]
            assert isinstance(first.task.exception(), LeaderElectionLost)
            await second.create("after")
            await second.until(lambda: second.asked_for_a_node("after"), "the other leads", 30)
            assert await bought(memory_api) == {"after": 1}


async def test_a_leader_without_its_lease_ends_and_a_new_one_waits(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(*definitions())
    await memory_api.direct_client().create(NAMESPACES, {"metadata": {"name": "kaito-system"}})
    elected = replace(CONFIG, leader_elect=True)
    async with operating(memory_api, virtual_clock, elected) as first:
        await first.create("before")
        await first.until(lambda: first.asked_for_a_node("before"), "it leads", 30)
        memory_api.faults.add(Match(resource=LEASES.plural), Answer(503), times=None)
        await virtual_clock.sleep(15)
        assert isinstance(first.task.exception(), LeaderElectionLost)
    async with operating(memory_api, virtual_clock, elected) as second:
        await second.create("after")
        await virtual_clock.sleep(600)
        assert not second.task.done(), "it waits for as long as it takes"
        assert not second.asked_for_a_node("after")
        memory_api.faults.heal()
        await second.until(lambda: second.asked_for_a_node("after"), "it leads", 60)
