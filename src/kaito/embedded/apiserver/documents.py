"""What is read by its path and is no object: health, version, discovery, schemas."""

from __future__ import annotations

from typing import Any, Final

from kaito.embedded.apiserver.discovery import AGGREGATED_TYPE, Discovery, wants_aggregated
from kaito.embedded.apiserver.messages import (
    json_response,
    method_not_allowed,
    page_not_found,
    text_response,
)
from kaito.embedded.apiserver.openapi import OpenApi
from kaito.embedded.apiserver.served import Registry
from kaito.embedded.apiserver.swagger import OpenApiV2
from kaito.runtime.errors import NotFound
from kaito.runtime.transport import Request, Response

VERSION: Final = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.4+kaito-embedded",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "any",
}
"""`/version`: the Kubernetes version that the answers of this server are compared with."""

HEALTH_PATHS: Final = ("/healthz", "/livez", "/readyz")


class Documents:
    """Answers requests for documents about the server. `instance` tells two servers' schemas apart."""

    def __init__(self, registry: Registry, instance: str) -> None:
        self._registry = registry
        self._discovery = Discovery(registry)
        self._openapi = OpenApi(registry, instance)
        self._openapi_v2 = OpenApiV2(registry)

    def answer(self, request: Request, path: str) -> Response:
        """What stands under that path, which is decoded.

        Raises:
            MethodNotAllowed: there is something, and the request wants more than to read it.
            NotFound: nothing, in a group of the server's own.
        """
        response = self._read(request, path.rstrip("/") or "/")
        if response.status == 200 and request.method not in ("GET", "HEAD"):
            raise method_not_allowed(request)
        return response

    def _read(self, request: Request, path: str) -> Response:
        if path in HEALTH_PATHS or path.startswith(tuple(f"{each}/" for each in HEALTH_PATHS)):
            return text_response("ok")
        if path == "/version":
            return json_response(VERSION)
        if path == "/":
            return json_response(
                {"paths": ["/api", "/apis", *HEALTH_PATHS, "/openapi/v2", "/openapi/v3", "/version"]}
            )
        if path == "/openapi/v2":
            return self._openapi_v2.answer(request.header("accept"))
        if path.startswith("/openapi/v3"):
            name = path.removeprefix("/openapi/v3").strip("/")
            if not name:
                return json_response(self._openapi.root())
            document = self._openapi.document(name)
            return page_not_found() if document is None else json_response(document)
        found = self._discover(request, path)
        if found is not None:
            return found
        group = path.split("/")[2:3] if path.startswith("/apis/") else [""]
        known = self._registry.groups()
        if (
            path.startswith(("/api/", "/apis/"))
            and self._registry.is_builtin(group[0])
            and known.get(group[0])
        ):
            raise NotFound("the server could not find the requested resource")
        return page_not_found()

    def _discover(self, request: Request, path: str) -> Response | None:
        parts = path.strip("/").split("/")
        discovery = self._discovery
        document: dict[str, Any] | None = None
        if path in ("/api", "/apis"):
            if wants_aggregated(request.header("accept")):
                return json_response(discovery.aggregated(core=path == "/api"), content_type=AGGREGATED_TYPE)
            document = discovery.versions() if path == "/api" else discovery.groups()
        elif parts[0] == "api" and len(parts) == 2:
            document = discovery.resources("", parts[1])
        elif parts[0] == "apis" and len(parts) == 2:
            document = discovery.group(parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            document = discovery.resources(parts[1], parts[2])
        return None if document is None else json_response(document)
