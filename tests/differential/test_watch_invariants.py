"""What every watch keeps to, on whichever backend runs: nothing lost, nothing told twice, nothing out of order.

Sequences of writes are made from seeds, so that a failure can be played again.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from differential.player import Address
from kaito.runtime.clock import LoopClock
from kaito.testing.backends import Backend, start

SEEDS: Final = range(3)
WRITES: Final = 14
NAMES: Final = ("a", "b", "c")
RESUME: Final = "watch=true&timeoutSeconds=1&resourceVersion="
INITIAL: Final = (
    "watch=true&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    "&allowWatchBookmarks=true"
)


@dataclass
class Server:
    """One namespace of a server, over HTTP."""

    session: aiohttp.ClientSession
    url: str
    namespace: str

    async def send(self, method: str, rest: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        path = f"{self.url}/api/v1/namespaces/{self.namespace}/secrets{rest}"
        async with self.session.request(method, path, json=body, headers=headers or None) as answer:
            text = await answer.text()
            if "watch=true" in rest:
                return [json.loads(line) for line in text.splitlines()]
            return json.loads(text)

    async def list(self) -> tuple[dict[str, Any], int]:
        """Objects by name, and the version of the list."""
        found = await self.send("GET", "")
        return {item["metadata"]["name"]: item for item in found["items"]}, version(found)


@dataclass
class History:
    """What a sequence of writes did, as the writer saw it."""

    first: int
    before: dict[str, Any]
    after: dict[str, Any]
    last: int
    versions: list[int] = field(default_factory=list)


def version(obj: Any) -> int:
    return int(obj["metadata"]["resourceVersion"])


def untyped(obj: Any) -> Any:
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


async def write(server: Server, seed: int) -> History:
    """Creates, changes and deletes a few objects; writes that change nothing are among them."""
    chance = random.Random(seed)
    for name in NAMES[:2]:
        await server.send("POST", "", {"metadata": {"name": name, "labels": {"n": "0"}}})
    before, first = await server.list()
    history = History(first, before, {}, 0)
    for _ in range(WRITES):
        name, value = chance.choice(NAMES), chance.choice("12")
        match chance.choice(("create", "change", "change", "delete")):
            case "create":
                answer = await server.send("POST", "", {"metadata": {"name": name, "labels": {"n": value}}})
            case "change":
                answer = await server.send("PATCH", f"/{name}", {"metadata": {"labels": {"n": value}}})
            case _:
                answer = await server.send("DELETE", f"/{name}")
        if answer.get("kind") == "Secret":
            history.versions.append(version(answer))
    history.after, history.last = await server.list()
    return history


def replay(state: dict[str, Any], events: list[Any]) -> dict[str, Any]:
    """The state after events; each must fit what came before it."""
    state = dict(state)
    for event in events:
        obj = event["object"]
        name = obj["metadata"]["name"]
        known = state.get(name)
        if event["type"] == "ADDED":
            assert known is None, f"{name} was added twice"
            state[name] = untyped(obj)
        elif event["type"] == "MODIFIED":
            assert known is not None, f"{name} was changed before it was there"
            assert version(obj) > version(known)
            state[name] = untyped(obj)
        else:
            assert event["type"] == "DELETED"
            assert known is not None, f"{name} was deleted before it was there"
            # The last state: all that was known, under the version of the deletion.
            assert obj["metadata"]["labels"] == known["metadata"]["labels"]
            assert obj["metadata"]["uid"] == known["metadata"]["uid"]
            assert version(obj) > version(known)
            del state[name]
    return state


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    async with start(directory=tmp_path) as backend:
        yield backend


async def hold(server: Server, seed: int) -> None:
    history = await write(server, seed)
    events = await server.send("GET", f"?{RESUME}{history.first}")
    versions = [version(event["object"]) for event in events]
    assert versions == sorted(set(versions)), "versions go up, and no event comes twice"
    assert set(history.versions) - {0} <= set(versions) | {version(each) for each in history.before.values()}
    assert replay(history.before, events) == history.after
    # From any version on there comes exactly what is left.
    resumed = await asyncio.gather(*(server.send("GET", f"?{RESUME}{each}") for each in versions))
    for index, rest in enumerate(resumed):
        assert rest == events[index + 1 :]
    # A list as a stream is the list, and says where it ends.
    *initial, bookmark = await server.send("GET", f"?{INITIAL}")
    assert {event["type"] for event in initial} <= {"ADDED"}
    assert replay({}, initial) == history.after
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert version(bookmark["object"]) >= history.last
    # A selection tells of each object as it comes into it and goes from it.
    chosen = await server.send("GET", f"?{RESUME}{history.first}&labelSelector=n%3D1")
    selected = {name: item for name, item in history.before.items() if item["metadata"]["labels"]["n"] == "1"}
    expected = {name: item for name, item in history.after.items() if item["metadata"]["labels"]["n"] == "1"}
    for event in chosen:
        name = event["object"]["metadata"]["name"]
        assert (event["type"] == "ADDED") == (name not in selected)
        if event["type"] == "DELETED":
            del selected[name]
        else:
            selected[name] = untyped(event["object"])
    assert selected == expected


async def test_watches_keep_their_promises(backend: Backend) -> None:
    address = Address.of_kubeconfig(backend.kubeconfig)
    headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
    clock = LoopClock()
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=address.context or False, limit=0), headers=headers
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        for seed in SEEDS:
            server = Server(session, address.url, f"watched-{seed}")
            async with session.post(
                f"{address.url}/api/v1/namespaces", json={"metadata": {"name": server.namespace}}
            ) as answer:
                assert answer.status == 201
            group.create_task(hold(server, seed))
    await clock.sleep(0)
