"""What a client tells of each of its successful writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaito.runtime.resources import ObjectKey, Resource


@dataclass(frozen=True, slots=True)
class Write:
    """One successful write, as the server answered it."""

    resource: Resource
    key: ObjectKey
    uid: str
    resource_version: str
    """The version that the write made; "" where the answer did not tell."""
    deleted: bool
    """The object was asked to be deleted."""
    labels: Mapping[str, str]
