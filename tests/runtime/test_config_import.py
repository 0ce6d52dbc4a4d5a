"""kubernetes_asyncio's config at its own price, and the whole package for everybody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAX_GROWTH = 6.0
"""MB of resident memory that reading a kubeconfig may add to an operator."""
MAX_MODULES = 80


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(
        "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}], clusters: "
        "[{name: c, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: u, user: {token: t}}]}"
    )
    return path


MEMORY = """
def resident():
    import os, resource
    if os.path.exists("/proc/self/statm"):
        return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS: bytes
"""


def test_what_a_kubeconfig_costs(kubeconfig: Path) -> None:
    """Everything counts that is not there yet in a program that talks to an API server: yaml, too."""
    out = python(
        f"""{MEMORY}
import gc, sys
import kaito.runtime.client, kaito.runtime.aiohttp_transport
gc.collect()
modules, before = set(sys.modules), resident()
from kaito.runtime.connection import Connection
from kaito.runtime import config_import
Connection.from_kubeconfig({str(kubeconfig)!r})
config_import.config_modules().incluster_config.InClusterConfigLoader
growth = resident() - before
apart = config_import.config_modules().kube_config.__builtins__["__import__"].__self__.modules
print(growth, len(set(sys.modules) - modules), len(apart))
"""
    )
    growth, ordinary, apart = out.split()
    assert float(growth) < MAX_GROWTH
    assert int(ordinary) + int(apart) < MAX_MODULES


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_the_whole_client_is_there_for_whoever_imports_it_before_or_after(
    kubeconfig: Path, first: str
) -> None:
    ours = (
        "from kaito.runtime.connection import Connection\n"
        f"print(Connection.from_kubeconfig({str(kubeconfig)!r}).url)\n"
        "from kaito.runtime.config_import import config_modules\n"
        "assert config_modules().kube_config.Configuration.__name__ == 'SimpleNamespace'\n"
    )
    theirs = (
        "import warnings; warnings.simplefilter('default')\n"
        "import kubernetes_asyncio as k\n"
        "import kubernetes_asyncio.config.kube_config as m\n"
        "assert m.Configuration is k.client.Configuration and m.ApiClient is k.client.ApiClient\n"
        "k.client.V1Pod, k.config.load_kube_config, k.client.ApiClient.call_api, k.watch.Watch\n"
    )
    nothing = "import sys; assert not [n for n in sys.modules if n.startswith('kubernetes_asyncio')]\n"
    assert python(ours + nothing + theirs if first == "ours" else theirs + ours) == "http://127.0.0.1:1"


def test_many_threads_of_both_kinds_get_what_they_want() -> None:
    """A stand-in in sys.modules, however short, would be seen by one of them."""
    out = python(
        """
import sys, threading, warnings
warnings.simplefilter("default")
sys.setswitchinterval(1e-5)
from kaito.runtime.config_import import config_modules
start, found, errors = threading.Barrier(8), [], []
def work(ours):
    start.wait()
    try:
        if ours:
            found.append(config_modules())
        else:
            import kubernetes_asyncio as k
            k.client.V1Pod, k.config.load_kube_config
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(errors, len({id(each) for each in found}), len(found))
"""
    )
    assert out == "[] 1 4"


def test_a_package_that_needs_more_of_its_client_is_imported_the_ordinary_way(tmp_path: Path) -> None:
    package = tmp_path / "kubernetes_asyncio"
    (package / "config").mkdir(parents=True)
    (package / "client").mkdir()
    (package / "__init__.py").write_text("from kubernetes_asyncio import client, config\n")
    (package / "client" / "__init__.py").write_text("class Configuration: ...\nclass Extra: ...\n")
    (package / "config" / "__init__.py").write_text("from . import kube_config\n")
    (package / "config" / "kube_config.py").write_text("from ..client import Configuration, Extra\n")
    (package / "config" / "incluster_config.py").write_text("from .kube_config import Extra\n")
    out = python(
        f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from kaito.runtime.config_import import config_modules
modules = config_modules()
print(modules.kube_config is sys.modules["kubernetes_asyncio.config.kube_config"], modules.incluster_config.Extra)
"""
    )
    assert out == "True <class 'kubernetes_asyncio.client.Extra'>"


def test_an_import_that_fails_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    package = tmp_path / "kubernetes_asyncio"
    (package / "config").mkdir(parents=True)
    for name in ("__init__", "config/__init__", "config/incluster_config"):
        (package / f"{name}.py").write_text("")
    (package / "config" / "kube_config.py").write_text("raise RuntimeError('broken')\n")
    out = python(
        f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from kaito.runtime.config_import import config_modules
try:
    config_modules()
except RuntimeError as error:
    print(error)
print([name for name in sys.modules if name.startswith("kubernetes_asyncio")])
open({str(package / "config" / "kube_config.py")!r}, "w").write("fine = True  # now")
print(config_modules().kube_config.fine)
"""
    )
    assert out.splitlines() == ["broken", "[]", "True"]


def test_a_missing_package_is_said() -> None:
    out = python(
        """
import importlib.util
importlib.util.find_spec = lambda name: None
from kaito.runtime.config_import import config_modules
try:
    config_modules()
except ImportError as error:
    print(error)
"""
    )
    assert out == "kubernetes_asyncio is not installed; it is a dependency of kaito"
