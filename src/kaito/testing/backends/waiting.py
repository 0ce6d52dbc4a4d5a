"""Waiting for what other programs do: asking again until it is so, with a limit that tells what never came."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import NAMESPACES, NODES, Resource
from kaito.testing.backends.base import BackendError

SERVICEACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
START_LIMIT: Final = 180.0
"""Seconds for a program to serve; generous for a machine that builds something else meanwhile."""
_PAUSE: Final = 0.05


async def until(done: Callable[[], Awaitable[bool]], what: str, clock: Clock) -> None:
    """Returns once `done()` is true.

    Raises:
        BackendError: it was not within START_LIMIT.
    """
    deadline = clock.now() + START_LIMIT
    while not await done():
        if clock.now() >= deadline:
            raise BackendError(f"{what} not within {START_LIMIT:g} s")
        await clock.sleep(_PAUSE)


def node_is_ready(node: dict[str, Any]) -> bool:
    """Whether a Node is Ready and takes pods."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not (node.get("spec") or {}).get("taints")


async def nodes_are_ready(client: Client, names: Iterable[str], clock: Clock) -> None:
    """Returns once these Nodes are Ready and without taints."""

    async def ready(name: str) -> bool:
        try:
            return node_is_ready(await client.get(NODES, name))
        except NotFound:
            return False

    for name in names:
        await until(lambda name=name: ready(name), f"node {name} was Ready", clock)  # type: ignore[misc]


async def namespace_is_usable(client: Client, name: str, clock: Clock) -> None:
    """Returns once a namespace has its ServiceAccount `default`, without which pods are refused."""

    async def usable() -> bool:
        try:
            await client.get(SERVICEACCOUNTS, "default", name)
        except NotFound:
            return False
        return True

    await until(usable, f"namespace {name} had its ServiceAccount default", clock)


async def make_namespace(client: Client, name: str, clock: Clock) -> None:
    """Makes a namespace and returns once pods can be created in it."""
    await client.create(NAMESPACES, {"metadata": {"name": name}})
    await namespace_is_usable(client, name, clock)
