"""CustomResourceDefinitions for tests, from wherever a project keeps them, and the wait until they are served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import NotFound, ServiceUnavailable
from kaito.runtime.resources import CRDS, Resource
from kaito.testing.backends.waiting import until

Manifest = dict[str, Any]


@runtime_checkable
class HasManifest(Protocol):
    """A `kaito.runtime.crd.CustomResource`, or anything else that can write its definition."""

    def manifest(self) -> Manifest: ...


Source = HasManifest | Mapping[str, Any] | Path | str
"""A CustomResource made from pydantic classes, a manifest, or the path of a YAML or JSON file or a folder of them."""


def manifests(source: Source, base: Path) -> list[Manifest]:
    """The definitions that a source holds; relative paths start at `base`.

    Raises:
        ValueError: there are none, or the source is something else.
    """
    if isinstance(source, Mapping):
        return _only_definitions([dict(source)], "the manifest given")
    if isinstance(source, str | Path):
        path = base / source
        if path.is_dir():
            files = sorted(each for each in path.rglob("*") if each.suffix in (".yaml", ".yml", ".json"))
            found = [
                definition for each in files for definition in _of_file(each) if _is_definition(definition)
            ]
            if not found:
                raise ValueError(
                    f"{path}: no CustomResourceDefinition in any *.yaml, *.yml or *.json below it"
                )
            return found
        return _only_definitions(_of_file(path), str(path))
    if isinstance(source, HasManifest):
        return [source.manifest()]
    raise ValueError(
        f"{source!r} is no source of CustomResourceDefinitions: give a kaito.runtime.crd.CustomResource, a manifest, "
        "or the path of a file or folder"
    )


def _of_file(path: Path) -> list[Any]:
    try:
        return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror}. Relative paths start at the folder of the test"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from None


def _is_definition(document: object) -> bool:
    return isinstance(document, dict) and document.get("kind") == "CustomResourceDefinition"


def _only_definitions(documents: list[Any], where: str) -> list[Manifest]:
    for document in documents:
        if not _is_definition(document):
            kind = document.get("kind") if isinstance(document, dict) else type(document).__name__
            raise ValueError(f"{where}: {kind} is no CustomResourceDefinition")
    if not documents:
        raise ValueError(f"{where}: it is empty")
    return documents


async def serve(client: Client, definitions: Iterable[Manifest], clock: Clock) -> None:
    """Apply the definitions and return once every served version answers.

    Raises:
        ApiError: the server does not take one.
        BackendError: it does not serve one in time.
    """
    wanted = list(definitions)
    for definition in wanted:
        await client.apply(CRDS, definition)
    for definition in wanted:
        name, spec = definition["metadata"]["name"], definition["spec"]
        await until(lambda name=name: _established(client, name), f"{name} was established", clock)  # type: ignore[misc]
        for version in spec["versions"]:
            if version.get("served"):
                resource = Resource(
                    spec["group"], version["name"], spec["names"]["plural"], spec["names"]["kind"]
                )
                await until(
                    lambda resource=resource: _answers(client, resource),  # type: ignore[misc]
                    f"{name} {version['name']} was served",
                    clock,
                )


async def _established(client: Client, name: str) -> bool:
    status = (await client.get(CRDS, name)).get("status") or {}
    return any(
        each["type"] == "Established" and each["status"] == "True" for each in status.get("conditions") or ()
    )


async def _answers(client: Client, resource: Resource) -> bool:
    try:
        await client.list(resource)
    except (NotFound, ServiceUnavailable):
        return False
    return True
