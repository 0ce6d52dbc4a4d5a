"""The base distribution alone is enough for an operator, and nothing else is loaded for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOREIGN = ("pydantic", "jinja2", "typer", "rich", "azure", "yaml", "kaito_presets", "cryptography")

EVERYTHING = """
import importlib, json, pkgutil, sys
import kaito.runtime
for name in kaito.runtime.__all__:
    getattr(kaito.runtime, name)
for module in pkgutil.iter_modules(kaito.runtime.__path__):
    if module.name not in ("crd", "connection", "testing"):
        importlib.import_module("kaito.runtime." + module.name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""

OPERATOR = """
import asyncio, contextlib, importlib.util, json, sys
from fakeapi import FakeApi
from kaito.runtime import Manager
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.testing import VirtualClock, run_virtual

spec = importlib.util.spec_from_file_location("sample_operator", sys.argv[1])
sample = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = sample
spec.loader.exec_module(sample)

async def main():
    clock = VirtualClock()
    api = FakeApi(clock)
    manager = Manager(api.client(), clock=clock)
    sample.setup(manager)
    stop = asyncio.Event()
    running = asyncio.create_task(manager.run(stop))
    greeting = {"metadata": {"name": "hello", "namespace": "n"}, "spec": {"who": "you"}}
    await api.client().create(sample.GREETINGS, greeting)
    await clock.sleep(5)
    made = api.get(CONFIGMAPS, "greeting-hello", "n")
    stop.set()
    await running
    return made["data"]

foreign = [name for name in json.loads(sys.argv[2]) if importlib.util.find_spec(name)]
print(json.dumps({"data": run_virtual(main), "foreign": foreign}))
"""


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_runtime_loads_nothing_of_the_extras() -> None:
    loaded = set(json.loads(run(sys.executable, "-c", EVERYTHING)))
    assert loaded.isdisjoint({"pydantic", "jinja2", "typer", "rich", "azure", "cryptography"})
    assert "kubernetes_asyncio" not in loaded


@pytest.mark.slow
def test_an_operator_runs_with_the_base_alone(tmp_path: Path) -> None:
    uv = shutil.which(
        "uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    assert uv is not None, "uv is one of the dev dependencies"
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), ".")
    (wheel,) = tmp_path.glob("kaito-*.whl")
    environment = tmp_path / "venv"
    python = str(environment / "bin" / "python")
    run(uv, "venv", "--quiet", "--python", sys.executable, str(environment))
    run(uv, "pip", "install", "--quiet", "--python", python, "--constraint", "constraints.txt", str(wheel))
    # yaml comes with kubernetes-asyncio, which reads kubeconfigs with it.
    foreign = [name for name in FOREIGN if name != "yaml"]
    sample = ROOT / "examples" / "sample_operator" / "greeter.py"
    out = run(
        python,
        "-W",
        "error",
        "-c",
        OPERATOR,
        str(sample),
        json.dumps(foreign),
        PYTHONPATH=str(ROOT / "tests"),
    )
    assert json.loads(out) == {"data": {"greeting": "Hello, you!"}, "foreign": []}
    command = subprocess.run([environment / "bin" / "kaito", "local", "up"], capture_output=True, text=True)
    assert command.returncode == 1
    assert "Install an extra: kaito[local]" in command.stderr
    assert "Traceback" not in command.stderr
