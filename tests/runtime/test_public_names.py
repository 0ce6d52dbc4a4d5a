"""The public face of kaito.runtime: what it exports, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import kaito.runtime as runtime
from kaito.runtime import crd

PUBLIC = [
    "AlreadyExists",
    "AlreadyOwned",
    "ApiError",
    "Backoff",
    "Bucket",
    "CacheOptions",
    "CachedObject",
    "Client",
    "Clock",
    "Conflict",
    "Connection",
    "Controller",
    "ControllerOptions",
    "Discovery",
    "EventOptions",
    "EventRecorder",
    "FinalizerError",
    "Forbidden",
    "Gone",
    "Group",
    "Informer",
    "InformerCache",
    "Invalid",
    "ItemExponential",
    "LeaderElectionLost",
    "LeaderElectionOptions",
    "Lister",
    "LoopClock",
    "Manager",
    "ManagerOptions",
    "MaxOf",
    "NamespacesView",
    "NoMatch",
    "NotFound",
    "ObjectKey",
    "ObjectMeta",
    "Outcome",
    "OwnerReference",
    "PatchType",
    "Predicate",
    "ReflectorOptions",
    "Registration",
    "Resource",
    "Result",
    "RetrySteps",
    "TerminalError",
    "TransportError",
    "UnknownNamespace",
    "Watch",
    "WorkQueue",
    "add_finalizer",
    "all_of",
    "annotations_changed",
    "any_of",
    "by_field_index",
    "by_object",
    "by_owner",
    "configure_logging",
    "controller_reference",
    "create_or_patch",
    "create_or_update",
    "field_index",
    "generation_changed",
    "get_logger",
    "has_labels",
    "is_controlled_by",
    "labels_changed",
    "merge_patch",
    "negate",
    "remove_finalizer",
    "resource_version_changed",
    "retry_on_conflict",
    "set_controller",
    "with_finalizer",
]


def test_the_public_names_are_these() -> None:
    """A name that is added or dropped here is a decision, not an accident."""
    assert sorted(runtime.__all__) == sorted(PUBLIC)


def test_every_public_name_can_be_imported() -> None:
    for name in PUBLIC:
        assert getattr(runtime, name) is not None
    assert not hasattr(runtime, "Reflector")


@pytest.mark.parametrize("package", [runtime, crd], ids=["runtime", "crd"])
def test_type_checkers_see_the_same_names(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {(name, f"{package.__name__}.{module}") for name, module in package._HOMES.items()}
    assert {name for name, _ in seen} == set(package.__all__)
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_the_base_loads_nothing_of_the_extras() -> None:
    """Also when every public name is used."""
    program = (
        "import sys, kaito.runtime as r\n"
        "for name in r.__all__: getattr(r, name)\n"
        "unwanted = {'pydantic', 'jinja2', 'typer', 'rich', 'azure', 'cryptography', 'kaito.api'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
