"""One request to a Kubernetes API, seen as the rules see it: who does which verb to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from kaito.runtime.transport import Request

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
"""How Go's strconv.ParseBool, and so every API server, reads a parameter; kubernetes_asyncio sends `watch=True`."""

_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request in Kubernetes' words.

    Attributes
        method: GET, POST, …
        path: as sent, without the query.
        query: its parameters; of a repeated one the last.
        user_agent: the User-Agent header, "" without one.
        verb: as in RBAC: get, list, watch, create, update, patch, delete, deletecollection; the method in lower case
            for paths that are no resources (`/healthz`, `/apis`).
        group: API group, "" for the core one and for paths that are no resources.
        resource: plural name, "" for paths that are no resources.
        subresource: "status", "scale", …, else "".
        namespace: "" for cluster-scoped resources and requests across all namespaces.
        name: "" for collections.
    """

    method: str
    path: str
    query: Mapping[str, str]
    user_agent: str
    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @classmethod
    def of(cls, request: Request) -> ApiCall:
        """What `request` is about."""
        query = dict(request.query)
        method, user_agent = request.method, request.header("User-Agent")
        segments = [segment for segment in request.path.split("/") if segment]
        if len(segments) >= 3 and segments[0] == "api":
            group, rest = "", segments[2:]
        elif len(segments) >= 4 and segments[0] == "apis":
            group, rest = segments[1], segments[3:]
        else:
            return cls(method, request.path, query, user_agent, method.lower())
        namespace = ""
        if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        name = rest[1] if len(rest) > 1 else ""
        verb = _verb(method, query, name)
        return cls(
            method,
            request.path,
            query,
            user_agent,
            verb,
            group,
            rest[0],
            "/".join(rest[2:]),
            namespace,
            name,
        )

    @property
    def is_watch(self) -> bool:
        return self.verb == "watch"

    def __str__(self) -> str:
        what = f"{self.verb} {self.resource or self.path}{'/' * bool(self.subresource)}{self.subresource}"
        where = "/".join(filter(None, (self.namespace, self.name)))
        return f"{what} {where} by {self.user_agent or 'nobody'}".replace("  ", " ")


def _verb(method: str, query: Mapping[str, str], name: str) -> str:
    if method in ("GET", "HEAD"):
        if query.get("watch") in _TRUE:
            return "watch"
        return "get" if name else "list"
    if method == "DELETE" and not name:
        return "deletecollection"
    return _WRITES.get(method, method.lower())


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests a rule is about. Every pattern must fit; None fits anything.

    A pattern is a glob (`*`, `?`, `[ab]`), or several of them joined by `|`: `verb="create|update|patch"`.
    """

    verb: str | None = None
    """RBAC verb: get, list, watch, create, update, patch, delete, deletecollection. Default: any."""

    resource: str | None = None
    """Plural name, with or without its group: `widgets` or `widgets.example.com`. Default: any, and none."""

    namespace: str | None = None
    """Namespace; "" for cluster-scoped resources and requests across all namespaces. Default: any."""

    name: str | None = None
    """Name of the object; "" for collections. Default: any."""

    subresource: str | None = None
    """`status`, `scale`, …; "" for the object itself. Default: any."""

    user_agent: str | None = None
    """User-Agent header, to tell several programs apart: `my-operator/*`. Default: any."""

    method: str | None = None
    """HTTP method. Default: any."""

    path: str | None = None
    """Path without the query, e.g. `/apis/*`. Default: any."""

    def fits(self, call: ApiCall) -> bool:
        """Whether the request is meant."""
        resource = call.resource
        if self.resource is not None and "." in self.resource:
            resource = f"{call.resource}.{call.group}"
        pairs = (
            (self.verb, call.verb),
            (self.resource, resource),
            (self.namespace, call.namespace),
            (self.name, call.name),
            (self.subresource, call.subresource),
            (self.user_agent, call.user_agent),
            (self.method, call.method),
            (self.path, call.path),
        )
        return all(pattern is None or _fits(pattern, value) for pattern, value in pairs)

    def __str__(self) -> str:
        told = [
            f"{field}={getattr(self, field)}" for field in self.__slots__ if getattr(self, field) is not None
        ]
        return " ".join(told) or "any request"


def _fits(pattern: str, value: str) -> bool:
    return any(fnmatchcase(value, alternative) for alternative in pattern.split("|"))
