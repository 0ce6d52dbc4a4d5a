"""`kaito plan`: reads files, plans every Workspace in them, and prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import typer
import yaml

from kaito.catalog import Catalog, load_catalog
from kaito.cli.catalogs import ask_hub, read_catalog
from kaito.cli.errors import CliError
from kaito.cli.plan.report import NOTHING_ASKED, WorkspacePlan, asked_of_hub, plan_workspace, with_live
from kaito.cli.plan.show import as_json, lines, total
from kaito.cli.prices.file import read
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig, parse_cloud
from kaito.controllers.workspace.model import Answer, Need
from kaito.controllers.workspace.slim import hashed
from kaito.runtime.clock import LoopClock
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONFIGMAPS

NOT_POSSIBLE = 1
"""Exit status where a Workspace of the file cannot be carried out."""


@dataclass(frozen=True, slots=True)
class PlanFlags:
    """The flags of `kaito plan`, as given."""

    files: Sequence[Path]
    namespace: str
    node_provisioner: str
    cloud: str
    location: str | None
    live: bool
    json: bool
    prices: Path | None = None
    catalogs: Sequence[Path] | None = None
    registry: str | None = None


async def run_plan(flags: PlanFlags) -> None:
    """Prints the plan. Raises CliError for a file that holds no Workspace, typer.Exit(1) where one has problems."""
    config = _config(flags)
    documents = [document for file in flags.files for document in read_documents(file)]
    catalog = read_catalog(flags.catalogs)
    answers = await ask_hub(
        need
        for each in workspaces_in(documents)
        for need in asked_of_hub(_in_namespace(each, flags.namespace), catalog, config)
    )
    plans = plan_documents(documents, config, flags.namespace, LoopClock().wall(), catalog, answers)
    if not plans:
        raise CliError(f"There is no Workspace in {', '.join(str(file) for file in flags.files)}.")
    if flags.live:
        plans = await _live(plans, flags.location)
    if flags.json:
        text = orjson.dumps({"workspaces": [as_json(plan) for plan in plans]}, option=orjson.OPT_INDENT_2)
        typer.echo(text.decode())
    else:
        parts = ["\n".join(lines(plan)) for plan in plans]
        typer.echo("\n\n".join([*parts, *([cost] if (cost := total(plans)) else [])]))
    if not all(plan.ok for plan in plans):
        raise typer.Exit(NOT_POSSIBLE)


def _config(flags: PlanFlags) -> WorkspaceConfig:
    try:
        config = WorkspaceConfig(
            node_provisioner=NodeProvisioner.parse(flags.node_provisioner),
            cloud=parse_cloud(flags.cloud),
            prices=read(flags.prices),
            region=flags.location,
        )
        return replace(config, registry=flags.registry) if flags.registry else config
    except ValueError as error:
        raise CliError(str(error)) from None


def plan_documents(
    documents: Sequence[Mapping[str, Any]],
    config: WorkspaceConfig,
    namespace: str,
    now: datetime,
    catalog: Catalog | None = None,
    answers: Mapping[Need, Answer] = NOTHING_ASKED,
) -> list[WorkspacePlan]:
    """A plan for each Workspace among the documents; ConfigMaps among them count as there. answers: the hub's."""
    catalog = catalog or load_catalog()
    config_maps = {
        _place(each, namespace): hashed(
            CachedObject.from_dict(_complete(each, namespace), CONFIGMAPS)
        ).decode()
        for each in documents
        if each.get("kind") == "ConfigMap"
    }
    return [
        plan_workspace(dict(each), catalog, config, now, config_maps, namespace, answers)
        for each in workspaces_in(documents)
    ]


def workspaces_in(documents: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The Workspaces among them."""
    return [
        each
        for each in documents
        if each.get("kind") == "Workspace" and str(each.get("apiVersion")).startswith("kaito.sh/")
    ]


def _in_namespace(document: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    metadata = document.get("metadata")
    return {
        **document,
        "metadata": {"namespace": namespace, **(metadata if isinstance(metadata, Mapping) else {})},
    }


def _complete(document: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """With all that an object of the API server has."""
    metadata = document.get("metadata")
    kept = metadata if isinstance(metadata, Mapping) else {}
    data = document.get("data")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "", "namespace": namespace, **kept, "uid": "", "resourceVersion": "0"},
        "data": data if isinstance(data, Mapping) else {},
    }


def _place(document: Mapping[str, Any], namespace: str) -> tuple[str, str]:
    metadata = document.get("metadata") or {}
    return str(metadata.get("namespace") or namespace), str(metadata.get("name"))


def read_documents(file: Path) -> Iterator[Mapping[str, Any]]:
    """The objects of a YAML or JSON file (`-`: standard input), those in Lists included. Raises CliError."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise CliError(f"{file} is not YAML: {' '.join(str(error).split())}.") from None
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, Mapping):
            raise CliError(f"{file} holds something that is no Kubernetes object.")
        items = document.get("items")
        if str(document.get("kind")).endswith("List") and isinstance(items, list):
            yield from (item for item in items if isinstance(item, Mapping))
        else:
            yield document


async def _live(plans: Sequence[WorkspacePlan], location: str | None) -> list[WorkspacePlan]:
    from kaito.cli.azure import region
    from kaito.cli.quota.command import ask

    clock = LoopClock()
    async with region(location, clock) as azure:
        report = await ask(azure, (), clock)
    return [with_live(plan, report) for plan in plans]
