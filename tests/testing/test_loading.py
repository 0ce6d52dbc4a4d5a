"""What must not be loaded to have an API server: a newcomer's first test waits for every import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

HEAVY = (
    "jinja2",
    "kaito.api",
    "kaito.embedded.kubelet",
    "kaito.embedded.workloads",
    "kaito.runtime.manager",
    "kaito.testing.backends.real",
    "kubernetes_asyncio.client",
    "prometheus_client",
    "prompt_toolkit",
    "pydantic",
    "typer",
)
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.x.example.com}
spec:
  group: x.example.com
  scope: Namespaced
  names: {kind: Gadget, listKind: GadgetList, plural: gadgets, singular: gadget}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
"""


def test_the_fixture_loads_the_api_server_and_little_else(tmp_path: Path) -> None:
    """Custom resources from a file included."""
    (tmp_path / "gadgets.yaml").write_text(CRD)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "import sys, pytest\n"
        "BEFORE = set(sys.modules)\n"
        "@pytest.mark.kube_crds('gadgets.yaml')\n"
        "def test_it(kube_api):\n"
        "    assert 'kaito.embedded.apiserver.server' in sys.modules\n"
        f"    assert [name for name in {HEAVY!r} if name in set(sys.modules) - BEFORE] == []\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--kube-backend", "embedded"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "start",
    ["kaito.embedded.processes.apiserver", "kaito.cli.local.commands"],
    ids=["the API server's process", "kaito local up, until it starts that process"],
)
def test_what_a_start_loads(start: str) -> None:
    unwanted = {*HEAVY, "rich"} - {"typer" if start.startswith("kaito.cli") else ""}
    code = f"import sys, {start}; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_local_mode_loads_its_client_beside_the_starting_server() -> None:
    code = "import sys, kaito.cli.local.commands; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
