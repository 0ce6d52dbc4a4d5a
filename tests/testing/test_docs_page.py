"""docs/runtime/testing.md: its example runs, and it knows every fault there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kaito.testing import faults
from kaito.testing.faults import Action, WatchAction

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "runtime" / "testing.md"

OPERATOR = """
import asyncio, contextlib, sys
from kaito.runtime import AlreadyExists, Client, Connection, Informer, LoopClock, Resource, TransportError
from kaito.runtime.errors import ApiError
from kaito.runtime.reflector import Selection
from kaito.runtime.reflector_states import Backoff, ReflectorOptions

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")

async def main():
    clock = LoopClock()
    connection = Connection.from_kubeconfig(sys.argv[1])
    client = Client(connection.transport, clock=clock, user_agent="my-operator/1")
    informer = Informer(client, Selection(WIDGETS), options=OPTIONS)
    following = asyncio.create_task(informer.run())
    for name in ("a", "b"):
        body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "default"}}
        while True:
            try:
                await client.create(WIDGETS, body)
            except AlreadyExists:
                break
            except (ApiError, TransportError):
                continue
            break
    async with clock.timeout(60):
        while len(informer.lister.list()) < 2:
            await clock.sleep(0.05)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    await connection.close()

OPTIONS = ReflectorOptions(watch_list=False, backoff=Backoff(base=0.05))
asyncio.run(main())
"""

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object}}
"""


@pytest.mark.processes
def test_its_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(
        r"^```python test\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "test_page.py").write_text(code)
    (tmp_path / "operator_main.py").write_text(OPERATOR)
    (tmp_path / "crd.yaml").write_text(CRD)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--rootdir={tmp_path}",
            "-W",
            "default",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    shutil.rmtree(tmp_path)


def test_it_knows_every_fault() -> None:
    actions = {
        name
        for name in faults.__all__
        if isinstance(thing := getattr(faults, name), type)
        and hasattr(thing, "applies")
        and thing not in (Action, WatchAction)
    }
    listed = set(re.findall(r"`(\w+)\(", PAGE.read_text(encoding="utf-8")))
    assert actions - listed == set()
    assert len(actions) == 16
