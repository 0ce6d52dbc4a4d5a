"""A tiny API server for unit tests of controllers: keeps objects, counts versions, streams watches.

It knows no kind: any path under /api or /apis works, nothing is defaulted or validated, and strategic patches
are merge patches. It is here so that tests of the runtime's upper half depend on nothing above it; tests of
semantics use the embedded API server.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from copy import deepcopy
from typing import Any
from urllib.parse import unquote

import orjson

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, rfc3339
from kaito.runtime.errors import AlreadyExists, ApiError, BadRequest, Conflict, NotFound, UnsupportedMediaType
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import Resource
from kaito.runtime.selectors import parse_field_selector, parse_label_selector
from kaito.runtime.transport import BufferedResponse, Request, Response, StreamedResponse

Tree = dict[str, Any]
Hook = Callable[[Request], Awaitable[None] | None]

_MERGING = ("application/merge-patch", "application/strategic-merge-patch", "application/apply-patch")
_PATH = re.compile(
    r"(?P<base>/api/v1|/apis/[^/]+/[^/]+)(/namespaces/(?P<ns>[^/]+)(?=/.))?/(?P<plural>[^/]+)"
    r"(/(?P<name>[^/]+))?(/(?P<sub>[^/]+))?"
)


class FakeApi:
    """`client()` talks to it. `requests` remembers every request that is neither a list nor a watch."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.version = 100
        self.objects: dict[tuple[str, str, str], Tree] = {}  # (base/plural, namespace, name)
        self.requests: list[tuple[str, str, str]] = []  # (method, path, user agent)
        self.before: Hook | None = None
        self._watches: list[Callable[[str, Tree | None, Tree, bool], None]] = []

    def client(self, user_agent: str = "test") -> Client:
        return Client(MemoryTransport(self.handle, clock=self.clock), clock=self.clock, user_agent=user_agent)

    def writes(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.requests if method != "GET"]

    def get(self, resource: Resource, name: str, namespace: str = "") -> Tree | None:
        return self.objects.get((resource.path(), namespace if resource.namespaced else "", name))

    def all(self, resource: Resource) -> list[Tree]:
        return [tree for (base, _, _), tree in self.objects.items() if base == resource.path()]

    def put(self, resource: Resource, tree: Tree) -> Tree:
        """Creates or replaces an object from outside, as kubectl would."""
        tree = {"apiVersion": resource.api_version, "kind": resource.kind, **deepcopy(tree)}
        meta = tree.setdefault("metadata", {})
        key = (resource.path(), meta.get("namespace", "") if resource.namespaced else "", meta["name"])
        old = self.objects.get(key)
        return self._store(key, tree, old) if old else self._create(key, tree)

    def remove(self, resource: Resource, name: str, namespace: str = "") -> None:
        self._drop((resource.path(), namespace if resource.namespaced else "", name))

    async def handle(self, request: Request) -> Response:
        try:
            if self.before is not None and (pending := self.before(request)) is not None:
                await pending
            return self._route(request)
        except ApiError as error:
            return _json(error.to_status(), error.status)

    def _route(self, request: Request) -> Response:
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise NotFound(f"no such path {request.path}")
        base, namespace = f"{match['base']}/{match['plural']}", match["ns"] or ""
        name, sub = unquote(match["name"] or ""), match["sub"] or ""
        query = dict(request.query)
        body = orjson.loads(request.body) if request.body else {}
        if request.method == "GET" and not name:
            return self._list(base, namespace, query)
        self.requests.append((request.method, request.path, request.header("User-Agent")))
        key = (base, namespace, name)
        if request.method == "POST" and not name:
            body.setdefault("metadata", {}).setdefault("namespace", namespace)
            return _json(self._create((base, namespace, body["metadata"].get("name", "")), body), 201)
        old = self.objects.get(key)
        if old is None:
            if request.method == "PATCH" and request.header("Content-Type").startswith(
                "application/apply-patch"
            ):
                return _json(self._create(key, body), 201)
            raise NotFound(f'{match["plural"]} "{name}" not found')
        match request.method:
            case "GET":
                return _json(old)
            case "POST" if sub == "binding":
                bound = deepcopy(old)
                bound["spec"]["nodeName"] = body["target"]["name"]
                return _json(self._store(key, bound, old), 201)
            case "PUT":
                return _json(self._write(key, old, body, sub))
            case "PATCH":
                return _json(self._write(key, old, _patched(old, body, request.header("Content-Type")), sub))
            case "DELETE":
                return _json(self._delete(key, old, body))
        raise BadRequest(request.method)

    def _list(self, base: str, namespace: str, query: dict[str, str]) -> Response:
        labels = parse_label_selector(query.get("labelSelector", ""))
        fields = parse_field_selector(query.get("fieldSelector", ""))

        def selected(tree: Tree) -> bool:
            meta = tree["metadata"]
            return (
                (not namespace or meta.get("namespace") == namespace)
                and labels.matches(meta.get("labels") or {})
                and fields.matches_object(tree)
            )

        items = [tree for key, tree in self.objects.items() if key[0] == base and selected(tree)]
        if query.get("watch") in ("1", "true"):
            return StreamedResponse(200, self._watch(base, selected, items, query))
        return _json({"kind": "List", "metadata": {"resourceVersion": str(self.version)}, "items": items})

    async def _watch(
        self, base: str, selected: Callable[[Tree], bool], items: list[Tree], query: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()

        def on_event(where: str, old: Tree | None, new: Tree, gone: bool) -> None:
            if where != base:
                return
            was, now = old is not None and selected(old), not gone and selected(new)
            if was or now:
                kind = "MODIFIED" if was and now else "ADDED" if now else "DELETED"
                queue.put_nowait(orjson.dumps({"type": kind, "object": new}) + b"\n")

        self._watches.append(on_event)
        try:
            if query.get("sendInitialEvents") == "true":
                for tree in items:
                    yield orjson.dumps({"type": "ADDED", "object": tree}) + b"\n"
                end = {
                    "resourceVersion": str(self.version),
                    "annotations": {"k8s.io/initial-events-end": "true"},
                }
                yield orjson.dumps({"type": "BOOKMARK", "object": {"kind": "X", "metadata": end}}) + b"\n"
            elif not query.get("resourceVersion"):  # from now on, beginning with what there is
                for tree in items:
                    yield orjson.dumps({"type": "ADDED", "object": tree}) + b"\n"
            while True:
                yield await queue.get()
        finally:
            self._watches.remove(on_event)

    def _tell(self, base: str, old: Tree | None, new: Tree, *, gone: bool = False) -> None:
        for on_event in list(self._watches):
            on_event(base, old, new, gone)

    def _next_version(self) -> str:
        self.version += 1
        return str(self.version)

    def _create(self, key: tuple[str, str, str], tree: Tree) -> Tree:
        tree = deepcopy(tree)
        meta = tree["metadata"]
        if not meta.get("name"):
            meta["name"] = f"{meta['generateName']}{uuid.uuid4().hex[:5]}"
            key = (key[0], key[1], meta["name"])
        if key in self.objects:
            raise AlreadyExists(f'"{meta["name"]}" already exists')
        if not key[1]:
            meta.pop("namespace", None)
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.update(
            resourceVersion=self._next_version(),
            generation=1,
            creationTimestamp=rfc3339(self.clock.wall()),
        )
        self.objects[key] = tree
        self._tell(key[0], None, tree)
        return deepcopy(tree)

    def _write(self, key: tuple[str, str, str], old: Tree, new: Tree, sub: str) -> Tree:
        wanted = new.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified; please apply your changes to the latest version")
        if sub == "status":
            new = {**old, "status": new.get("status", {})}
        else:
            new = {**new, **({"status": old["status"]} if "status" in old else {})}
        return self._store(key, new, old)

    def _store(self, key: tuple[str, str, str], new: Tree, old: Tree) -> Tree:
        new, before = deepcopy(new), old["metadata"]
        meta = new["metadata"]
        for name in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "resourceVersion"):
            if name in before:
                meta[name] = before[name]
        if new == old:
            return deepcopy(old)
        if new.get("spec") != old.get("spec"):
            meta["generation"] = before["generation"] + 1
        meta["resourceVersion"] = self._next_version()
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self._drop(key)
            return new
        self.objects[key] = new
        self._tell(key[0], old, new)
        return deepcopy(new)

    def _delete(self, key: tuple[str, str, str], old: Tree, options: Tree) -> Tree:
        preconditions = options.get("preconditions") or {}
        if preconditions.get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            raise Conflict("the uid in the precondition is another object's")
        grace = options.get("gracePeriodSeconds")
        is_running_pod = key[0] == "/api/v1/pods" and old.get("spec", {}).get("nodeName") and grace != 0
        if old["metadata"].get("finalizers") or is_running_pod:
            new = deepcopy(old)
            new["metadata"].setdefault("deletionTimestamp", rfc3339(self.clock.wall()))
            new["metadata"]["resourceVersion"] = self._next_version()
            self.objects[key] = new
            self._tell(key[0], old, new)
            return new
        self._drop(key)
        return old

    def _drop(self, key: tuple[str, str, str]) -> None:
        old = self.objects.pop(key)
        gone = deepcopy(old)
        gone["metadata"]["resourceVersion"] = self._next_version()
        self._tell(key[0], old, gone, gone=True)
        uid = old["metadata"]["uid"]
        for other, tree in list(self.objects.items()):
            if any(ref["uid"] == uid for ref in tree["metadata"].get("ownerReferences") or ()):
                self._delete(other, tree, {})


def _json(tree: Tree, status: int = 200) -> Response:
    return BufferedResponse(status, orjson.dumps(tree), {"Content-Type": "application/json"})


def _patched(old: Tree, patch: Any, content_type: str) -> Tree:
    if content_type.startswith(_MERGING):
        merged: Tree = _merge(deepcopy(old), patch)
        return merged
    if content_type.startswith("application/json-patch"):
        return _json_patch(deepcopy(old), patch)
    raise UnsupportedMediaType(content_type)


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    target = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = _merge(target.get(key), value)
    return target


def _json_patch(tree: Any, patch: list[Tree]) -> Tree:
    for step in patch:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"][1:].split("/")]
        target = tree
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        index: Any = int(last) if isinstance(target, list) and last != "-" else last
        match step["op"]:
            case "test":
                inside = isinstance(target, dict) or int(last) < len(target)
                found = target.get(index) if isinstance(target, dict) else target[index] if inside else None
                if found != step["value"]:
                    raise ApiError(
                        "the server rejected our request: test failed", status=422, reason="Invalid"
                    )
            case "add" if isinstance(target, list):
                target.append(step["value"]) if last == "-" else target.insert(index, step["value"])
            case "add" | "replace":
                target[index] = step["value"]
            case "remove":
                del target[index]
    result: Tree = tree
    return result
