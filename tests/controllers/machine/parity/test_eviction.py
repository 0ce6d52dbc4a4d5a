"""Karpenter's eviction queue: what the API server may answer, and what follows."""

from __future__ import annotations

import orjson
import pytest

from controllers.machine.lives import controller
from controllers.machine.parity.ends import (
    BUDGETS,
    Object,
    Pools,
    a_budget,
    a_claim,
    a_pod,
    condition,
    delete,
    ends,
    events,
    leaving,
)
from kaito.controllers import machine
from kaito.runtime.resources import PODS
from kaito.runtime.transport import BufferedResponse, Request, Response
from support.control_plane import ControlPlane

WEB = {"labels": {"app": "web"}}


def evictions(world: ControlPlane) -> list[str]:
    """Pods whose eviction was asked for, in order."""
    return [path.split("/")[-2] for _, path in world.writes(machine.USER_AGENT) if path.endswith("/eviction")]


class Answers:
    """Stands before the server: keeps the bodies of evictions, and answers them if the test says so."""

    def __init__(self, world: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bodies: list[Object] = []
        self.status: int | None = None
        self._handle = world.server.handle
        monkeypatch.setattr(world.server, "handle", self._answer)

    async def _answer(self, request: Request) -> Response:
        if not request.path.endswith("/eviction"):
            return await self._handle(request)
        self.bodies.append(orjson.loads(request.body or b""))
        if self.status is None:
            return await self._handle(request)
        reason = {404: "NotFound", 409: "Conflict", 403: "Forbidden"}[self.status]
        body = {
            "kind": "Status",
            "status": "Failure",
            "reason": reason,
            "message": reason,
            "code": self.status,
        }
        return BufferedResponse(self.status, orjson.dumps(body))


async def test_a_pod_is_asked_once_and_by_its_uid(
    world: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(world, monkeypatch)
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        pod = await a_pod(world)
        await delete(world)
        await world.clock.sleep(60)
    (body,) = answers.bodies
    assert body["deleteOptions"] == {"preconditions": {"uid": pod["metadata"]["uid"]}}
    assert body["metadata"] == {"name": "web", "namespace": "default"}


@pytest.mark.parametrize("status", [404, 409])
async def test_a_pod_that_is_gone_or_another_of_its_name_is_no_reason_to_speak(
    world: ControlPlane, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    answers = Answers(world, monkeypatch)
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        await a_pod(world)
        answers.status = status
        await delete(world)
        await world.clock.sleep(20)
        assert await events(world, "FailedDraining") == []
        assert len(answers.bodies) == 1


async def test_a_pod_of_the_same_name_with_another_uid_is_not_evicted(world: ControlPlane) -> None:
    """A StatefulSet's pod that comes back elsewhere has the name of the one that was to go."""
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        old = await a_pod(world)
        await ends(world, "web")
        await a_pod(world, node="elsewhere")
        await delete(world)
        await world.clock.sleep(1)
        found = await world.client.get(PODS, "web", "default")
        assert found["metadata"]["uid"] != old["metadata"]["uid"]
        assert await leaving(world, "web") == [False]
        assert evictions(world) == []


async def test_a_budget_is_told_once_and_asked_again_less_and_less_often(world: ControlPlane) -> None:
    cloud = Pools(world.clock)
    async with controller(world, cloud):
        await a_claim(world)
        await a_budget(world)
        await a_pod(world, metadata=WEB)
        await delete(world)
        assert await leaving(world, "web") == [False]
        (event,) = await events(world, "FailedDraining")
        assert "default/web" in event["message"]
        assert "budget" in event["message"]
        assert (await condition(world, "Drained"))[1] == "Draining"
        await world.clock.sleep(600)
        assert len(await events(world, "FailedDraining")) == 1
        assert 15 <= len(evictions(world)) <= 18, "after 5 s, 10 s, 20 s, then every 40 s"
        assert cloud.deletions == []
        await world.client.delete(BUDGETS, "budget", "default")
        await world.clock.sleep(41)
        assert await leaving(world, "web") == [True]


async def test_two_budgets_over_one_pod_are_told_as_what_they_are(world: ControlPlane) -> None:
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        await a_budget(world)
        await a_budget(world, "second")
        await a_pod(world, metadata=WEB)
        await delete(world)
        (event,) = await events(world, "FailedDraining")
        assert "more than one PodDisruptionBudget" in event["message"]
        await world.client.delete(BUDGETS, "second", "default")
        await world.client.delete(BUDGETS, "budget", "default")
        await world.clock.sleep(41)
        assert await leaving(world, "web") == [True]


async def test_one_pod_that_is_held_back_does_not_hold_back_its_neighbours(world: ControlPlane) -> None:
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        await a_budget(world)
        await a_pod(world, metadata=WEB)
        await a_pod(world, "other")
        await delete(world)
        assert await leaving(world, "other", "web") == [True, False]


async def test_a_right_that_is_missing_is_told_with_the_servers_words(
    world: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(world, monkeypatch)
    async with controller(world, Pools(world.clock)):
        await a_claim(world)
        await a_pod(world)
        answers.status = 403
        await delete(world)
        (event,) = await events(world, "FailedDraining")
        assert "Forbidden" in event["message"]
        answers.status = None
        await world.clock.sleep(6)
        assert await leaving(world, "web") == [True]


async def test_a_deadline_passes_over_a_budget(world: ControlPlane) -> None:
    cloud = Pools(world.clock)
    async with controller(world, cloud):
        await a_claim(world, spec={"terminationGracePeriod": "2m"})
        await a_budget(world)
        await a_pod(world, metadata=WEB)
        begun = world.clock.now()
        await delete(world)
        await world.clock.sleep(begun + 87 - world.clock.now())
        assert await leaving(world, "web") == [False]
        await world.clock.sleep(begun + 92 - world.clock.now())
        assert await leaving(world, "web") == [True]
        await ends(world, "web")
        assert cloud.instances == {}


async def test_a_restart_in_the_middle_of_a_drain_goes_on_where_it_was(world: ControlPlane) -> None:
    cloud = Pools(world.clock)
    async with controller(world, cloud):
        await a_claim(world)
        await a_pod(world)
        await delete(world)
        assert await leaving(world, "web") == [True]
    async with controller(world, cloud):
        await world.clock.sleep(1)
        assert cloud.deletions == []
        assert evictions(world) == ["web"], "it is on its way already"
        await ends(world, "web")
        assert cloud.instances == {}
