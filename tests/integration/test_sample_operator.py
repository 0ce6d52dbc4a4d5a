"""The sample operator's story as its user lives it, on both backends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.errors import Invalid, NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.resources import CONFIGMAPS, EVENTS
from kaito.testing.kube_api import KubeApi
from support.sample import CRD, GREETINGS, greeting, sample_operator

pytestmark = [pytest.mark.needs("api"), pytest.mark.processes, pytest.mark.kube_crds(CRD)]
CLOCK = LoopClock()


async def until(done: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = CLOCK.now() + 90
    while not await done():
        assert CLOCK.now() < deadline, what
        await CLOCK.sleep(0.05)


class User:
    """Somebody with kubectl."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    async def data(self, name: str) -> dict[str, str] | None:
        try:
            found: dict[str, Any] = await self.client.get(CONFIGMAPS, name, self.namespace)
        except NotFound:
            return None
        return dict(found.get("data") or {})

    async def reads(self, name: str, text: str) -> None:
        """Waits until the ConfigMap says it."""

        async def there() -> bool:
            return await self.data(name) == {"greeting": text}

        await until(there, f"{name} says {text}")

    async def status(self, name: str, ready: bool, words: str) -> None:
        async def told() -> bool:
            status = (await self.client.get(GREETINGS, name, self.namespace)).get("status") or {}
            return status.get("ready") is ready and words in status.get("message", "")

        await until(told, f"status of {name}: {words}")


async def test_the_whole_story(kube_api: KubeApi) -> None:
    manager = Manager(kube_api.client("manager"), clock=CLOCK)
    sample_operator().setup(manager)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    client = kube_api.client("user")
    user, namespace = User(client, kube_api.namespace), kube_api.namespace
    try:
        with pytest.raises(Invalid, match="who"):
            await client.create(GREETINGS, greeting("empty", namespace, ""))
        await client.create(GREETINGS, greeting("hello", namespace, "world"))
        await user.reads("greeting-hello", "Hello, world!")
        await user.status("hello", True, "Hello, world!")

        await client.patch(GREETINGS, "hello", namespace, patch={"spec": {"who": "you"}})
        await user.reads("greeting-hello", "Hello, you!")
        await user.status("hello", True, "Hello, you!")

        await client.patch(CONFIGMAPS, "greeting-hello", namespace, patch={"data": {"greeting": "Go away!"}})
        await user.reads("greeting-hello", "Hello, you!")
        await client.delete(CONFIGMAPS, "greeting-hello", namespace)
        await user.reads("greeting-hello", "Hello, you!")

        foreign = {"metadata": {"name": "greeting-other", "namespace": namespace}, "data": {"mine": "yes"}}
        await client.create(CONFIGMAPS, foreign)
        await client.create(GREETINGS, greeting("other", namespace, "nobody"))
        await user.status("other", False, "belongs to somebody else")
        assert await user.data("greeting-other") == {"mine": "yes"}

        async def told() -> bool:
            events = await client.list(EVENTS, namespace)
            return {(each["involvedObject"]["name"], each["reason"]) for each in events} == {
                ("hello", "Greeted")
            }

        await until(told, "an event about hello")
    finally:
        stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await running
