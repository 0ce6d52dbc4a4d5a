"""All informers of a process: each collection is followed once, whoever asks for it.

Two askers share an informer when they want the same objects in the same form; other selectors, namespaces or
transforms are other informers.
"""

from __future__ import annotations

import asyncio

from kaito.runtime.client import Client
from kaito.runtime.informer import Informer, Lister, Transform
from kaito.runtime.reflector import Selection
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import Resource


class InformerCache:
    """Informers by what they select, all read through one client (and so under one user agent).

    `watch_list` (default on): ask for initial lists as streams, with LIST as the fallback.
    """

    def __init__(self, client: Client, *, watch_list: bool = True) -> None:
        self._client = client
        self._options = ReflectorOptions(watch_list=watch_list)
        self._informers: list[Informer] = []
        self._tasks: dict[Informer, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def informer(
        self,
        res: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        transform: Transform | None = None,
    ) -> Informer:
        """The informer for these objects, made on first call; it starts at once if the cache is running."""
        selection = Selection(
            res,
            (namespace or None) if res.namespaced else None,
            label_selector,
            field_selector,
            metadata_only,
        )
        for informer in self._informers:
            if informer.selection == selection and informer.transform is transform:
                return informer
        informer = Informer(self._client, selection, transform=transform, options=self._options)
        self._informers.append(informer)
        self._start(informer)
        return informer

    def remove(self, informer: Informer) -> None:
        """Stop an informer and forget it; whoever asks for the same objects later gets a new one.

        Harmless when repeated. Its handlers are called no more, and its lister goes stale.
        """
        if informer in self._informers:
            self._informers.remove(informer)
        task = self._tasks.pop(informer, None)
        if task is not None:
            task.cancel()

    def lister(
        self,
        res: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        transform: Transform | None = None,
    ) -> Lister:
        """The lister of `informer` with the same arguments."""
        return self.informer(
            res,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            metadata_only=metadata_only,
            transform=transform,
        ).lister

    @property
    def informers(self) -> tuple[Informer, ...]:
        """All informers made so far."""
        return tuple(self._informers)

    @property
    def has_synced(self) -> bool:
        """Whether every informer made so far has synced."""
        return all(informer.has_synced for informer in self._informers)

    async def wait_synced(self) -> None:
        """Wait for `has_synced`, including informers that are made meanwhile."""
        while not self.has_synced:
            for informer in self.informers:
                await informer.wait_synced()

    async def run(self) -> None:
        """Run all informers, also those made later, until cancelled. RuntimeError when already running."""
        if self._group is not None:
            raise RuntimeError("the cache is already running")
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for informer in self.informers:
                    self._start(informer)
                await asyncio.Event().wait()  # a cache without informers runs as well
        finally:
            self._group = None
            self._tasks.clear()

    def _start(self, informer: Informer) -> None:
        if self._group is not None:
            name = f"informer {informer.resource}"
            self._tasks[informer] = self._group.create_task(informer.run(), name=name)
