"""CustomResourceDefinitions come to life: names accepted, Established, served in the same turn of the loop.

A definition that is being deleted first loses all its objects (by their finalizers' leave), then its kind.
"""

from __future__ import annotations

import asyncio

from kaito.embedded.apiserver.core import CRDS, Core
from kaito.embedded.apiserver.deletion import CRD_CLEANUP, Deleter
from kaito.embedded.apiserver.kinds.crd import crd_status, crd_strategy
from kaito.embedded.apiserver.store import DELETED, Collection, Event, Key, Object, Record


def _established(crd: Object) -> bool:
    return any(
        each.get("type") == "Established" and each.get("status") == "True"
        for each in (crd.get("status") or {}).get("conditions") or []
    )


class Definitions:
    """Keeps the registry in step with the stored CustomResourceDefinitions."""

    def __init__(self, core: Core, deleter: Deleter) -> None:
        self._core = core
        self._deleter = deleter
        self._served: dict[str, int] = {}
        """Generation of each definition as it is served, by name."""
        self._ending: set[str] = set()
        core.store.on_commit(self._committed)

    def _committed(self, collection: Collection, event: Event) -> None:
        if collection.name == CRDS:
            if event.type == DELETED:
                self._withdraw(event.record)
            elif event.record is collection.get(event.record.key):
                self._settle(collection, event.record)
        elif event.type == DELETED and collection.name in self._ending and not collection.records:
            self._finish(collection.name)

    def _settle(self, collection: Collection, record: Record) -> None:
        crd = record.obj
        name = record.key.name
        others = [each.obj for each in collection.records.values() if each.key != record.key]
        status = crd_status(crd, others, self._core.now())
        if record.metadata.get("deletionTimestamp") and name not in self._ending:
            self._ending.add(name)
            asyncio.get_running_loop().call_soon(self._empty, name)
        if status != crd.get("status"):
            record = self._core.store.put(collection, record.key, {**crd, "status": status})
        if _established(record.obj) and self._served.get(name) != record.metadata.get("generation"):
            self._serve(record)

    def _serve(self, record: Record) -> None:
        crd = record.obj
        spec = crd["spec"]
        group, plural = spec["group"], spec["names"]["plural"]
        if record.key.name in self._served:
            # Who watches sees objects as the old definition has them; the new watch will see the new form.
            self._core.store.collection(record.key.name).end_watches()
        self._served[record.key.name] = record.metadata.get("generation") or 0
        registry = self._core.registry
        for version in spec["versions"]:
            if version.get("served"):
                registry.add(crd_strategy(crd, version["name"]), custom=True)
            elif version.get("storage"):
                registry.add_storage(crd_strategy(crd, version["name"]))
                registry.remove(group, version["name"], plural)
            else:
                registry.remove(group, version["name"], plural)
        kept = {version["name"] for version in spec["versions"]}
        for served in list(registry.all()):
            resource = served.resource
            if (resource.group, resource.plural) == (group, plural) and resource.version not in kept:
                registry.remove(group, resource.version, plural)

    def _empty(self, name: str) -> None:
        """Deletes every object of a kind whose definition is being deleted."""
        served = self._core.registry.stored(name)
        if served is not None:
            for record in list(served.collection.select(None)):
                if not record.metadata.get("deletionTimestamp"):
                    self._deleter.begin(served, record, "Background")
            if served.collection.records:
                return
        self._finish(name)

    def _finish(self, name: str) -> None:
        definitions = self._core.registry.stored(CRDS)
        record = None if definitions is None else definitions.collection.get(Key("", name))
        if definitions is not None and record is not None and record.metadata.get("deletionTimestamp"):
            self._deleter.drop_finalizer(definitions, record, CRD_CLEANUP)

    def _withdraw(self, record: Record) -> None:
        spec = record.obj["spec"]
        self._ending.discard(record.key.name)
        if self._served.pop(record.key.name, None) is not None:
            self._core.registry.remove_kind(spec["group"], spec["names"]["plural"])
            self._core.store.collection(record.key.name).end_watches()
