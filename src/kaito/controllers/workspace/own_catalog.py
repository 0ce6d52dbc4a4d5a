"""The catalogue with what users added: ConfigMaps with the label `kaito.sh/catalog=true` in the operator's namespace.

Every key of such a ConfigMap is a catalogue file. One that cannot be read, or does not go with the rest, is told of by
an event, a metric and the log, and what it said when it was last right holds on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from kaito.catalog import Catalog, CatalogError
from kaito.catalog.additions import Addition, added, read_addition
from kaito.runtime.events import EventRecorder
from kaito.runtime.informer import Informer
from kaito.runtime.logs import get_logger
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import CONFIGMAPS

log = get_logger(__name__)

LABEL: Final = "kaito.sh/catalog"
SELECTOR: Final = f"{LABEL}=true"
REFUSED: Final = "CatalogRefused"
USED: Final = "CatalogUsed"


def follow(manager: Manager, base: Catalog, namespace: str) -> OwnCatalog:
    """The catalogue and what ConfigMaps of that namespace add to it, from when the manager's caches are there."""
    recorder = EventRecorder(manager.client, "catalog", manager.clock)
    manager.add(recorder)
    maps = manager.cache.informer(CONFIGMAPS, namespace=namespace, label_selector=SELECTOR)
    found = OwnCatalog(base, maps, recorder, manager.enqueue_all)
    manager.metrics.add(found)
    return found


class OwnCatalog:
    """A `CatalogSource`; `changed` is called when there is another catalogue."""

    def __init__(
        self, base: Catalog, maps: Informer, recorder: EventRecorder, changed: Callable[[], None]
    ) -> None:
        self._base = base
        self._maps = maps
        self._recorder = recorder
        self._changed = changed
        self._good: dict[str, tuple[Addition, ...]] = {}
        self._told: dict[str, str] = {}
        self._current = base
        maps.add_handler(self)

    @property
    def current(self) -> Catalog:
        """The catalogue of the moment."""
        return self._current

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self._look()

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self._look()

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self._look()

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        found = GaugeMetricFamily(
            "kaito_catalog_config_maps",
            "ConfigMaps with models and sizes of the user's own: used as they are, or refused as they are now.",
            labels=["state"],
        )
        found.add_metric(["used"], len(self._good.keys() - self._told.keys()))
        found.add_metric(["refused"], len(self._told))
        yield found

    def _look(self) -> None:
        """Reads all ConfigMaps anew; they are few, and change seldom."""
        found = sorted(self._maps.lister.list(), key=lambda each: each.meta.name)
        names = {each.meta.name for each in found}
        for gone in (self._good.keys() | self._told.keys()) - names:
            self._good.pop(gone, None)
            self._told.pop(gone, None)
        catalog = self._base
        for each in found:
            catalog = self._with(catalog, each)
        if catalog != self._current:
            self._current = catalog
            log.info("the catalogue has changed", presets=len(catalog.presets), sizes=len(catalog.skus))
            self._changed()

    def _with(self, catalog: Catalog, config_map: CachedObject) -> Catalog:
        name = config_map.meta.name
        try:
            new = tuple(_additions(config_map))
            wider = added(catalog, new)
        except CatalogError as error:
            self._tell(config_map, str(error))
            try:
                return added(catalog, self._good.get(name, ()))
            except CatalogError:
                return catalog  # what it said before no longer goes with the others
        self._good[name] = new
        if self._told.pop(name, None) is not None:
            self._recorder.event(config_map.decode(), "Normal", USED, "the catalogue has its entries now")
        return wider

    def _tell(self, config_map: CachedObject, why: str) -> None:
        name = config_map.meta.name
        if self._told.get(name) == why:
            return
        self._told[name] = why
        before = "what it said before holds on" if name in self._good else "none of its entries is used"
        self._recorder.event(config_map.decode(), "Warning", REFUSED, f"{why}; {before}")
        log.error("a ConfigMap with models or sizes is refused", name=name, why=why)


def _additions(config_map: CachedObject) -> Iterator[Addition]:
    data = config_map.decode().get("data") or {}
    for key, text in sorted(data.items()):
        yield read_addition(f"ConfigMap {config_map.meta.name}, {key}", str(text))
