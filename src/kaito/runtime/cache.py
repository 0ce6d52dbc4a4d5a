"""All informers of a process: each collection is followed once, whoever asks for it.

Two askers share an informer when they want the same objects in the same form; other selectors, namespaces or
transforms are other informers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from kaito.runtime.client import Client
from kaito.runtime.garbage import CollectorCare
from kaito.runtime.informer import Informer, Lister, Transform
from kaito.runtime.logs import current_reconcile, get_logger
from kaito.runtime.namespaces import NamespacesView
from kaito.runtime.reflector_states import ReflectorOptions
from kaito.runtime.resources import Resource
from kaito.runtime.selection import Selection

log = get_logger(__name__)

ErrorHook: TypeAlias = Callable[[Informer, Exception], None]


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """What the informers of a cache have in common."""

    reflector: ReflectorOptions = field(default_factory=ReflectorOptions)
    """How collections are fetched and followed."""
    keep_managed_fields: bool = False
    """Keep `metadata.managedFields` too, which is a fifth to a half of many objects and of use to nobody but the
    server; updates without them leave them as they are. Default off."""
    tend_collector: bool = True
    """While lists of 1,000 objects and more are received let Python's cyclic collector look less often, and take what
    they brought out of its sight (`gc.freeze`), which otherwise makes for pauses of the event loop. Default on."""
    on_error: ErrorHook | None = None
    """Called with the informer and the error at every failure to follow a collection, beside the log. Default: not."""


class InformerCache:
    """Informers by what they select, all read through one client (and so under one user agent)."""

    def __init__(
        self, client: Client, *, watch_list: bool = True, options: CacheOptions | None = None
    ) -> None:
        """`watch_list` (default on): ask for initial lists as streams, with LIST as the fallback.

        `options`: everything else; where they are given their own `reflector.watch_list` counts.
        """
        self._client = client
        self.options = options or CacheOptions(ReflectorOptions(watch_list=watch_list))
        self._collector = CollectorCare() if self.options.tend_collector else None
        self._bookmarked: set[Resource] = set()
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
        informer = self._make(selection, transform)
        self._informers.append(informer)
        if self._group is not None and current_reconcile.get() is not None:
            log.warning(
                "a reconcile asks for a cache that is not followed yet, and finds it empty: ask for informers and "
                "listers before the manager runs",
                selection=str(selection),
            )
        self._start(informer)
        return informer

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

    def namespaces(
        self,
        res: Resource,
        namespaces: Iterable[str],
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        transform: Transform | None = None,
    ) -> NamespacesView:
        """One informer for each of these namespaces, and the view over them.

        For clients that may not list in all namespaces. Raises ValueError without a namespace, and for resources
        that have none.
        """
        wanted = tuple(dict.fromkeys(namespaces))
        if not wanted or not all(wanted) or not res.namespaced:
            raise ValueError(f"{res}: name at least one namespace, of a resource that is in namespaces")
        return NamespacesView(
            {
                namespace: self.informer(
                    res,
                    namespace=namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    metadata_only=metadata_only,
                    transform=transform,
                )
                for namespace in wanted
            }
        )

    def remove(self, informer: Informer) -> None:
        """Stop an informer and forget it; whoever asks for the same objects later gets a new one.

        Harmless when repeated. Its handlers are called no more, and its lister goes stale.
        """
        if informer not in self._informers:
            return
        self._informers.remove(informer)
        informer.abandon()
        task = self._tasks.pop(informer, None)
        if task is not None:
            task.cancel()

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
        while waiting := [each for each in self._informers if not (each.has_synced or each.is_stopped)]:
            await waiting[0].wait_synced()

    def problems(self, limit: float) -> list[str]:
        """One sentence for each informer that is of no use at the moment, by resource.

        That is one that never had a complete list, or that could not follow its collection for more than `limit`
        seconds: what it holds is old. Empty: all is well.
        """
        found = []
        for informer in self._informers:
            name = str(informer.selection)
            error = f": {informer.last_error}" if informer.last_error else ""
            if not informer.has_synced:
                found.append(f"{name} has never been listed completely{error}")
            elif informer.failing_for > limit:
                found.append(f"{name} could not be followed for {informer.failing_for:.0f} s{error}")
        return found

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

    def _make(self, selection: Selection, transform: Transform | None) -> Informer:
        hook = self.options.on_error
        informer = Informer(
            self._client,
            selection,
            transform=transform,
            options=self.options.reflector,
            keep_managed_fields=self.options.keep_managed_fields,
            bookmarked=self._bookmarked,
            collector=self._collector,
            on_error=None if hook is None else lambda error: hook(informer, error),
        )
        return informer

    def _start(self, informer: Informer) -> None:
        if self._group is not None:
            name = f"informer {informer.resource}"
            self._tasks[informer] = self._group.create_task(informer.run(), name=name)
