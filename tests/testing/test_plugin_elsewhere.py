"""The plugin in somebody else's project: no conftest, nothing but an installed package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

OPERATOR = '''
"""A plain operator without any framework: polls gadgets with urllib and copies them to configmaps."""
import base64, json, os, ssl, sys, time, urllib.error, urllib.request
import yaml

config = yaml.safe_load(open(os.environ["KUBECONFIG"]))
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
namespace = config["contexts"][0]["context"]["namespace"]
NAME = {"User-Agent": "poller"}
trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())

def call(method, path, body=None):
    request = urllib.request.Request(
        cluster["server"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + user["token"], "Content-Type": "application/json", **NAME},
    )
    with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
        return json.load(answer)

while True:
    try:
        for gadget in call("GET", f"/apis/x.example.com/v1/namespaces/{namespace}/gadgets")["items"]:
            name = gadget["metadata"]["name"]
            try:
                call("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": name}})
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    raise
    except OSError as error:
        print(error, file=sys.stderr)
    time.sleep(0.05)
'''

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.x.example.com}
spec:
  group: x.example.com
  scope: Namespaced
  names: {kind: Gadget, listKind: GadgetList, plural: gadgets, singular: gadget}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""

TESTS = """
import asyncio, os, subprocess, sys, time
import pytest
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import CONFIGMAPS, Resource
from kaito.testing.faults import Answer, Match, LoseAnswer, Refuse

GADGETS = Resource("x.example.com", "v1", "gadgets", "Gadget")

def gadget(name, namespace):
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": GADGETS.api_version, "kind": GADGETS.kind, "metadata": meta}

@pytest.fixture
def operator(kube_api):
    environment = {**os.environ, "KUBECONFIG": str(kube_api.kubeconfig)}
    process = subprocess.Popen([sys.executable, "operator_main.py"], env=environment)
    yield process
    process.terminate()
    process.wait()

@pytest.mark.asyncio
@pytest.mark.kube_crds("crd.yaml")
async def test_async(kube_api, operator):
    kube_api.faults.script(Match(verb="list", resource="gadgets", user_agent="poller"), Answer(500), Answer(429))
    kube_api.faults.script(Match(verb="create", user_agent="poller"), Refuse(), LoseAnswer())
    client = kube_api.client()
    await client.create(GADGETS, gadget("g", kube_api.namespace))
    while len(kube_api.faults.injected) < 4:
        await asyncio.sleep(0.02)
    assert [item["metadata"]["name"] for item in await client.list(CONFIGMAPS, kube_api.namespace)].count("g") == 1

@pytest.mark.kube_crds("crd.yaml")
def test_ordinary(kube_api, operator):
    kube_api.faults.add(Match(user_agent="poller"), Answer(503), times=3)
    deadline = time.monotonic() + 30
    while len(kube_api.faults.injected) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)

@pytest.mark.asyncio
async def test_virtual(virtual_clock):
    await virtual_clock.sleep(3600)
    assert virtual_clock.now() == 3600

@pytest.mark.asyncio
@pytest.mark.kube_crds("crd.yaml")
async def test_memory(memory_api, virtual_clock):
    memory_api.faults.script(Match(verb="list"), Answer(429, retry_after=10))
    assert await memory_api.client().list(GADGETS) == []
    assert virtual_clock.now() == 10

@pytest.mark.asyncio
async def test_plain():
    assert not hasattr(asyncio.get_running_loop(), "seed")
"""

BROKEN = """
import asyncio
import pytest
from kaito.testing.faults import Answer, Match

@pytest.mark.asyncio
async def test_order(virtual_clock):
    told = []
    async def tell(name):
        told.append(name)
    async with asyncio.TaskGroup() as group:
        for name in "abcdef":
            group.create_task(tell(name))
    assert told == list("abcdef")

@pytest.mark.asyncio
async def test_unused(kube_api):
    kube_api.faults.add(Match(resource="gadgets"), Answer(503))

@pytest.mark.asyncio
async def test_fails(memory_api):
    memory_api.faults.add(Match(verb="list"), Answer(500))
    from kaito.runtime.resources import CONFIGMAPS
    await memory_api.client("who/1").list(CONFIGMAPS)

@pytest.mark.kube_crds("absent.yaml")
def test_no_file(kube_api):
    pass

@pytest.mark.asyncio
async def test_both(kube_api, virtual_clock):
    pass
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "operator_main.py").write_text(OPERATOR)
    (tmp_path / "crd.yaml").write_text(CRD)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    return tmp_path


def test_a_project_of_its_own_uses_it_without_any_line_of_setup(project: Path) -> None:
    (project / "test_operator.py").write_text(TESTS)
    done = run(project, "--loop-seeds=3")
    assert "9 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_failures_say_what_to_look_at(project: Path) -> None:
    (project / "test_broken.py").write_text(BROKEN)
    done = run(project, "--loop-seeds=3", "-rfE")
    told = done.stdout
    assert re.search(r"FAILED test_broken.py::test_order\[seed=\d\]", told), told
    assert "ERROR test_broken.py::test_unused" in told
    assert "faults that were not injected:" in told
    assert "for resource=gadgets: met 0 requests, expected at least 1" in told
    assert "Injected faults" in told
    assert "for list configmaps by who/1" in told
    assert "ERROR test_broken.py::test_fails" not in told, "a failed test is not blamed twice"
    assert "absent.yaml: No such file or directory. Relative paths start at the folder of the test" in told
    assert "which virtual time cannot wait for: take memory_api" in told


def test_without_pytest_asyncio_it_says_what_is_missing(project: Path) -> None:
    (project / "test_it.py").write_text(
        textwrap.dedent(
            """
            async def test_virtual(virtual_clock):
                pass

            async def test_sockets(kube_api):
                pass

            def test_ordinary(kube_api):
                assert kube_api.url
            """
        )
    )
    done = run(project, "-p", "no:asyncio", "-o", "asyncio_default_fixture_loop_scope=", "-W", "default")
    assert "virtual_clock needs pytest-asyncio, which is switched off here" in done.stdout, done.stdout
    assert "kube_api in an async test needs pytest-asyncio" in done.stdout
    assert "1 passed" in done.stdout

    (project / "sitecustomize.py").write_text(
        "from importlib import metadata\n"
        "real = metadata.version\n"
        "metadata.version = lambda name: '0.23.8' if name == 'pytest-asyncio' else real(name)\n"
    )
    old = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_it.py", "-k", "virtual"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    assert "virtual_clock needs pytest-asyncio 1.4 or later and found 0.23.8" in old.stdout, old.stdout


def test_loading_it_costs_next_to_nothing() -> None:
    code = (
        "import sys, pytest, pytest_asyncio\n"
        "before = set(sys.modules)\n"
        "import kaito.testing.plugin\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["kaito", "kaito.testing", "kaito.testing.plugin"]
