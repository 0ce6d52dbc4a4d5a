"""What every pod worker needs, in one value; nothing here decides anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from kaito.embedded.kubelet.allocation import AddressPool, PortPool
from kaito.embedded.kubelet.images import ImageTable
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.events import EventRecorder, EventTypeName


@dataclass(slots=True)
class Deps:
    """`directory` is the kubelet's state directory; `proxy_url(namespace)` the http_proxy of a pod there."""

    client: Client
    clock: Clock
    recorder: EventRecorder
    images: ImageTable
    directory: Path
    session: aiohttp.ClientSession
    proxy_url: Callable[[str], str]
    allocatable: Callable[[str], Mapping[str, str]]
    parent_env: Mapping[str, str]
    proxy_https: bool = False
    addresses: AddressPool = field(default_factory=AddressPool)
    ports: PortPool = field(default_factory=PortPool)

    def event(self, pod: Mapping[str, Any], kind: EventTypeName, reason: str, message: str) -> None:
        """An event about a pod."""
        self.recorder.event({"apiVersion": "v1", "kind": "Pod", **pod}, kind, reason, message)

    def stand_in(self, pod: Mapping[str, Any]) -> str:
        """Name of the stand-in weights that the pod's images serve, or ""."""
        for container in (pod.get("spec") or {}).get("containers") or ():
            entry = self.images.find(str(container.get("image", "")))
            if entry is not None and entry.stand_in:
                return entry.stand_in
        return ""
