"""The rights of the machine controller with a cloud that makes machines: nothing is asked for that was not declared,
and nothing is declared that is not asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from controllers.machine.builders import SHAPES
from controllers.machine.lives import controller
from controllers.machine.parity.ends import (
    Pools,
    a_claim,
    a_pod,
    an_attachment,
    delete,
    ends,
    is_gone,
    turn,
)
from kaito.controllers.machine import ClaimShape
from kaito.controllers.machine.rights import MADE_NODE_RIGHTS, RIGHTS
from kaito.provisioner.errors import Unauthorized
from kaito.runtime.errors import Invalid
from kaito.runtime.resources import PVCS, VOLUME_ATTACHMENTS
from kaito.runtime.testing.virtual import VirtualClock
from kaito.runtime.transport import BufferedResponse, Request, Response
from kaito.testing.faults import ApiCall
from support.control_plane import ControlPlane, control_plane
from support.rights import Account, uses

DECLARED = (*RIGHTS, *MADE_NODE_RIGHTS)


@pytest.fixture
def account() -> Account:
    return Account("kaito-provisioner")


@pytest.fixture
async def world(
    virtual_clock: VirtualClock, account: Account, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ControlPlane]:
    async with control_plane(virtual_clock) as plane:
        handle = plane.server.handle

        async def recording(request: Request) -> Response:
            if request.headers.get("User-Agent") == plane.client.user_agent:
                return await handle(request)
            call = ApiCall.of(request)
            if "sendInitialEvents" in call.query and not account.streams_lists:
                error = Invalid("sendInitialEvents is forbidden for watch")
                return BufferedResponse(error.status, orjson.dumps(error.to_status()))
            response = await handle(request)
            account.used.update(uses(call, request, response.status))
            return response

        monkeypatch.setattr(plane.server, "handle", recording)
        yield plane


async def test_they_are_exactly_what_a_life_and_its_end_ask_for(
    world: ControlPlane, account: Account
) -> None:
    for account.streams_lists in (True, False):
        for shape in SHAPES:
            cloud = Pools(world.clock)
            async with controller(world, cloud):
                await _ends_in_order(world, cloud, shape)
                await _is_lost(world, cloud, shape)
    assert account.undeclared(DECLARED) == []
    assert account.unused(DECLARED) == []


async def _ends_in_order(world: ControlPlane, cloud: Pools, shape: ClaimShape) -> None:
    """A drain with all that can hold it up, and a cloud that twice cannot end the machine for the same reason."""
    run = f"{shape.resource.plural}-{world.clock.now():.0f}"
    await a_claim(world, shape)
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": run, "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": run,
        },
    }
    await world.client.create(PVCS, body)
    await an_attachment(world, run)
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": run}}]
    await a_pod(world, f"stays-{run}", tolerations=[{"operator": "Exists"}], volumes=volumes)
    await a_pod(world, f"goes-{run}")
    cloud.cannot_delete = Unauthorized("may not delete agent pools; grant the role", retry_after=5)
    await delete(world, shape)
    await ends(world, f"goes-{run}")
    for sentence in ("may still not", "may not delete agent pools; grant the role"):
        cloud.cannot_delete = Unauthorized(sentence, retry_after=5)
        await world.clock.sleep(6)
    cloud.cannot_delete = None
    await world.clock.sleep(6)
    assert await is_gone(world, shape.resource)
    await world.client.delete(VOLUME_ATTACHMENTS, f"of-{run}")


async def _is_lost(world: ControlPlane, cloud: Pools, shape: ClaimShape) -> None:
    """A machine that goes by itself, with a pod on it that has no time left; another machine that leaked."""
    await a_claim(world, shape)
    pod = f"late-{shape.resource.plural}-{world.clock.now():.0f}"
    await a_pod(world, pod)
    await turn(world)
    cloud.leak()
    await world.clock.sleep(730)
    assert await is_gone(world, shape.resource)
    assert cloud.instances == {}
