"""What an API server serves: resources by kind or by the name that people type.

Controllers write their `Resource` constants down; this is for programs that learn at run time what they deal
with: a garbage collector, a tool that takes `deploy/web`, an operator for whatever kind its users name. The
list is fetched at first use and again when something is not in it, because CRDs come and go: two requests with
aggregated discovery (Kubernetes 1.27 and later), one per group and version with older servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError, NotFound, TransportError
from kaito.runtime.resources import Resource

_AGGREGATED = ",".join(
    (
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        "application/json",
    )
)
Object = dict[str, Any]


class NoMatch(Exception):
    """The server does not serve what was asked for; the message says what comes near."""


@dataclass(frozen=True, slots=True)
class ServedResource:
    """One resource as the server describes it.

    `subresources` maps names such as `status` and `scale` to their verbs.
    """

    resource: Resource
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    subresources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def answers_to(self, name: str) -> bool:
        """Whether people mean this resource by `name`, without a group: plural, singular, short name or kind."""
        lower = name.lower()
        return lower in (self.resource.plural, self.singular, self.resource.kind.lower(), *self.short_names)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Everything served, in the server's order of preference; `failures` by group/version."""

    served: tuple[ServedResource, ...]
    failures: Mapping[str, str]


class Discovery:
    """Looks up resources of one API server. Cheap to make; remembers what it has learnt."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._snapshot: _Snapshot | None = None
        self._lock = asyncio.Lock()

    async def all(self) -> Sequence[ServedResource]:
        """Every resource in every version, preferred groups and versions first."""
        return (self._snapshot or await self._reload(None)).served

    async def failures(self) -> Mapping[str, str]:
        """Group versions whose aggregated server could not be asked when the list was fetched, and why."""
        return (self._snapshot or await self._reload(None)).failures

    async def refresh(self) -> None:
        """Fetches the list anew, whatever is remembered."""
        await self._reload(self._snapshot)

    async def by_kind(
        self, kind: str, api_version: str | None = None, *, group: str | None = None
    ) -> Resource:
        """The resource whose objects have this kind.

        `api_version` is what stands in the object (`apps/v1`); with `group` alone, or neither, the server's
        preferred version is taken. Raises NoMatch.
        """

        def fits(served: ServedResource) -> bool:
            res = served.resource
            return (
                res.kind == kind
                and (api_version is None or res.api_version == api_version)
                and (group is None or res.group == group)
            )

        wanted = api_version or group
        return (await self._first(fits, kind, wanted, lambda served: served.resource.kind)).resource

    async def by_name(self, name: str) -> ServedResource:
        """What kubectl understands: `deploy`, `Deployment`, `deployments.apps`, `deployments.v1.apps`.

        Raises NoMatch.
        """
        plain, _, rest = name.partition(".")
        version, _, group = rest.partition(".")

        def fits(served: ServedResource) -> bool:
            res = served.resource
            return served.answers_to(plain) and (
                not rest or rest == res.group or (res.version, res.group) == (version, group)
            )

        return await self._first(fits, plain, rest or None, lambda served: served.resource.plural)

    async def serves(self, res: Resource) -> bool:
        """Whether this resource is served now; asks again where it was not."""
        try:
            await self._first(lambda served: served.resource == res, res.kind, None, str)
        except NoMatch:
            return False
        return True

    async def server_version(self) -> Object:
        """The server's `/version`: gitVersion, major, minor, platform."""
        return await self._client.json("GET", "/version")

    async def _first(
        self,
        fits: Callable[[ServedResource], bool],
        wanted: str,
        where: str | None,
        name_of: Callable[[ServedResource], str],
    ) -> ServedResource:
        known = self._snapshot
        found = next(filter(fits, known.served), None) if known is not None else None
        if found is None:
            snapshot = await self._reload(known)
            found = next(filter(fits, snapshot.served), None)
            if found is None:
                raise NoMatch(_explain(snapshot, wanted, where, name_of))
        return found

    async def _reload(self, older: _Snapshot | None) -> _Snapshot:
        """Fetches unless somebody else has while we waited: one fetch for all who found nothing in `older`."""
        async with self._lock:
            if self._snapshot is None or self._snapshot is older:
                self._snapshot = await self._fetch()
            return self._snapshot

    async def _fetch(self) -> _Snapshot:
        failures: dict[str, str] = {}
        served: list[ServedResource] = []
        for path, legacy in (("/api", _core_versions), ("/apis", _group_versions)):
            answer = await self._client.json("GET", path, accept=_AGGREGATED)
            if answer.get("kind") == "APIGroupDiscoveryList":
                served += _aggregated(answer, failures)
            else:
                served += await self._one_by_one(legacy(answer), failures)
        # A server that is down for a while still serves what it did: requests to it fail, names do not.
        found = {each.resource for each in served}
        for old in self._snapshot.served if self._snapshot is not None else ():
            if old.resource.api_version in failures and old.resource not in found:
                served.append(old)
        return _Snapshot(tuple(served), failures)

    async def _one_by_one(
        self, group_versions: list[tuple[str, str]], failures: dict[str, str]
    ) -> list[ServedResource]:
        answers = await asyncio.gather(*(self._resources_of(*pair, failures) for pair in group_versions))
        return [served for answer in answers for served in answer]

    async def _resources_of(self, group: str, version: str, failures: dict[str, str]) -> list[ServedResource]:
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        try:
            answer = await self._client.json("GET", path)
        except NotFound:
            return []  # gone since the list of groups was made
        except (ApiError, TransportError) as error:
            failures[f"{group}/{version}" if group else version] = str(error)
            return []
        return _legacy(group, version, answer)


def _core_versions(answer: Object) -> list[tuple[str, str]]:
    return [("", str(version)) for version in answer.get("versions") or ()]


def _group_versions(answer: Object) -> list[tuple[str, str]]:
    pairs = []
    for group in answer.get("groups") or ():
        preferred = (group.get("preferredVersion") or {}).get("version")
        versions = [str(each["version"]) for each in group.get("versions") or ()]
        first = [version for version in versions if version == preferred]
        others = [version for version in versions if version != preferred]
        pairs += [(str(group["name"]), version) for version in first + others]
    return pairs


def _explain(
    snapshot: _Snapshot, wanted: str, where: str | None, name_of: Callable[[ServedResource], str]
) -> str:
    place = f" in {where}" if where else ""
    for group_version, failure in snapshot.failures.items():
        if where is None or group_version.startswith(where):
            place += f" ({group_version} could not be asked: {failure})"
    near = get_close_matches(wanted, sorted({name_of(served) for served in snapshot.served}), n=3)
    elsewhere = sorted(
        {served.resource.api_version for served in snapshot.served if served.resource.kind == wanted}
    )
    hint = f"; it is in {', '.join(elsewhere)}" if elsewhere else ""
    hint = hint or (f"; near it: {', '.join(near)}" if near else "")
    return f"the server has no {wanted!r}{place}{hint}"


def _aggregated(answer: Object, failures: dict[str, str]) -> list[ServedResource]:
    found = []
    for item in answer.get("items") or ():
        group = str((item.get("metadata") or {}).get("name") or "")
        for entry in item.get("versions") or ():
            version = str(entry["version"])
            if entry.get("freshness") == "Stale":
                failures[f"{group}/{version}" if group else version] = "its server does not answer"
            found += [_from_v2(group, version, each) for each in entry.get("resources") or ()]
    return [served for served in found if served is not None]


def _from_v2(group: str, version: str, entry: Object) -> ServedResource | None:
    kind = (entry.get("responseKind") or {}).get("kind")
    if not kind:
        return None  # a parent that exists for its subresources only
    subresources = {
        str(each["subresource"]): tuple(each.get("verbs") or ()) for each in entry.get("subresources") or ()
    }
    return ServedResource(
        Resource(group, version, str(entry["resource"]), str(kind), entry.get("scope") == "Namespaced"),
        singular=str(entry.get("singularResource") or ""),
        short_names=tuple(entry.get("shortNames") or ()),
        categories=tuple(entry.get("categories") or ()),
        verbs=tuple(entry.get("verbs") or ()),
        subresources=subresources,
    )


def _legacy(group: str, version: str, answer: Object) -> list[ServedResource]:
    entries = answer.get("resources") or ()
    subresources: dict[str, dict[str, tuple[str, ...]]] = {}
    for entry in entries:
        plural, slash, subresource = str(entry["name"]).partition("/")
        if slash:
            subresources.setdefault(plural, {})[subresource] = tuple(entry.get("verbs") or ())
    return [
        ServedResource(
            Resource(group, version, str(entry["name"]), str(entry["kind"]), bool(entry.get("namespaced"))),
            singular=str(entry.get("singularName") or ""),
            short_names=tuple(entry.get("shortNames") or ()),
            categories=tuple(entry.get("categories") or ()),
            verbs=tuple(entry.get("verbs") or ()),
            subresources=subresources.get(str(entry["name"]), {}),
        )
        for entry in entries
        if "/" not in str(entry["name"])
    ]
