"""Verbs on resources.

A thin layer over a `Transport`: builds URLs, encodes dicts, turns every non-2xx answer into a typed
`ApiError`, and names itself to the server. Writes are plain dicts: the client adds nothing to them and drops
nothing from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import orjson

from kaito import __version__
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, NotFound, TransportError, from_status, parse_retry_after
from kaito.runtime.resources import Resource
from kaito.runtime.transport import Request, Response, Transport

JSON_TYPE = "application/json"
DEFAULT_TIMEOUT = 30.0
"""Seconds for one request that is not a watch."""

DEFAULT_PAGE = 500
"""Objects per LIST page, as client-go asks for."""

RETRY_LIMIT = 10
"""Times that a request is repeated because the server named a Retry-After, as client-go does."""

Query = Sequence[tuple[str, str]]
Parameters = list[tuple[str, str]]
Objects = list[dict[str, Any]]
Object = dict[str, Any]


class PatchType(StrEnum):
    """Content types of PATCH. APPLY carries JSON, which is YAML."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One finished HTTP exchange, for metrics and tests.

    `code` is the HTTP status as text or "<error>" when no answer came (client-go's word); `duration` is in
    seconds until the response's head for streams and its last byte otherwise; `path` has no query.
    """

    method: str
    path: str
    code: str
    user_agent: str
    duration: float
    watch: bool = False


Observer = Callable[[RequestRecord], None]


class Client:
    """Talks to one API server under one name.

    `user_agent` is who is asking (audit logs, request counts); `field_manager` is who owns written fields,
    left to the server (which derives it from the user agent) when None, and required for `apply`. `timeout`
    is in seconds per request, retries included. `observer` is called once per HTTP exchange.

    Every method raises `ApiError` subclasses for answers and `TransportError` when there was none.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        clock: Clock,
        user_agent: str = f"kaito-runtime/{__version__}",
        field_manager: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        observer: Observer | None = None,
    ) -> None:
        self.transport = transport
        self.clock = clock
        self.user_agent = user_agent
        self.field_manager = field_manager
        self.timeout = timeout
        self.observer = observer

    def named(self, user_agent: str, field_manager: str | None = None) -> Client:
        """The same connection under another name."""
        return Client(
            self.transport,
            clock=self.clock,
            user_agent=user_agent,
            field_manager=field_manager,
            timeout=self.timeout,
            observer=self.observer,
        )

    # Reading

    async def get(
        self, res: Resource, name: str, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """One object, from the server (not from a cache)."""
        return _tree(await self.request("GET", res.path(namespace, name, subresource or None)))

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
        selectors = [
            *((("labelSelector", label_selector),) if label_selector else ()),
            *((("fieldSelector", field_selector),) if field_selector else ()),
        ]
        items: Objects = []
        token = ""
        while True:
            query = [*selectors, *((("limit", str(limit)),) if limit else ())]
            if token:
                query.append(("continue", token))
            try:
                page = _tree(await self.request("GET", res.path(namespace), query=query))
            except ApiError as error:
                if error.status != 410 or not token:
                    raise
                items, token, limit = [], "", 0
                continue
            items += page.get("items") or ()
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return [_with_type(item, res) for item in items]

    # Writing

    async def create(
        self, res: Resource, body: Mapping[str, Any], namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """POST; `namespace` defaults to the body's.

        With `subresource` the body's name says of which object.
        """
        metadata = body.get("metadata") or {}
        path = res.path(
            namespace or metadata.get("namespace"),
            metadata["name"] if subresource else None,
            subresource or None,
        )
        if res.namespaced and "/namespaces/" not in path:
            raise ValueError(f"create {res.name}: neither a namespace argument nor metadata.namespace is set")
        return _tree(await self.request("POST", path, query=self._manager(), body=_encode(body)))

    async def update(self, res: Resource, body: Mapping[str, Any], *, subresource: str = "") -> Object:
        """PUT the whole object; its resourceVersion decides whether a concurrent change is a `Conflict`."""
        return _tree(
            await self.request(
                "PUT", _own_path(res, body, subresource), query=self._manager(), body=_encode(body)
            )
        )

    async def patch(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
        force: bool = False,
    ) -> Object:
        """PATCH; `patch` is a list for `PatchType.JSON` and a map otherwise.

        `force` only matters for APPLY.
        """
        query = self._manager()
        if patch_type is PatchType.APPLY:
            query.append(("force", "true" if force else "false"))
        return _tree(
            await self.request(
                "PATCH",
                res.path(namespace, name, subresource or None),
                query=query,
                body=_encode(patch),
                content_type=patch_type.value,
            )
        )

    async def apply(
        self, res: Resource, body: Mapping[str, Any], *, force: bool = True, subresource: str = ""
    ) -> Object:
        """Server-side apply: `body` holds exactly the fields that `field_manager` means to own.

        With `force` fields are taken over from other managers; without it that is a `Conflict`. apiVersion
        and kind are filled in from `res`.
        """
        if not self.field_manager:
            raise ValueError(
                "apply needs a client with a field_manager: use client.named(agent, field_manager)"
            )
        metadata = body["metadata"]
        return await self.patch(
            res,
            metadata["name"],
            metadata.get("namespace"),
            patch=_with_type(body, res),
            patch_type=PatchType.APPLY,
            subresource=subresource,
            force=force,
        )

    async def patch_status(
        self,
        res: Resource,
        name: str,
        namespace: str | None,
        status_patch: Mapping[str, Any],
        *,
        resource_version: str | None = None,
    ) -> Object:
        """Merge-patch `/status` with `{"status": status_patch}`.

        With `resource_version` the patch fails with `Conflict` when the object has changed since.
        """
        patch: Object = {"status": status_patch}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": resource_version}
        return await self.patch(res, name, namespace, patch=patch, subresource="status")

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation: str | None = "Background",
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period: int | None = None,
    ) -> Object | None:
        """DELETE. Returns the object or Status that the server sent, None when the object was already gone.

        `propagation` is Background, Foreground, Orphan or None (the resource's default); `uid` and
        `resource_version` are preconditions (`Conflict` when they do not hold); `grace_period` is in seconds.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        preconditions = {
            **({"uid": uid} if uid is not None else {}),
            **({"resourceVersion": resource_version} if resource_version is not None else {}),
        }
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        try:
            return _tree(await self.request("DELETE", res.path(namespace, name), body=_encode(options)))
        except NotFound:
            return None

    # Raw

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = JSON_TYPE,
        accept: str = JSON_TYPE,
        timeout: float | None = None,
    ) -> bytes:
        """Send any request and return the body of a 2xx answer.

        `timeout` is in seconds, retries included; None means the client's.

        429 and 5xx answers that carry a Retry-After header are repeated after that time, at most
        `RETRY_LIMIT` times and only while the wait fits into the client's timeout.
        """
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        if method == "GET":
            headers["Accept-Encoding"] = "identity"
        request = Request(method, path, tuple(query), self._identify(headers), body)
        deadline = self.clock.now() + (self.timeout if timeout is None else timeout)
        for _ in range(RETRY_LIMIT):
            response = await self._exchange(request, deadline - self.clock.now(), stream=False)
            if 200 <= response.status < 300:
                return await response.read()
            pause = parse_retry_after(response.headers.get("Retry-After"))
            if pause is None or not _may_retry(response.status) or self.clock.now() + pause >= deadline:
                break
            await self.clock.sleep(pause)
        raise await _error(request, response)

    async def stream(
        self, path: str, *, query: Query = (), accept: str = JSON_TYPE, head_timeout: float | None = None
    ) -> Response:
        """GET whose body is read as it arrives (watch, logs); the caller closes the response.

        Not repeated and not decompressed. `head_timeout` (seconds, default: the client's timeout) covers the
        wait for the response's head; silence afterwards is the caller's to notice.
        """
        headers = self._identify({"Accept": accept, "Accept-Encoding": "identity"})
        request = Request("GET", path, tuple(query), headers)
        response = await self._exchange(
            request, self.timeout if head_timeout is None else head_timeout, stream=True
        )
        if 200 <= response.status < 300:
            return response
        try:
            async with self.clock.timeout(self.timeout):
                raise await _error(request, response)
        except TimeoutError:
            raise from_status(response.status, None, context=f"GET {path}") from None
        finally:
            await response.close()

    async def _exchange(self, request: Request, timeout: float, *, stream: bool) -> Response:
        started = self.clock.now()
        code = "<error>"
        try:
            response = await self.transport.send(request, timeout=timeout, stream=stream)
            code = str(response.status)
            return response
        finally:
            if self.observer is not None:
                self.observer(
                    RequestRecord(
                        method=request.method,
                        path=request.path,
                        code=code,
                        user_agent=self.user_agent,
                        duration=self.clock.now() - started,
                        watch=stream,
                    )
                )

    def _identify(self, headers: dict[str, str]) -> dict[str, str]:
        headers["User-Agent"] = self.user_agent
        return headers

    def _manager(self) -> Parameters:
        return [("fieldManager", self.field_manager)] if self.field_manager else []


def _may_retry(status: int) -> bool:
    return status == 429 or status >= 500


async def _error(request: Request, response: Response) -> ApiError:
    try:
        body = await response.read()
    except TransportError:
        body = b""
    return from_status(
        response.status,
        body,
        retry_after=parse_retry_after(response.headers.get("Retry-After")),
        context=f"{request.method} {request.path}",
    )


def _encode(body: Any) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)


def _tree(body: bytes) -> Object:
    return cast("Object", orjson.loads(body)) if body else {}


def _with_type(body: Mapping[str, Any], res: Resource) -> Object:
    if "kind" in body and "apiVersion" in body:
        return dict(body)
    return {"apiVersion": res.api_version, "kind": res.kind, **body}


def _own_path(res: Resource, body: Mapping[str, Any], subresource: str) -> str:
    metadata = body["metadata"]
    return res.path(metadata.get("namespace"), metadata["name"], subresource or None)
