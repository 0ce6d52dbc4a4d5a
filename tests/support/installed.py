"""KAITO's programs as an administrator installs them: definitions, roles, and replicas that speak as their accounts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer
import yaml

from kaito.api.crds import crd_manifests
from kaito.cli.main import app
from kaito.cli.operator.names import LEASE_NAME, PROVISIONER_LEASE_NAME
from kaito.cli.operator.webhook_rights import SECRET
from kaito.cli.rbac.roles import NAMESPACE
from kaito.runtime.client import Client
from kaito.runtime.errors import AlreadyExists, NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import LEASES, SECRETS
from kaito.runtime.webhook.certificates import VALIDATING
from kaito.testing.backends import make_namespace
from kaito.testing.faults import Faults, FaultyTransport
from support.cluster import Object, World
from support.rights import Account, apply_roles, remove_roles

REGISTRATION = Path(__file__).parents[2] / "manifests" / "webhook" / "configuration.yaml"


def flags(command: str, config: type[Any], *arguments: str) -> Any:
    """What `kaito COMMAND` makes of these arguments."""
    listening = ("--metrics-bind-address=0", "--health-probe-bind-address=0", "--leader-elect")
    known = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    given: dict[str, Any] = known.make_context(command, [*listening, *arguments]).params
    given["images"] = ()
    return config(**{each.name: given[each.name] for each in fields(config)})


@asynccontextmanager
async def speaking_as(world: World, account: Account, faults: Faults) -> AsyncIterator[Client]:
    wire = account.wire(world.backend)
    transport = FaultyTransport(wire, faults, world.clock)
    try:
        yield Client(
            transport, clock=world.clock, user_agent=f"{account.name}/test", field_manager=account.name
        )
    finally:
        await wire.close()


@asynccontextmanager
async def replica(manager: Manager) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await running


async def leader(world: World, lease: str, *, other_than: str = "") -> str:
    """Who holds the Lease, as soon as somebody does."""
    found: list[str] = []

    async def held() -> bool:
        with contextlib.suppress(NotFound):
            spec = (await world.client.get(LEASES, lease, NAMESPACE)).get("spec") or {}
            found.append(str(spec.get("holderIdentity") or ""))
        return bool(found) and found[-1] not in ("", other_than)

    await world.until(held, f"somebody holds {lease}")
    return found[-1]


@asynccontextmanager
async def applied(world: World, objects: list[Object]) -> AsyncIterator[None]:
    """Roles, while the block runs."""
    try:
        await apply_roles(world, objects)
        yield
    finally:
        await remove_roles(world, objects)


@asynccontextmanager
async def installed(world: World) -> AsyncIterator[None]:
    """What an administrator brings along: definitions, the namespace, the webhook's registration."""
    for definition in crd_manifests():
        await world.define(definition)
    with contextlib.suppress(AlreadyExists):
        await make_namespace(world.client, NAMESPACE, world.clock)
    registration = yaml.safe_load(REGISTRATION.read_text())
    name = registration["metadata"]["name"]
    await world.client.apply(VALIDATING, registration)
    try:
        yield
    finally:
        await world.client.delete(VALIDATING, name)
        await world.client.delete(SECRETS, SECRET, NAMESPACE)
        for lease in (LEASE_NAME, PROVISIONER_LEASE_NAME):
            await world.client.delete(LEASES, lease, NAMESPACE)
