"""An API server of one resource in this process: what a cache and a controller need, at the cost of a dict.

It lists (whole or in pages), streams lists, watches from a version with history and bookmarks, answers 410 for versions
that are forgotten, takes PUT and PATCH of single objects, checks a bearer token, and can be down. Everything else is
404. For `kaito.runtime.memory_transport.MemoryTransport`, in real or virtual time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import orjson

from kaito.runtime.errors import TransportError
from kaito.runtime.resources import Resource
from kaito.runtime.transport import BufferedResponse, Request, Response, StreamedResponse

JSON = {"Content-Type": "application/json"}
HISTORY = 20_000
"""Changes that a watch can resume from, where nothing else is said."""
Object = dict[str, Any]


def metadata_of(number: int, version: int = 1) -> Object:
    """A small object: metadata and nothing else."""
    return {
        "metadata": {
            "name": f"object-{number:06d}",
            "namespace": f"team-{number % 20}",
            "uid": f"00000000-0000-0000-0000-{number:012d}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-21T13:00:00Z",
            "labels": {"app": "bench", "group": f"group-{number % 1000}"},
        }
    }


class _Watch:
    """One open watch: lines that wait to be sent."""

    def __init__(self) -> None:
        self.lines: deque[bytes] = deque()
        self.ready = asyncio.Event()
        self.broken = False

    def send(self, line: bytes) -> None:
        self.lines.append(line)
        self.ready.set()

    def end(self) -> None:
        self.broken = True
        self.ready.set()


class MemoryApi:
    """Objects by path, and who watches them."""

    def __init__(self, resource: Resource, objects: Iterable[Object] = (), *, history: int = HISTORY) -> None:
        self.resource = resource
        self.objects: dict[tuple[str, str], bytes] = {}
        self.versions: dict[tuple[str, str], int] = {}
        self.version = 1
        self.tokens: set[str] = set()
        """One of these must be shown; empty: nothing."""
        self.down = False
        """Refuses every request."""
        self.requests = 0
        self.refused = 0
        self._oldest = 1
        self._history: deque[tuple[int, bytes]] = deque(maxlen=history)
        self._watches: set[_Watch] = set()
        for tree in objects:
            self._keep(tree)

    # -- writing ---------------------------------------------------------------------------------------------

    def put(self, tree: Object) -> Object:
        """Creates or replaces an object and tells the watchers; fills in its version."""
        key = _key(tree)
        word = b"MODIFIED" if key in self.objects else b"ADDED"
        self.version += 1
        tree["metadata"]["resourceVersion"] = str(self.version)
        tree["metadata"].setdefault("uid", f"00000000-0000-0000-0000-{self.version:012d}")
        self._keep(tree)
        self._tell(word, self.objects[key])
        return tree

    def delete(self, namespace: str, name: str) -> None:
        """Deletes an object and tells the watchers."""
        key = (namespace, name)
        tree = orjson.loads(self.objects.pop(key))
        del self.versions[key]
        self.version += 1
        tree["metadata"]["resourceVersion"] = str(self.version)
        self._tell(b"DELETED", orjson.dumps(tree))

    def bookmark(self) -> None:
        """Tells every watcher the current version, as servers do each minute."""
        for watch in self._watches:
            watch.send(self._mark(ends=False))

    def cut(self) -> None:
        """Breaks every open watch."""
        for watch in self._watches:
            watch.end()

    def forget(self) -> None:
        """Compacts: no version before the current one can be watched from."""
        self._history.clear()
        self._oldest = self.version

    def _keep(self, tree: Object) -> None:
        key = _key(tree)
        self.objects[key] = orjson.dumps(
            {"kind": self.resource.kind, "apiVersion": self.resource.api_version, **tree}
        )
        self.versions[key] = int(tree["metadata"]["resourceVersion"])

    def _tell(self, word: bytes, raw: bytes) -> None:
        line = b'{"type":"' + word + b'","object":' + raw + b"}\n"
        if len(self._history) == self._history.maxlen:
            self._oldest = self._history[0][0]
        self._history.append((self.version, line))
        for watch in self._watches:
            watch.send(line)

    def _mark(self, *, ends: bool) -> bytes:
        metadata: Object = {"resourceVersion": str(self.version)}
        if ends:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        tree = {
            "type": "BOOKMARK",
            "object": {
                "kind": self.resource.kind,
                "apiVersion": self.resource.api_version,
                "metadata": metadata,
            },
        }
        return orjson.dumps(tree) + b"\n"

    # -- answering -------------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Response:
        """What a MemoryTransport calls."""
        self.requests += 1
        if self.down:
            self.refused += 1
            raise TransportError("connection refused")
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens and shown not in self.tokens:
            self.refused += 1
            return _status(401, "Unauthorized", "the token is not valid")
        query = dict(request.query)
        if request.path.endswith(f"/{self.resource.plural}"):
            if request.method == "POST":
                return _answer(self.put(orjson.loads(request.body or b"{}")), 201)
            return self._watch(query) if query.get("watch") else self._list(query)
        return self._one(request)

    def _list(self, query: dict[str, str]) -> Response:
        bodies = list(self.objects.values())
        start, size = int(query.get("continue") or 0), int(query.get("limit") or len(bodies) or 1)
        more = str(start + size) if start + size < len(bodies) else ""
        head = orjson.dumps({"resourceVersion": str(self.version), "continue": more})
        body = b'{"metadata":' + head + b',"items":[' + b",".join(bodies[start : start + size]) + b"]}"
        return BufferedResponse(200, body, JSON)

    def _watch(self, query: dict[str, str]) -> Response:
        since = int(query.get("resourceVersion") or 0)
        initial = query.get("sendInitialEvents") == "true"
        if not initial and 0 < since < self._oldest:
            return _status(410, "Expired", f"too old resource version: {since} ({self._oldest})")
        watch = _Watch()
        if initial:
            for raw in self.objects.values():
                watch.send(b'{"type":"ADDED","object":' + raw + b"}\n")
            watch.send(self._mark(ends=True))
        else:
            for version, line in self._history:
                if version > since:
                    watch.send(line)
        self._watches.add(watch)
        return StreamedResponse(200, self._stream(watch), JSON)

    async def _stream(self, watch: _Watch) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                await watch.ready.wait()
                watch.ready.clear()
                while watch.lines:
                    yield b"".join([watch.lines.popleft() for _ in range(min(32, len(watch.lines)))])
                if watch.broken:
                    raise TransportError("connection reset by peer")
        finally:
            self._watches.discard(watch)

    def _one(self, request: Request) -> Response:
        parts = request.path.removeprefix(self.resource.group_path).strip("/").split("/")
        if len(parts) < 4 or parts[0] != "namespaces" or parts[2] != self.resource.plural:
            return _status(404, "NotFound", f"nothing is served at {request.path}")
        key = (parts[1], parts[3])
        raw = self.objects.get(key)
        if raw is None:
            return _status(404, "NotFound", f"{self.resource.plural} {parts[3]!r} not found")
        tree = orjson.loads(raw)
        if request.method == "PATCH":
            _merge(tree, orjson.loads(request.body or b"{}"))
            tree = self.put(tree)
        elif request.method == "PUT":
            tree = self.put(orjson.loads(request.body or b"{}"))
        return _answer(tree)


def _answer(tree: Object, status: int = 200) -> Response:
    return BufferedResponse(status, orjson.dumps(tree), JSON)


def _key(tree: Object) -> tuple[str, str]:
    return tree["metadata"].get("namespace") or "", tree["metadata"]["name"]


def _merge(tree: Object, patch: Object) -> None:
    """JSON merge patch (RFC 7386), objects only."""
    for key, value in patch.items():
        if value is None:
            tree.pop(key, None)
        elif isinstance(value, dict):
            _merge(tree.setdefault(key, {}), value)
        else:
            tree[key] = value


def _status(code: int, reason: str, message: str) -> Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
    return BufferedResponse(code, orjson.dumps(body), JSON)
