"""The sample operator does what its story says."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import pytest

from fakeapi import FakeApi
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONFIGMAPS, EVENTS
from kaito.runtime.testing.virtual import VirtualClock
from support.sample import SOURCE, sample_operator


@pytest.fixture(scope="module")
def sample() -> ModuleType:
    return sample_operator()


def greeting(who: str, **status: Any) -> dict[str, Any]:
    meta = {"name": "hello", "namespace": "n", "uid": "u1"}
    return {"metadata": meta, "spec": {"who": who}, **({"status": status} if status else {})}


def test_it_is_short() -> None:
    assert len(SOURCE.read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.conforms("sample-controller NotControlledByUs")
def test_decide_is_pure(sample: ModuleType) -> None:
    decision = sample.decide(sample.Observed(greeting("you"), None))
    assert decision.configmap["data"] == {"greeting": "Hello, you!"}
    assert decision.status == {"ready": True, "message": "Hello, you!"}
    live = CachedObject.from_dict(decision.configmap, CONFIGMAPS)
    assert sample.decide(sample.Observed(greeting("you"), live)).configmap is None
    foreign = CachedObject.from_dict({"metadata": {"name": "greeting-hello", "namespace": "n"}}, CONFIGMAPS)
    refused = sample.decide(sample.Observed(greeting("you"), foreign))
    assert refused.configmap is None
    assert "belongs to somebody else" in refused.status["message"]


@pytest.mark.conforms(
    "sample-controller CreatesDeployment",
    "sample-controller DoNothing",
    "sample-controller UpdateDeployment",
)
async def test_the_whole_story(sample: ModuleType, virtual_clock: VirtualClock) -> None:
    api = FakeApi(virtual_clock)
    manager = Manager(api.client(), clock=virtual_clock)
    sample.setup(manager)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    api.put(sample.GREETINGS, greeting("world"))
    await virtual_clock.sleep(1)
    made = api.get(CONFIGMAPS, "greeting-hello", "n")
    assert made is not None
    assert made["data"] == {"greeting": "Hello, world!"}
    found = api.get(sample.GREETINGS, "hello", "n")
    assert found is not None
    assert found["status"] == {"ready": True, "message": "Hello, world!"}

    writes = len(api.writes())
    api.put(sample.GREETINGS, {**found, "metadata": {**found["metadata"], "labels": {"touched": "yes"}}})
    await virtual_clock.sleep(60)
    assert len(api.writes()) == writes, "an unchanged world costs no request"

    api.put(CONFIGMAPS, {**made, "data": {"greeting": "Go away"}})
    await virtual_clock.sleep(1)
    restored = api.get(CONFIGMAPS, "greeting-hello", "n")
    assert restored is not None
    assert restored["data"] == {"greeting": "Hello, world!"}

    api.remove(CONFIGMAPS, "greeting-hello", "n")
    await virtual_clock.sleep(1)
    assert api.get(CONFIGMAPS, "greeting-hello", "n") is not None
    assert [event["reason"] for event in api.all(EVENTS)] == ["Greeted"]
    assert api.all(EVENTS)[0]["count"] == 3
    stop.set()
    await running
