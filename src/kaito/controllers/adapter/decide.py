"""What to write into an Adapter's status. Pure.

Facts are read once for each generation of the spec and then kept. What could not be read is tried again now and then,
since the directory, or the operator's image map, may have been put right.

In a cluster the operator reads neither registries nor volumes. What is there is read by the pod that serves it, whose
init container pulls the image and whose server holds its shapes against the model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from kaito.api.adapter import (
    INVALID_IMAGE_REFERENCE,
    INVALID_SPEC,
    READ_BY_POD,
    READABLE,
    READY,
    UNREADABLE,
    Adapter,
)
from kaito.api.conditions import find_condition, set_condition
from kaito.api.images import InvalidImageReference, parse_image_reference
from kaito.api.parts import AdapterSource
from kaito.api.views import InvalidSpec
from kaito.controllers.adapter.facts import Facts

RETRY: Final = 60.0
"""Seconds between two tries of a source that could not be read."""
FACT_KEYS: Final = ("digest", "sizeBytes", "baseModel", "rank", "alpha", "targetModules", "dtype", "format")


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """image_map: image reference, word for word as in the Adapter, to a directory with an OCI image layout.

    host_paths: whether a hostPath is a path of this machine. True where operator and nodes share a file system (the
    local mode); in a cluster the operator cannot see the nodes' disks.
    """

    image_map: Mapping[str, Path]
    host_paths: bool = False


@dataclass(frozen=True, slots=True)
class ReadDirectory:
    """Read an adapter's directory."""

    path: Path


@dataclass(frozen=True, slots=True)
class ReadLayout:
    """Read an image layout."""

    path: Path
    tag: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there are no facts: reason and message of the condition."""

    reason: str
    message: str


Read = ReadDirectory | ReadLayout


@dataclass(frozen=True, slots=True)
class OfPod:
    """Only the pod that serves the adapter can read it: why, as the condition's message."""

    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """read: do this and decide again. Otherwise: the status as it should be; None: leave it alone."""

    read: Read | None = None
    status: dict[str, Any] | None = None
    requeue_after: float | None = None
    warning: Refusal | None = None


def decide(
    adapter: Mapping[str, Any],
    view: Adapter | InvalidSpec,
    outcome: Facts | Refusal | None,
    options: AdapterOptions,
    now: datetime,
) -> Decision:
    """The next step for one Adapter. outcome: what reading it in this pass brought."""
    metadata, status = adapter["metadata"], adapter.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return Decision()
    if isinstance(view, InvalidSpec):
        return _refused(adapter, Refusal(INVALID_SPEC, str(view)), now, "", retry=None)
    source = view.spec.source if view.spec is not None else None
    if source is None:  # an Adapter's own check excludes it
        return _refused(adapter, Refusal(INVALID_SPEC, "spec.source: is missing"), now, "", retry=None)
    ready = find_condition(status.get("conditions"), READY) or {}
    if ready.get("status") == "True" and ready.get("observedGeneration") == metadata.get("generation"):
        return Decision()
    if outcome is None:
        found = locate(source, options)
        if isinstance(found, OfPod):
            unknown = dict.fromkeys(FACT_KEYS)
            return _ready(adapter, describe(source), unknown, READ_BY_POD, found.message, now)
        if not isinstance(found, Refusal):
            return Decision(read=found)
        outcome = found
    if isinstance(outcome, Refusal):
        return _refused(adapter, outcome, now, describe(source), retry=RETRY)
    made_for = outcome.base_model or "a model it does not name"
    message = f"rank {outcome.rank}, {outcome.size_bytes} bytes, made for {made_for}"
    return _ready(adapter, describe(source), _facts(outcome), READABLE, message, now)


def _ready(
    adapter: Mapping[str, Any],
    source: str,
    facts: Mapping[str, Any],
    reason: str,
    message: str,
    now: datetime,
) -> Decision:
    conditions = set_condition(
        (adapter.get("status") or {}).get("conditions") or (),
        READY,
        "True",
        reason,
        message,
        generation=adapter["metadata"].get("generation"),
        now=now,
    )
    return Decision(status={**facts, "source": source, "conditions": conditions})


def locate(source: AdapterSource, options: AdapterOptions) -> Read | Refusal | OfPod:
    """Where to read the adapter from, or why that is not possible."""
    if source.image:
        return _image(source.image, options)
    volume = source.volume_source or {}
    if not options.host_paths:
        return OfPod(
            "spec.source.volumeSource is read by the pod that serves it: the operator does not see volumes, so its "
            "rank and base model are not known before"
        )
    path = (volume.get("hostPath") or {}).get("path") if isinstance(volume.get("hostPath"), dict) else None
    if not isinstance(path, str):
        kinds = ", ".join(sorted(volume)) or "nothing"
        return Refusal(
            UNREADABLE,
            f"spec.source.volumeSource is {kinds}; only hostPath can be read, or write spec.source.image",
        )
    return ReadDirectory(Path(path))


def _image(text: str, options: AdapterOptions) -> Read | Refusal | OfPod:
    mapped = options.image_map.get(text)
    try:
        reference = parse_image_reference(text)
    except InvalidImageReference as error:
        if mapped is not None:
            return ReadLayout(mapped, None)
        return Refusal(INVALID_IMAGE_REFERENCE, f"spec.source.image {error}")
    if mapped is None and not options.host_paths:
        return OfPod(
            "spec.source.image is pulled and read by the pod that serves it, so its rank and base model are not known "
            "before"
        )
    if mapped is None:
        return Refusal(
            UNREADABLE,
            f'spec.source.image "{text}": on one machine images are not pulled from registries; start with '
            f"`--image {text}=oci:DIRECTORY` (an OCI image layout on this machine), or write "
            "spec.source.volumeSource.hostPath",
        )
    return ReadLayout(mapped, reference.tag)


def describe(source: AdapterSource) -> str:
    """The source in one line, for the column SOURCE."""
    if source.image:
        return source.image
    volume = source.volume_source or {}
    host = volume.get("hostPath")
    if isinstance(host, dict) and isinstance(host.get("path"), str):
        return f"hostPath:{host['path']}"
    return ",".join(sorted(volume))


def _facts(facts: Facts) -> dict[str, Any]:
    return {
        "digest": facts.digest,
        "sizeBytes": facts.size_bytes,
        "baseModel": facts.base_model,
        "rank": facts.rank,
        "alpha": facts.alpha,
        "targetModules": list(facts.target_modules),
        "dtype": facts.dtype,
        "format": facts.format,
    }


def _refused(
    adapter: Mapping[str, Any], refusal: Refusal, now: datetime, source: str, *, retry: float | None
) -> Decision:
    """No facts; those of an earlier source go, because they would be believed."""
    status = adapter.get("status") or {}
    before = find_condition(status.get("conditions"), READY) or {}
    conditions = set_condition(
        status.get("conditions") or (),
        READY,
        "False",
        refusal.reason,
        refusal.message,
        generation=adapter["metadata"].get("generation"),
        now=now,
    )
    told = (before.get("reason"), before.get("message")) == (refusal.reason, refusal.message)
    return Decision(
        status={**dict.fromkeys(FACT_KEYS), "source": source or None, "conditions": conditions},
        requeue_after=retry,
        warning=None if told else refusal,
    )
