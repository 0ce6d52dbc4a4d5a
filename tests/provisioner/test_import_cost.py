"""Azure's packages cost 45 MB and a quarter of a second: only a process that makes machines on AKS loads them."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

HEAVY = ("azure", "msal", "tenacity", "cryptography")
CLOUDS_OWN = ("kaito.provisioner.aks.", "kaito.provisioner.testing.")
SCRIPT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def loaded(modules: list[str]) -> set[str]:
    """Top-level packages in a process that has imported these."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(modules)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def modules_of(package: str) -> list[str]:
    found = pkgutil.walk_packages(import_module(package).__path__, f"{package}.")
    return [module.name for module in found if not module.name.startswith(CLOUDS_OWN)]


@pytest.mark.parametrize("package", ["kaito.cli", "kaito.controllers", "kaito.provisioner"])
def test_nothing_that_runs_without_aks_loads_azure(package: str) -> None:
    modules = modules_of(package)
    assert len(modules) > 5
    assert not loaded([package, *modules]) & set(HEAVY)


def test_settings_of_aks_are_read_without_loading_azure() -> None:
    names = ["aks", "aks.config", "aks.clouds", "aks.options"]
    assert not loaded([f"kaito.provisioner.{name}" for name in names]) & set(HEAVY)


def test_the_fake_needs_azure_only_inside_its_sdk() -> None:
    assert not loaded(["kaito.provisioner.testing"]) & set(HEAVY)


def test_the_calls_themselves_do_load_it() -> None:
    assert {"azure", "tenacity"} <= loaded(["kaito.provisioner.aks.arm"])
