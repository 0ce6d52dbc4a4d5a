"""Scenarios: requests as data.

A scenario is a list of steps that build on one another in a namespace of its own (`<ns>`). A step:

    do: POST <core>/configmaps?dryRun=All     method, path and query, sent as they stand
    body: {...}        sent as JSON; `yaml: |` and `raw: |` send text, `base64:` bytes, `file:` a file of the repository
    type: ...          Content-Type; by default the one that fits the body
    accept: ...        Accept; application/json by default
    keep: {rv: metadata.resourceVersion}      values of the answer that later steps name as `<rv>`
    until: 200         ask again until this status comes: for what another part of the server does in its own time
    watch: true        the answer is a stream of events
    open: w            start a watch that goes on beside the next steps; `collect: w` reads what came until it ends
    quiet: true        the answer is not compared (preparation)

`<core>`, `<apps>`, … are the paths of `PATHS`; `<ns>` is the scenario's namespace; other names are kept values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

CORPUS: Final = Path(__file__).parent / "corpus"
REPOSITORY: Final = Path(__file__).parents[2]
FOUND: Final = CORPUS / "found.yaml"
"""Where exploration writes the sequences that showed a new difference."""

PATHS: Final = {
    "core": "/api/v1/namespaces/<ns>",
    "apps": "/apis/apps/v1/namespaces/<ns>",
    "batch": "/apis/batch/v1/namespaces/<ns>",
    "policy": "/apis/policy/v1/namespaces/<ns>",
    "rbac": "/apis/rbac.authorization.k8s.io/v1/namespaces/<ns>",
    "leases": "/apis/coordination.k8s.io/v1/namespaces/<ns>/leases",
    "events": "/apis/events.k8s.io/v1/namespaces/<ns>/events",
    "crds": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "kaito": "/apis/kaito.sh/v1beta1/namespaces/<ns>",
    "things": "/apis/differential.example.com/v1/namespaces/<ns>/things",
    "table": "application/json;as=Table;v=v1;g=meta.k8s.io",
    "metadata": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "metadatalist": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "jsonpatch": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One request; the fields are those of the module's text."""

    do: str = ""
    body: Any = None
    yaml: str | None = None
    raw: str | None = None
    base64: str | None = None
    file: str | None = None
    type: str | None = None
    accept: str = "application/json"
    keep: Mapping[str, str] = field(default_factory=dict)
    until: int = 0
    watch: bool = False
    open: str = ""
    collect: str = ""
    quiet: bool = False

    @property
    def method(self) -> str:
        return self.do.partition(" ")[0]

    @property
    def target(self) -> str:
        return self.do.partition(" ")[2]

    def as_data(self) -> dict[str, Any]:
        """The step as it is written in a corpus file."""
        plain = Step()
        names = (
            "do",
            "type",
            "accept",
            "body",
            "yaml",
            "raw",
            "base64",
            "file",
            "keep",
            "until",
            "watch",
            "open",
        )
        every = (*names, "collect", "quiet")
        return {name: getattr(self, name) for name in every if getattr(self, name) != getattr(plain, name)}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Steps in order. `alone`: before all others, because it changes or reads what they share."""

    name: str
    steps: tuple[Step, ...]
    alone: bool = False

    @property
    def namespace(self) -> str:
        return f"diff-{self.name}"


def load(path: Path) -> list[Scenario]:
    """The scenarios of one corpus file.

    Raises:
        ValueError: a step has a key that means nothing; the text names file, scenario and key.
    """
    document = yaml.safe_load(path.read_text()) or {}
    names = set(Step.__dataclass_fields__)
    found = []
    for name, value in document.items():
        if name.startswith("."):  # a place for anchors
            continue
        steps = value["steps"] if isinstance(value, dict) else value
        for step in steps:
            if strange := step.keys() - names:
                raise ValueError(f"{path.name}: {name}: no step has {sorted(strange)}")
        alone = isinstance(value, dict) and bool(value.get("alone"))
        found.append(Scenario(name, tuple(Step(**step) for step in steps), alone))
    return found


def corpus() -> dict[str, list[Scenario]]:
    """Every corpus file's scenarios by the file's stem; names are unique over all files."""
    files = {path.stem: load(path) for path in sorted(CORPUS.glob("*.yaml"))}
    seen: set[str] = set()
    for scenarios in files.values():
        for scenario in scenarios:
            if scenario.name in seen:
                raise ValueError(f"two scenarios are named {scenario.name}")
            seen.add(scenario.name)
    return files


def fill(value: Any, known: Mapping[str, Any]) -> Any:
    """`value` with every `<name>` replaced; what is no known name stays."""
    if isinstance(value, str):
        for name in _names(value):
            if name in known:
                whole = value == f"<{name}>"
                value = known[name] if whole else value.replace(f"<{name}>", str(known[name]))
                if whole:
                    return value
        return value
    if isinstance(value, dict):
        return {fill(name, known): fill(each, known) for name, each in value.items()}
    if isinstance(value, list):
        return [fill(each, known) for each in value]
    return value


def _names(text: str) -> Iterator[str]:
    for part in text.split("<")[1:]:
        name, found, _ = part.partition(">")
        if found:
            yield name
