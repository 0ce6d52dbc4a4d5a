"""What a Workspace wants of its preset: runtime, nodes, requests at once, adapters; and what was chosen before."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from kaito.api.labels import (
    BYPASS_RESOURCE_CHECKS_ANNOTATION,
    CONCURRENCY_ANNOTATION,
    RUNTIME_ANNOTATION,
)
from kaito.catalog import Preset
from kaito.catalog.models import Runtime
from kaito.controllers.workspace.decide.mounted import mounted
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import (
    Choice,
    counts_adapters,
    has_choice,
    key_of,
    read_choice,
    read_former,
    with_settings,
)
from kaito.controllers.workspace.decide.serving import Serving, Terms
from kaito.controllers.workspace.decide.settings import settings_of
from kaito.controllers.workspace.model import Object, annotations_of, conditions, metadata

Settings = Mapping[str, Mapping[str, Any]]
"""What `settings.settings_in` found in the ConfigMap of `inference.config`."""
NO_ADAPTERS: Final[Mapping[str, Object]] = MappingProxyType({})
MOST_AT_ONCE: Final = 1024
"""Requests at once that a Workspace may ask memory for: what vLLM takes into a step on the largest GPUs unless it is
told otherwise (--max-num-seqs)."""
AT_ONCE: Final = (
    f"write how many requests have the whole context at once, a whole number from 1 to {MOST_AT_ONCE:,}"
)
SHOWN: Final = 40
"""Characters of what is no number that a message shows."""


def runtime_wanted(workspace: Object) -> Runtime | None:
    """The runtime that the Workspace's annotation names; None where it names none, or what is no runtime."""
    text = annotations_of(workspace).get(RUNTIME_ANNOTATION, "").strip().lower()
    match text:
        case "vllm":
            return "vllm"
        case "transformers":
            return "transformers"
        case _:
            return None


def concurrency_of(workspace: Object) -> int | None:
    """Requests at once that memory is wanted for: 1 where nothing is said; None for what is no such number."""
    text = annotations_of(workspace).get(CONCURRENCY_ANNOTATION)
    if text is None:
        return 1
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_AT_ONCE)) else 0
    return number if 1 <= number <= MOST_AT_ONCE else None


def not_at_once(workspace: Object) -> Problem | None:
    """That the annotation for concurrency holds no number of requests."""
    if concurrency_of(workspace) is not None:
        return None
    said = annotations_of(workspace)[CONCURRENCY_ANNOTATION][:SHOWN]
    return Problem.at(
        f"metadata.annotations[{CONCURRENCY_ANNOTATION}]", "InvalidSpec", f"{AT_ONCE}, not {said!r}"
    )


def serving_of(
    workspace: Object,
    preset: Preset,
    settings: Settings | None,
    adapters: Mapping[str, Object] = NO_ADAPTERS,
) -> Serving:
    """What the Workspace wants of the preset, wherever it is served."""
    wanted = runtime_wanted(workspace) or _mounting(workspace, preset)
    resource = workspace.get("resource") or {}
    first = wanted or preset.runtime
    found = mounted(workspace, adapters)
    terms = Terms(
        resource.get("count"),
        wanted,
        bypasses(workspace),
        settings_of(settings or {}, first),
        tuple((each, settings_of(settings or {}, each)) for each in preset.runtimes if each != first),
        concurrency_of(workspace) or 1,
        found.ranks,
        found.assumed,
    )
    spec = key_of(
        {
            "preset": preset.name,
            "count": terms.count,
            "runtime": terms.runtime,
            "bypass": terms.bypass,
            "settings": {},
        }
    )
    key = with_settings(spec, _beside(workspace, terms, settings or {}))
    former = read_former(workspace, spec)
    if settings is None and (workspace.get("inference") or {}).get("config"):
        return Serving(preset, terms, "", read_choice(workspace, None), former, _unwritten(workspace))
    stored = read_choice(workspace, key) or _uncounted(workspace, with_settings(spec, settings or {}), terms)
    if not found.read:  # the choice that holds is kept until it is known what another follows from
        kept = stored or former or read_choice(workspace, None)
        return Serving(preset, terms, "", kept, former, _unwritten(workspace))
    return Serving(preset, terms, key, stored, former, _unwritten(workspace))


def _beside(workspace: Object, terms: Terms, settings: Settings) -> Mapping[str, Any]:
    """What a choice follows from beside the spec's own fields: it cuts the model anew and buys no other size."""
    said: dict[str, Any] = dict(settings)
    if terms.sequences > 1:
        said["concurrency"] = terms.sequences
    if adapters := (workspace.get("inference") or {}).get("adapters"):
        said["adapters"] = [[each.get("source"), each.get("adapterRef")] for each in adapters]
    return said


def _uncounted(workspace: Object, key: str, terms: Terms) -> Choice | None:
    """The choice of a version that counted no room for adapters, where the spec has not changed since: what runs is not
    cut anew, nor does it get other nodes, because another version counts otherwise."""
    if not terms.ranks or terms.sequences > 1 or counts_adapters(workspace) or _changed(workspace):
        return None
    return read_choice(workspace, key)


def _changed(workspace: Object) -> bool:
    """Whether the spec is another than the one that the status was written for."""
    seen = max((int(each.get("observedGeneration") or 0) for each in conditions(workspace)), default=0)
    return seen < int(metadata(workspace).get("generation") or 0)


def _unwritten(workspace: Object) -> tuple[str, int] | None:
    """Machine size and nodes of a Workspace that was served by a version that wrote no choices down, and whose spec has
    not changed since."""
    if _changed(workspace):
        return None
    status = workspace.get("status") or {}
    nodes, name = status.get("targetNodeCount"), status.get("instanceType")
    if status.get("state") not in ("Ready", "NotReady") or not isinstance(nodes, int) or not name:
        return None
    return (str(name), nodes) if nodes > 0 and not has_choice(workspace) else None


def _mounting(workspace: Object, preset: Preset) -> Runtime | None:
    """The runtime that mounts the Workspace's adapters, where vLLM cannot."""
    if preset.vllm.lora or not (workspace.get("inference") or {}).get("adapters"):
        return None
    return next((each for each in preset.runtimes if each != "vllm"), None)


def bypasses(workspace: Object) -> bool:
    return BYPASS_RESOURCE_CHECKS_ANNOTATION in annotations_of(workspace)
