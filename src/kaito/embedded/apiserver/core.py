"""What every part of the server shares: the store, the registry of kinds and the clock."""

from __future__ import annotations

from typing import Final

from kaito.embedded.apiserver.served import Registry, Served
from kaito.embedded.apiserver.store import Key, Record, Store
from kaito.runtime.clock import Clock, rfc3339
from kaito.runtime.errors import Forbidden, NotFound

NAMESPACES: Final = "namespaces"
CRDS: Final = "customresourcedefinitions.apiextensions.k8s.io"


class Core:
    """Store, registry and clock, and the one place where objects go away."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.registry = Registry(store)

    def now(self) -> str:
        """The time of day as Kubernetes writes it."""
        return rfc3339(self.clock.wall())

    def remove(self, served: Served, key: Key) -> Record:
        """Removes a stored object for good and gives back what its kind reserved for it."""
        record = self.store.remove(served.collection, key)
        served.strategy.release(served.view(record))
        return record

    def admit_namespace(self, served: Served, namespace: str, name: str) -> None:
        """Whether an object may be created in a namespace.

        Raises:
            NotFound: there is no such namespace.
            Forbidden: it is being deleted.
        """
        record = self.store.collection(NAMESPACES).get(Key("", namespace))
        if record is None:
            raise NotFound(
                f'namespaces "{namespace}" not found', details={"name": namespace, "kind": NAMESPACES}
            )
        if record.metadata.get("deletionTimestamp"):
            resource = served.resource
            why = f"namespace {namespace} is being terminated"
            raise Forbidden(
                f'{resource.name} "{name}" is forbidden: unable to create new content in namespace {namespace} '
                "because it is being terminated",
                details={
                    "name": name,
                    "group": resource.group,
                    "kind": resource.plural,
                    "causes": [
                        {"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"}
                    ],
                },
            )
