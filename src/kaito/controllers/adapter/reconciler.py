"""The adapter reconciler: decide, read files off the event loop if need be, write the status once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kaito.api.adapter import UNREADABLE, Adapter
from kaito.api.resources import ADAPTERS
from kaito.api.views import view
from kaito.controllers.adapter.decide import AdapterOptions, Decision, Read, ReadDirectory, Refusal, decide
from kaito.controllers.adapter.directory import read_directory
from kaito.controllers.adapter.facts import Facts, Unreadable
from kaito.controllers.adapter.metrics import AdapterMetrics
from kaito.controllers.adapter.oci import read_layout
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import Conflict, NotFound
from kaito.runtime.events import EventRecorder
from kaito.runtime.informer import Informer
from kaito.runtime.resources import ObjectKey
from kaito.runtime.result import Result


class AdapterReconciler:
    """Reconciles Adapters."""

    def __init__(
        self,
        client: Client,
        recorder: EventRecorder,
        clock: Clock,
        adapters: Informer,
        options: AdapterOptions,
        metrics: AdapterMetrics,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._adapters = adapters
        self._options = options
        self._metrics = metrics

    async def reconcile(self, key: ObjectKey) -> Result | None:
        """One pass over one Adapter."""
        cached = self._adapters.lister.get(key.name, key.namespace)
        if cached is None:
            self._metrics.gone(key)
            return None
        adapter, model = cached.decode(), view(Adapter, cached)
        decision = decide(adapter, model, None, self._options, self._clock.wall())
        if decision.read is not None:
            outcome = await self._read(decision.read)
            decision = decide(adapter, model, outcome, self._options, self._clock.wall())
        try:
            await self._write(adapter, decision)
            status = adapter.get("status") or {} if decision.status is None else decision.status
            self._metrics.saw(key, adapter["metadata"], status)
        except NotFound:
            return None
        except Conflict:
            return Result(requeue_after=0)
        return None if decision.requeue_after is None else Result(requeue_after=decision.requeue_after)

    async def _read(self, read: Read) -> Facts | Refusal:
        started = self._clock.now()
        outcome = await _outcome(read)
        source = "directory" if isinstance(read, ReadDirectory) else "image"
        took = self._clock.now() - started
        self._metrics.has_read(source, took, readable=isinstance(outcome, Facts))
        return outcome

    async def _write(self, adapter: Mapping[str, Any], decision: Decision) -> None:
        before = adapter.get("status") or {}
        changed = {key: value for key, value in (decision.status or {}).items() if before.get(key) != value}
        if not changed:
            return
        metadata = adapter["metadata"]
        await self._client.patch_status(
            ADAPTERS,
            metadata["name"],
            metadata["namespace"],
            changed,
            resource_version=metadata["resourceVersion"],
        )
        if decision.warning is not None:
            self._recorder.event(adapter, "Warning", decision.warning.reason, decision.warning.message)


async def _outcome(read: Read) -> Facts | Refusal:
    try:
        if isinstance(read, ReadDirectory):
            return await asyncio.to_thread(read_directory, read.path)
        return await asyncio.to_thread(read_layout, read.path, read.tag)
    except Unreadable as error:
        return Refusal(UNREADABLE, str(error))
