"""Reading from the API server: one object, lists, pages of lists, a watch, logs.

None of this goes through a cache. Controllers read from informers; these are for what no informer follows,
and for tools.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple

import orjson

from kaito.runtime.errors import Gone, TransportError, from_status
from kaito.runtime.resources import PODS, Resource
from kaito.runtime.rest import JSON_TYPE, Object, Parameters, RestClient
from kaito.runtime.wire import LineSplitter, MalformedStream

DEFAULT_PAGE = 500
"""Objects per LIST page, as client-go asks for."""
WATCH_SECONDS = 300
"""Seconds after which the server ends a watch that names no time."""
WATCH_GRACE = 5.0
"""Seconds that the server may be late with ending a watch before the connection counts as dead."""
LOG_LINE_BYTES = 1024 * 1024
"""Longest piece of a log's line; container runtimes cut lines at 16 KiB already."""

Objects = list[Object]


class Page(NamedTuple):
    """A part of a list. `resource_version` is that of the whole list, the same on every page.

    `remaining` is how many objects are still to come, where the server says so.
    """

    items: Objects
    resource_version: str
    remaining: int | None


class Seen(NamedTuple):
    """One event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object."""

    type: str
    object: Object


class Reading(RestClient):
    """The reading half of `Client`."""

    async def get(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        subresource: str = "",
        resource_version: str = "",
    ) -> Object:
        """One object, from the server (not from a cache).

        With `resource_version` the answer may come from the server's watch cache, at least as new as that;
        "0" is any age.
        """
        query = [("resourceVersion", resource_version)] if resource_version else []
        return await self.json("GET", res.path(namespace, name, subresource or None), query=query)

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = DEFAULT_PAGE,
    ) -> Objects:
        """All matching objects, `limit` per page, with apiVersion and kind filled in.

        A continue token that expires between pages starts one unpaged LIST, so the result is always one
        consistent snapshot.
        """
        selectors = _selectors(label_selector, field_selector)
        items: Objects = []
        begun = False
        try:
            async for page in self._pages(res, namespace, selectors, limit):
                items += page.items
                begun = True
        except Gone:
            if not begun:
                raise
            return [item async for page in self._pages(res, namespace, selectors, 0) for item in page.items]
        return items

    def pages(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = DEFAULT_PAGE,
    ) -> AsyncGenerator[Page, None]:
        """The same list page by page; only one page is held at a time.

        The server keeps a list's snapshot for some minutes (etcd compacts every five). A reader slower than that
        gets `Gone` in the middle, because the objects that it has already handed on cannot be taken back: start
        over, or use `list`, which does.
        """
        return self._pages(res, namespace, _selectors(label_selector, field_selector), limit)

    async def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        seconds: int = WATCH_SECONDS,
    ) -> AsyncGenerator[Seen, None]:
        """What happens from now on (or after `resource_version`), for at most `seconds`; then it ends.

        One request and no more: no reconnecting, no cache. To follow a resource for good use an `Informer`.
        Close it (`contextlib.aclosing`) when leaving early. Raises `ApiError` for an error that the server
        reports in mid-stream (`Gone`: list again), TransportError when the connection breaks or dies.
        """
        query = [
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(seconds)),
            *([("resourceVersion", resource_version)] if resource_version else []),
            *_selectors(label_selector, field_selector),
        ]
        path = res.path(namespace)
        deadline = self.clock.now() + seconds + WATCH_GRACE
        splitter = LineSplitter()
        async with aclosing(self._chunks(path, query, deadline)) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    yield _seen(line, path)

    async def logs(
        self,
        name: str,
        namespace: str,
        *,
        container: str = "",
        follow: bool = False,
        previous: bool = False,
        timestamps: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
        limit_bytes: int | None = None,
    ) -> AsyncGenerator[str, None]:
        """The log of a pod's container, line by line without line ends; bytes that are no UTF-8 are replaced.

        `container` may be left out for pods with one. With `follow` it ends when the container does, and
        waits as long as the log is silent. `previous` is the log before the last restart; `since_seconds`,
        `tail_lines` and `limit_bytes` cut it. Close it (`contextlib.aclosing`) when leaving early.
        """
        values: dict[str, Any] = {
            "container": container or None,
            "follow": follow or None,
            "previous": previous or None,
            "timestamps": timestamps or None,
            "tailLines": tail_lines,
            "sinceSeconds": since_seconds,
            "limitBytes": limit_bytes,
        }
        query = [
            (key, "true" if value is True else str(value))
            for key, value in values.items()
            if value is not None
        ]
        rest = b""
        path = PODS.path(namespace, name, "log")
        async with aclosing(self._chunks(path, query, None, accept="*/*")) as chunks:
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LOG_LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    yield line.decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    async def _pages(
        self, res: Resource, namespace: str | None, selectors: Parameters, limit: int
    ) -> AsyncGenerator[Page, None]:
        token, version = "", ""
        while True:
            query = [*selectors, *((("limit", str(limit)),) if limit else ())]
            if token:
                query.append(("continue", token))
            page = await self.json("GET", res.path(namespace), query=query)
            metadata = page.get("metadata") or {}
            version = version or str(metadata.get("resourceVersion") or "")
            token = metadata.get("continue") or ""
            items = [with_type(item, res) for item in page.get("items") or ()]
            remaining = metadata.get("remainingItemCount") if token else 0
            yield Page(items, version, remaining)
            if not token:
                return

    async def _chunks(
        self, path: str, query: Parameters, deadline: float | None, *, accept: str = JSON_TYPE
    ) -> AsyncGenerator[bytes, None]:
        """The body of a streamed answer as it arrives; TransportError at `deadline` (clock seconds)."""
        response = await self.stream(path, query=query, accept=accept)
        try:
            chunks = aiter(response.chunks())
            while True:
                left = None if deadline is None else max(0.0, deadline - self.clock.now())
                try:
                    async with self.clock.timeout(left):
                        chunk = await anext(chunks, None)
                except TimeoutError as error:
                    raise TransportError(
                        f"GET {path}: the stream is overdue: its connection is dead"
                    ) from error
                if chunk is None:
                    return
                yield chunk
        finally:
            await response.close()


def _seen(line: bytes, path: str) -> Seen:
    try:
        event = orjson.loads(line)
        seen = Seen(str(event["type"]), dict(event["object"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise MalformedStream(f"GET {path}: a line of the watch is not an event: {error}") from error
    if seen.type == "ERROR":
        raise from_status(int(seen.object.get("code") or 500), seen.object, context=f"WATCH {path}")
    return seen


def _selectors(label_selector: str, field_selector: str) -> Parameters:
    return [
        *([("labelSelector", label_selector)] if label_selector else []),
        *([("fieldSelector", field_selector)] if field_selector else []),
    ]


def with_type(body: Any, res: Resource) -> Object:
    """The object with apiVersion and kind: items of a list come without."""
    if "kind" in body and "apiVersion" in body:
        return dict(body)
    return {"apiVersion": res.api_version, "kind": res.kind, **body}
