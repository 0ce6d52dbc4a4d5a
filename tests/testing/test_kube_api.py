"""The fixture `kube_api`, in async tests, ordinary ones and for programs that a test starts; on either backend."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import urllib.request
from base64 import b64decode
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml

from kaito.runtime.clock import LoopClock
from kaito.runtime.crd import CustomObject, CustomResource, Object, Rule, Version
from kaito.runtime.errors import ApiError, Invalid, TransportError
from kaito.runtime.resources import CONFIGMAPS, NAMESPACES, Resource
from kaito.testing.backends import READY_PODS
from kaito.testing.faults import Answer, LoseAnswer, Match, NoAnswer
from kaito.testing.kube_api import KubeApi
from kaito.testing.server_thread import ServerThread

pytestmark = pytest.mark.processes


class GadgetSpec(Object):
    size: Annotated[int, Rule("self > 0", "size: write 1 or more")]


class Gadget(CustomObject):
    spec: GadgetSpec


GADGET = CustomResource(
    "testing.example.com", "Gadget", "gadgets", versions=(Version("v1", Gadget, storage=True),)
)
GADGETS = Resource("testing.example.com", "v1", "gadgets", "Gadget")
SAMPLE = Path(__file__).parents[2] / "examples" / "sample_operator"
GREETINGS = Resource("sample.kaito.sh", "v1", "greetings", "Greeting")


def config_map(api: KubeApi, name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": api.namespace}}


async def test_a_namespace_of_its_own_and_clients_by_name(kube_api: KubeApi) -> None:
    client = kube_api.client("me/1")
    assert (await client.get(NAMESPACES, kube_api.namespace))["status"]["phase"] == "Active"
    assert kube_api.namespace.startswith("a-namespace-of-its-own-and-clients-by-name-")
    kube_api.faults.script(Match(user_agent="me/1", verb="create"), Answer(503))
    with pytest.raises(ApiError, match="injected fault"):
        await client.create(CONFIGMAPS, config_map(kube_api, "a"))
    await kube_api.client("other").create(CONFIGMAPS, config_map(kube_api, "a"))
    assert [each.call.name for each in kube_api.faults.injected] == [""]


@pytest.mark.kube_crds(GADGET)
async def test_custom_resources_from_classes_are_there_from_the_start(kube_api: KubeApi) -> None:
    client = kube_api.client()
    metadata = {"name": "g", "namespace": kube_api.namespace}
    good = {"apiVersion": GADGETS.api_version, "kind": "Gadget", "metadata": metadata, "spec": {"size": 1}}
    await client.create(GADGETS, good)
    with pytest.raises(Invalid, match="size: write 1 or more"):
        await client.create(GADGETS, {**good, "spec": {"size": 0}})


@pytest.mark.kube_crds("../../examples/sample_operator")
async def test_custom_resources_from_a_folder_beside_the_test(kube_api: KubeApi) -> None:
    assert await kube_api.client().list(GREETINGS, kube_api.namespace) == []
    await kube_api.load(GADGET.manifest(), SAMPLE / "crd.yaml")
    assert await kube_api.client().list(GADGETS, kube_api.namespace) == []


async def test_the_api_server_goes_away_and_comes_back(kube_api: KubeApi) -> None:
    client = kube_api.client()
    await client.create(CONFIGMAPS, config_map(kube_api, "a"))
    restarting = asyncio.ensure_future(_done(kube_api.restart(outage=0.3)))
    refused = 0
    while not restarting.done():
        try:
            await client.list(CONFIGMAPS, kube_api.namespace)
        except TransportError:
            refused += 1
        await LoopClock().sleep(0.02)
    await restarting
    assert refused > 0
    assert "a" in {item["metadata"]["name"] for item in await client.list(CONFIGMAPS, kube_api.namespace)}


async def _done(pending: Any) -> None:
    await pending


def read(api: KubeApi, path: str, timeout: float = 20) -> dict[str, Any]:
    """A GET as a program without any Kubernetes library does it."""
    config = yaml.safe_load(api.kubeconfig.read_text())
    ca = b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
    request = urllib.request.Request(api.url + path, headers=headers)
    context = ssl.create_default_context(cadata=ca)
    with urllib.request.urlopen(request, timeout=timeout, context=context) as answer:
        return dict(json.load(answer))


def test_an_ordinary_test_blocks_and_the_server_still_answers(kube_api: KubeApi) -> None:
    path = f"/api/v1/namespaces/{kube_api.namespace}"
    assert read(kube_api, path)["status"]["phase"] == "Active"
    kube_api.faults.add(Match(namespace="", name=kube_api.namespace), NoAnswer())
    with pytest.raises(TimeoutError):
        read(kube_api, path, timeout=0.3)
    kube_api.restart().result(60)
    assert read(kube_api, path)["metadata"]["name"] == kube_api.namespace
    with pytest.raises(RuntimeError, match="is for async tests"):
        kube_api.client()


PROGRAM = """
import asyncio, sys
from kaito.runtime import Client, Connection, LoopClock
from kaito.runtime.errors import AlreadyExists, TransportError
from kaito.runtime.resources import CONFIGMAPS

async def main():
    connection = Connection.from_default()
    client = Client(connection.transport, clock=LoopClock(), user_agent="program/1")
    body = {"metadata": {"name": "made", "namespace": connection.namespace}}
    try:
        await client.create(CONFIGMAPS, body)
    except TransportError:
        try:
            await client.create(CONFIGMAPS, body)
        except AlreadyExists:
            print("it was there")
    await connection.close()

asyncio.run(main())
"""


def test_a_program_of_its_own_meets_the_faults(kube_api: KubeApi) -> None:
    kube_api.faults.add(Match(verb="create", user_agent="program/*"), LoseAnswer())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "KUBECONFIG": str(kube_api.kubeconfig)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("it was there\n", "")
    assert len(kube_api.faults.injected) == 1


@pytest.mark.needs(READY_PODS)
async def test_more_than_an_api_server_where_a_test_needs_it(kube_api: KubeApi) -> None:
    pods = Resource("", "v1", "pods", "Pod")
    client = kube_api.client()
    spec = {"containers": [{"name": "c", "image": "localhost/none"}]}
    await client.create(pods, {"metadata": {"name": "p", "namespace": kube_api.namespace}, "spec": spec})
    clock = LoopClock()
    async with clock.timeout(60):
        while (await client.get(pods, "p", kube_api.namespace))["status"]["phase"] != "Running":
            await clock.sleep(0.05)


def test_the_thread_ends_with_all_that_ran_in_it() -> None:
    thread = ServerThread()
    told: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cancelled")

    pending = thread.submit(forever())
    assert thread.run(_answer()) == 42
    thread.close()
    assert told == ["cancelled"]
    with pytest.raises(CancelledError):
        pending.result()


async def _answer() -> int:
    return 42
