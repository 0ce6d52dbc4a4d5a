"""`kaito operator` and `kaito provisioner` beside another KAITO end with a sentence; one that comes later is told."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from kaito.cli.beside import BesideCheck, Installation, watch_newcomers
from kaito.cli.beside.check import EXIT_CODE
from kaito.cli.beside.rules import GO_WEBHOOK
from kaito.runtime.clock import rfc3339_micro
from kaito.runtime.resources import DEPLOYMENTS, EVENTS, LEASES
from kaito.runtime.webhook.certificates import VALIDATING
from kaito.testing.backends.base import CONTEXT
from support.cluster import Object, Wire, World

pytestmark = pytest.mark.needs("api")

LIMIT = 60.0
OPERATOR = Installation("kaito-system", workspaces=True, claims=False)
PROVISIONER = Installation("kaito-system", workspaces=False, claims=True)


@pytest.fixture(autouse=True)
async def nobody_stays(world: World) -> AsyncIterator[None]:
    """Namespaces go slowly: who was made up here is not to be found by the next test."""
    yield
    for resource in (DEPLOYMENTS, LEASES):
        for each in await world.client.list(resource, world.namespace):
            await world.client.delete(resource, each["metadata"]["name"], world.namespace)


def deployment(world: World, name: str, image: str, replicas: int = 1) -> Object:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    return {"metadata": world.meta(name), "spec": spec}


def go_operator(world: World, replicas: int = 1) -> Object:
    return deployment(world, "workspace", "mcr.microsoft.com/aks/kaito/workspace:0.12.0", replicas)


def lease(world: World, name: str, holder: str, age: float) -> Object:
    renewed = rfc3339_micro(world.clock.wall() - timedelta(seconds=age))
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed}
    return {"metadata": world.meta(name), "spec": spec}


async def told(world: World, mine: Installation, **options: Any) -> list[str]:
    """What the look around finds."""
    client = world.connect("looking-around", **options)
    return [str(each) for each in await BesideCheck(client, world.clock, mine).look()]


async def run(world: World, *command: str) -> tuple[int, str]:
    """Exit status and last words of `kaito COMMAND`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kaito.cli", *command),
        *(f"--kubeconfig={world.backend.kubeconfig}", f"--context={CONTEXT}"),
        *("--metrics-bind-address=0", "--health-probe-bind-address=0", "--log-format=human"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ},
    )
    try:
        async with world.clock.timeout(LIMIT):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    assert b"Traceback" not in said
    return process.returncode, said.decode().splitlines()[-1]


@pytest.mark.processes
async def test_the_processes_end_and_say_why(world: World) -> None:
    space = world.namespace
    await world.client.create(DEPLOYMENTS, go_operator(world))
    code, said = await run(world, "operator", "--node-provisioner=nodeclaim")
    assert code == EXIT_CODE == 3
    assert said == (
        "kaito: cannot start beside what is in this cluster. Go KAITO's workspace operator runs as Deployment "
        f"{space}/workspace: scale it down with `kubectl scale deployment workspace -n {space} --replicas=0`. See "
        "docs/from-go-kaito.md."
    )
    await world.client.create(LEASES, lease(world, "gpu-provisioner-leader-election", "pod-1", -3600.0))
    code, said = await run(world, "provisioner", "--cloud-provider=existing")
    assert code == EXIT_CODE
    assert f"the gpu-provisioner holds Lease {space}/gpu-provisioner-leader-election: pod-1" in said
    assert "workspace" not in said, "Go KAITO's operator is no business of a provisioner"


async def test_what_counts_and_what_does_not(world: World) -> None:
    client, space = world.client, world.namespace
    assert await told(world, OPERATOR) == []
    await client.create(DEPLOYMENTS, deployment(world, "web", "nginx"))
    await client.create(
        DEPLOYMENTS, deployment(world, "gpu-provisioner", "mcr.microsoft.com/aks/gpu-provisioner:0.4.3")
    )
    assert await told(world, OPERATOR) == [], "a pair that works"
    assert len(await told(world, PROVISIONER)) == 1

    await client.create(DEPLOYMENTS, go_operator(world))
    assert len(await told(world, OPERATOR)) == 1
    scale = {"spec": {"replicas": 0}}
    await client.patch(DEPLOYMENTS, "workspace", space, patch=scale)
    await client.patch(DEPLOYMENTS, "gpu-provisioner", space, patch=scale)
    assert await told(world, OPERATOR) == await told(world, PROVISIONER) == []

    await client.create(LEASES, lease(world, "ef60f9b0.io", "workspace-6f", -3600.0))
    (found,) = await told(world, OPERATOR)
    assert f"Go KAITO's workspace operator holds Lease {space}/ef60f9b0.io: workspace-6f" in found
    await client.delete(LEASES, "ef60f9b0.io", space)
    await client.create(LEASES, lease(world, "ef60f9b0.io", "workspace-6f", 60.0))
    assert await told(world, OPERATOR) == [], "it ran out"


async def test_go_kaitos_webhook_is_named_with_the_command_that_removes_it(world: World) -> None:
    rule = {
        "apiGroups": ["kaito.sh"],
        "apiVersions": ["v1beta1"],
        "resources": ["workspaces", "workspaces/status"],
    }
    service = {
        "namespace": world.namespace,
        "name": "workspace-webhook",
        "path": "/validate/workspace.kaito.sh",
    }
    hook = {
        "name": GO_WEBHOOK,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "clientConfig": {"service": service},
        "rules": [{**rule, "operations": ["CREATE", "UPDATE"]}],
    }
    await world.client.create(VALIDATING, {"metadata": {"name": GO_WEBHOOK}, "webhooks": [hook]})
    try:
        (found,) = await told(world, OPERATOR)
        assert found.endswith(f"remove it with `kubectl delete validatingwebhookconfiguration {GO_WEBHOOK}`")
        assert await told(world, PROVISIONER) == []
    finally:
        await world.client.delete(VALIDATING, GO_WEBHOOK)
    assert await told(world, OPERATOR) == []


async def test_who_may_not_look_starts_all_the_same(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.client.create(DEPLOYMENTS, go_operator(world))
    assert await told(world, OPERATOR, wire=Wire(world.backend, "nobody-special")) == []
    assert caplog.text.count("may not look for other operators") == 4


async def test_one_that_comes_later_is_told_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    manager = world.manager("kaito-operator/1")
    watch_newcomers(manager, OPERATOR)
    async with world.running(manager):
        made = await world.client.create(DEPLOYMENTS, go_operator(world))

        async def events() -> list[Object]:
            found = await world.client.list(EVENTS, world.namespace)
            return [each for each in found if each["reason"] == "AnotherOperator"]

        async def there() -> bool:
            return bool(await events())

        await world.until(there, "an event about the newcomer")
        await world.client.patch(
            DEPLOYMENTS, "workspace", world.namespace, patch={"metadata": {"labels": {"a": "b"}}}
        )
        await world.clock.sleep(0.5)
    (event,) = await events()
    assert event["involvedObject"]["uid"] == made["metadata"]["uid"]
    assert event["type"] == "Warning"
    assert event.get("count", 1) == 1
    assert "both write the same objects" in event["message"]
    assert caplog.text.count("another operator works on the same objects") == 1
