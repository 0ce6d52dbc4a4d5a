"""Writes docs/runtime/options.md and metrics.md from the code, so that neither can say something else than it does.

    python hack/docs_options.py           writes both pages
    python hack/docs_options.py --check   says which of them is stale, with exit status 1

Options are frozen dataclasses whose fields have a docstring each, with meaning, unit and default. Metrics are what a
manager with one controller, one cache and one webhook shows.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric

import kaito.runtime
import kaito.runtime.webhook
from kaito.runtime import (
    Client,
    Controller,
    LeaderElectionOptions,
    LoopClock,
    Manager,
    ManagerOptions,
    ObjectKey,
    Resource,
)
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.transport import BufferedResponse, Request
from kaito.runtime.webhook import WebhookServer

TARGET = Path(__file__).parents[1] / "docs" / "runtime"
ALSO = ("Backoff", "RetrySteps", "Watch")
"""Dataclasses that users fill in and that are not named ...Options."""
INTERNAL = ("TlsOptions",)
"""Named ...Options, but made by the runtime itself."""
FIRST = (
    "ManagerOptions",
    "ControllerOptions",
    "Watch",
    "LeaderElectionOptions",
    "ReflectorOptions",
    "Backoff",
)
"""The order of the page; the rest follows by name."""
MADE_BY = "<!-- Written by `make docs` from the code. Change the docstrings there, not this page. -->"


class Undocumented(Exception):
    """A field without a docstring."""


# --- options ----------------------------------------------------------------------------------------------------


def options_classes() -> list[type]:
    """All options of the runtime, in the order of the page."""
    found: dict[str, type] = {}
    for module in _modules():
        for name, value in vars(module).items():
            wanted = name.endswith("Options") or name in ALSO
            if (
                wanted
                and name not in INTERNAL
                and dataclasses.is_dataclass(value)
                and isinstance(value, type)
            ):
                found[name] = value
    rank = {name: index for index, name in enumerate(FIRST)}
    return [found[name] for name in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))]


def _modules() -> Iterator[Any]:
    for module in pkgutil.walk_packages(kaito.runtime.__path__, "kaito.runtime."):
        if ".testing" not in module.name:
            yield importlib.import_module(module.name)


def options_page() -> str:
    parts = [
        "# Options",
        MADE_BY,
        "",
        "Options are frozen dataclasses: write `dataclasses.replace(options, …)` to change one. Times are in seconds "
        "unless a field says otherwise. A field without a default must be given.",
    ]
    for cls in options_classes():
        parts += ["", f"## {cls.__name__}", "", *_class_section(cls)]
    return "\n".join(parts) + "\n"


def _class_section(cls: type) -> list[str]:
    tree = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(tree, ast.ClassDef)
    texts, sources = _fields_of(tree)
    lines = [
        f"`from {_home(cls)} import {cls.__name__}`",
        "",
        _flat((inspect.getdoc(cls) or "").partition(">>>")[0]),
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for field in dataclasses.fields(cls):
        text = texts.get(field.name)
        if not text:
            raise Undocumented(f"{cls.__module__}.{cls.__name__}.{field.name} has no docstring")
        annotation, default = sources[field.name]
        shown = _default(field, default)
        lines.append(f"| `{field.name}` | {_code(annotation)} | {shown} | {_cell(text)} |")
    return lines


def _home(cls: type) -> str:
    """The package that offers a class, where there is one, else its module."""
    for package in (kaito.runtime, kaito.runtime.webhook):
        if cls.__name__ in package.__all__:
            return package.__name__
    return cls.__module__


def _fields_of(tree: ast.ClassDef) -> tuple[dict[str, str], dict[str, tuple[str, ast.expr | None]]]:
    """(docstring by field, (annotation, default) by field) from the source; docstrings follow their fields."""
    texts: dict[str, str] = {}
    sources: dict[str, tuple[str, ast.expr | None]] = {}
    last = ""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            sources[last] = ast.unparse(node.annotation), node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            texts[last] = _flat(str(node.value.value))
            last = ""
        else:
            last = ""
    return texts, sources


def _default(field: dataclasses.Field[Any], source: ast.expr | None) -> str:
    if source is None:
        return "required"
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory
        return "empty" if made in (dict, list, tuple, set) else "see the meaning"
    if isinstance(source, ast.BinOp):
        return _code(ast.unparse(source))
    value = field.default
    if isinstance(value, (int, float, str, bytes, tuple, frozenset)) or value is None:
        return _code(f'"{value}"' if isinstance(value, str) else repr(value))
    return _code(ast.unparse(source))


def _flat(text: str) -> str:
    """A docstring as one paragraph per blank line, joined for a table cell or a line of prose."""
    return " ".join(part.strip() for part in text.strip().splitlines() if part.strip())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{_cell(text)}`"


# --- metrics ----------------------------------------------------------------------------------------------------


async def metric_families() -> list[Metric]:
    """What a manager with everything shows before anything has happened."""

    async def nobody(request: Request) -> BufferedResponse:
        return BufferedResponse(404)

    async def reconcile(key: ObjectKey) -> None:
        return None

    clock = LoopClock()
    options = ManagerOptions(leader_election=LeaderElectionOptions(name="example", namespace="default"))
    manager = Manager(Client(MemoryTransport(nobody, clock), clock=clock), clock=clock, options=options)
    widgets = Resource("example.com", "v1", "widgets", "Widget")
    manager.add(Controller("example", reconcile, primary=widgets))
    server = WebhookServer(clock=clock)
    server.add("/validate-example", lambda request: None, mutating=False)
    server.add_to(manager)
    families = [each for each in manager.metrics.registry.collect() if not each.name.startswith("process_")]
    return sorted(families, key=lambda family: family.name)


def metrics_page() -> str:
    families = asyncio.run(metric_families())
    parts = [
        "# Metrics",
        MADE_BY,
        "",
        "`ManagerOptions.metrics_address` serves these at `/metrics`. Names, labels and buckets that start with "
        "`controller_runtime_`, `workqueue_`, `rest_client_`, `leader_election_` and `certwatcher_` are "
        "controller-runtime's and client-go's. Your own prometheus_client metrics go into "
        "`manager.metrics.registry`. Families of webhooks exist where a `WebhookServer` was added. Linux "
        "adds the process's own: `process_resident_memory_bytes`, `process_cpu_seconds_total` and so on.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in _labels(family)) or "none"
        parts.append(f"| `{name}` | {family.type} | {labels} | {_cell(_flat(family.documentation))} |")
    return "\n".join(parts) + "\n"


def _labels(family: Metric) -> list[str]:
    names = getattr(family, "_labelnames", None) or (family.samples[0].labels if family.samples else ())
    return [name for name in names if name != "le"]


# --- pages ------------------------------------------------------------------------------------------------------


def pages() -> dict[Path, str]:
    """Content by path."""
    return {
        TARGET / "options.md": _joined(options_page()),
        TARGET / "metrics.md": _joined(metrics_page()),
    }


def _joined(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text)


def stale() -> list[Path]:
    """Pages that are not what the code says."""
    return [
        path
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    if "--check" in sys.argv[1:]:
        old = stale()
        for path in old:
            print(f"{path.name} is stale: run `make docs`", file=sys.stderr)
        return 1 if old else 0
    TARGET.mkdir(parents=True, exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
