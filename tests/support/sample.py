"""The sample operator as a module, and what must be true when it has done its work."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from kaito.runtime.client import Client
from kaito.runtime.resources import CONFIGMAPS, Resource

FOLDER = Path(__file__).parents[2] / "examples" / "sample_operator"
SOURCE = FOLDER / "greeter.py"
CRD = FOLDER / "crd.yaml"
GREETINGS = Resource("sample.kaito.sh", "v1", "greetings", "Greeting")


@cache
def sample_operator() -> ModuleType:
    """The file, imported."""
    spec = importlib.util.spec_from_file_location("sample_operator", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def greeting(name: str, namespace: str, who: str) -> dict[str, Any]:
    """A Greeting as a user writes it."""
    return {
        "apiVersion": GREETINGS.api_version,
        "kind": GREETINGS.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"who": who},
    }


async def wrong_greetings(client: Client, namespace: str, wanted: Mapping[str, str]) -> list[str]:
    """What is not yet as it should be, when `wanted` tells who is greeted by which Greeting; empty: all is done."""
    wrong = []
    greetings = {each["metadata"]["name"]: each for each in await client.list(GREETINGS, namespace)}
    maps = {each["metadata"]["name"]: each for each in await client.list(CONFIGMAPS, namespace)}
    if set(greetings) != set(wanted):
        wrong.append(f"greetings {sorted(greetings)}")
    for name, who in wanted.items():
        text = f"Hello, {who}!"
        if maps.get(f"greeting-{name}", {}).get("data") != {"greeting": text}:
            wrong.append(f"configmap of {name}")
        if greetings.get(name, {}).get("status") != {"ready": True, "message": text}:
            wrong.append(f"status of {name}")
    return wrong
