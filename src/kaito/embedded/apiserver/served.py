"""What is served: kinds by their address, and the collection each one is stored in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kaito.embedded.apiserver.store import Collection, Object, Record, Store
from kaito.embedded.apiserver.strategy import KindStrategy
from kaito.embedded.apiserver.tables.printer import Printer
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import Resource

GROUP_ORDER: Final = (
    "",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
)
"""Order of the groups in discovery, as kube-apiserver lists them; kubectl resolves short names in that order."""


class Served:
    """One kind at one version. Versions of one kind share a collection."""

    __slots__ = ("collection", "custom", "printer", "strategy")

    def __init__(self, strategy: KindStrategy, collection: Collection, *, custom: bool) -> None:
        self.printer: Printer | None = None
        self.strategy = strategy
        self.collection = collection
        self.custom = custom

    @property
    def resource(self) -> Resource:
        return self.strategy.resource

    def view(self, record: Record) -> Object:
        """The stored object as this version serves it: read-only."""
        return record.view(self.strategy)

    def encoded(self, record: Record) -> bytes:
        return record.encoded(self.strategy)


class Registry:
    """All served kinds. `generation` changes whenever a kind comes or goes, for caches of discovery documents."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._served: dict[tuple[str, str, str], Served] = {}
        self._storage: dict[str, Served] = {}
        self.generation = 0

    def add(self, strategy: KindStrategy, *, custom: bool = False) -> Served:
        """Serves a kind; replaces what was served under the same address."""
        resource = strategy.resource
        served = Served(strategy, self._store.collection(strategy.storage.name), custom=custom)
        self._served[resource.group, resource.version, resource.plural] = served
        if strategy.storage == resource:
            self._storage[resource.name] = served
        self.generation += 1
        return served

    def add_storage(self, strategy: KindStrategy) -> None:
        """Makes known how a custom kind is stored although that version is not served."""
        collection = self._store.collection(strategy.storage.name)
        self._storage[strategy.resource.name] = Served(strategy, collection, custom=True)

    def remove_kind(self, group: str, plural: str) -> None:
        """Stops serving every version of a kind."""
        for address in [key for key in self._served if key[0] == group and key[2] == plural]:
            del self._served[address]
        self._storage.pop(f"{plural}.{group}" if group else plural, None)
        self.generation += 1

    def remove(self, group: str, version: str, plural: str) -> None:
        if self._served.pop((group, version, plural), None) is not None:
            self.generation += 1

    def find(self, group: str, version: str, plural: str) -> Served | None:
        return self._served.get((group, version, plural))

    def is_builtin(self, group: str) -> bool:
        """Whether a group is the server's own: those of definitions know only the paths of what is defined."""
        return any(each.resource.group == group and not each.custom for each in self.all())

    def stored(self, collection: str) -> Served | None:
        """The storage version of the kind kept in a collection."""
        return self._storage.get(collection)

    def builtin(self, name: str) -> Served:
        """A kind this server cannot be without, by `plural` or `plural.group`."""
        served = self._storage.get(name)
        if served is None:
            raise NotFound(f"the server has no resource {name!r}")
        return served

    def by_kind(self, api_version: str, kind: str) -> Served | None:
        """The kind an ownerReference or a body names."""
        group, _, version = api_version.rpartition("/")
        for (served_group, served_version, _), served in self._served.items():
            if served_group == group and served_version == version and served.resource.kind == kind:
                return served
        return None

    def stored_kinds(self) -> Iterable[Served]:
        return list(self._storage.values())

    def all(self) -> Iterator[Served]:
        yield from self._served.values()

    def groups(self) -> dict[str, list[str]]:
        """Versions by group, in discovery order."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._served:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        rank = {name: index for index, name in enumerate(GROUP_ORDER)}
        ordered = sorted(found, key=lambda name: (rank.get(name, len(rank)), name))
        return {name: sorted(found[name], key=version_priority) for name in ordered}


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key that puts the best version first: v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > anything else."""
    rest = version[1:] if version.startswith("v") else ""
    for rank, stage in ((1, "beta"), (2, "alpha")):
        major, found, minor = rest.partition(stage)
        if found and major.isdigit() and minor.isdigit():
            return rank, -int(major), -int(minor), ""
    if rest.isdigit():
        return 0, -int(rest), 0, ""
    return 3, 0, 0, version
