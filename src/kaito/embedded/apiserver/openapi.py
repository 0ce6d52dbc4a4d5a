"""OpenAPI v3: what kubectl reads before it applies, explains or dry-runs.

One document per group and version, made when first asked for and kept until a kind comes or goes. Kinds without
schemas are described by their operations alone, which is all that apply needs.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from kaito.embedded.apiserver.bodies import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from kaito.embedded.apiserver.served import Registry, Served

GVK: Final = "x-kubernetes-group-version-kind"
"""Extension that names kinds: one at an operation, a list at a schema."""


def _parameter(name: str, where: str, type_: str = "string") -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": {"type": type_, "uniqueItems": True},
    }


_WRITE_PARAMETERS: Final = [
    _parameter(name, "query") for name in ("dryRun", "fieldManager", "fieldValidation")
]
_PATCH_PARAMETERS: Final = [*_WRITE_PARAMETERS, _parameter("force", "query", "boolean")]
_DELETE_PARAMETERS: Final = [
    _parameter("dryRun", "query"),
    _parameter("gracePeriodSeconds", "query", "integer"),
    _parameter("propagationPolicy", "query"),
]
_LIST_PARAMETERS: Final = [
    _parameter("allowWatchBookmarks", "query", "boolean"),
    _parameter("continue", "query"),
    _parameter("fieldSelector", "query"),
    _parameter("labelSelector", "query"),
    _parameter("limit", "query", "integer"),
    _parameter("resourceVersion", "query"),
    _parameter("resourceVersionMatch", "query"),
    _parameter("sendInitialEvents", "query", "boolean"),
    _parameter("timeoutSeconds", "query", "integer"),
    _parameter("watch", "query", "boolean"),
]


class OpenApi:
    """The documents below `/openapi/v3`.

    Args:
        registry: what is served.
        instance: differs from one start of the server to the next. It is part of each document's hash, because
            clients keep documents on disk by address and hash.
    """

    def __init__(self, registry: Registry, instance: str) -> None:
        self._registry = registry
        self._instance = instance
        self._generation = -1
        self._documents: dict[str, bytes] = {}

    def _refresh(self) -> None:
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._documents.clear()

    def root(self) -> dict[str, Any]:
        """`/openapi/v3`"""
        paths = {}
        for group, versions in self._registry.groups().items():
            for version in versions:
                name = f"apis/{group}/{version}" if group else f"api/{version}"
                url = f"/openapi/v3/{name}?hash={self._instance}-{self._registry.generation}"
                paths[name] = {"serverRelativeURL": url}
        return {"paths": paths}

    def document(self, name: str) -> bytes | None:
        """`/openapi/v3/NAME` with NAME as in the root's paths; None if there is no such group and version."""
        self._refresh()
        known = self._documents.get(name)
        if known is not None:
            return known
        parts = name.split("/")
        if parts[0] == "api" and len(parts) == 2:
            group, version = "", parts[1]
        elif parts[0] == "apis" and len(parts) == 3:
            group, version = parts[1], parts[2]
        else:
            return None
        served = [
            each
            for each in self._registry.all()
            if (each.resource.group, each.resource.version) == (group, version)
        ]
        if not served:
            return None
        data = self._documents[name] = orjson.dumps(_document(served))
        return data


def _document(served: list[Served]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for each in served:
        described = each.strategy.openapi()
        reference = None
        if described is not None:
            name, own = described
            schemas.update(own)
            resource = each.resource
            gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
            if GVK not in schemas[name]:
                schemas[name] = {**schemas[name], GVK: [gvk]}
            reference = {"$ref": f"#/components/schemas/{name}"}
        paths.update(paths_of(each, reference))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def paths_of(served: Served, reference: dict[str, str] | None) -> dict[str, Any]:
    """The v3 description of the paths of a kind; `reference` is to its schema."""
    strategy, resource = served.strategy, served.resource
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    schema = reference or {"type": "object"}

    def operation(
        action: str, parameters: list[dict[str, Any]], body: bool = False, *media: str
    ) -> dict[str, Any]:
        described: dict[str, Any] = {
            "operationId": f"{action}{resource.kind}",
            "x-kubernetes-action": action,
            GVK: gvk,
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
        }
        if body or media:
            content = {
                each: {"schema": {"type": "object"} if media else schema} for each in media or ("*/*",)
            }
            described["requestBody"] = {"required": True, "content": content}
        return described

    base = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    shared: list[dict[str, Any]] = []
    collection = f"{base}/{resource.plural}"
    paths: dict[str, Any] = {}
    verbs = set(strategy.verbs)
    if resource.namespaced:
        if "list" in verbs:
            paths[collection] = {"get": operation("list", _LIST_PARAMETERS)}
        collection = f"{base}/namespaces/{{namespace}}/{resource.plural}"
        shared.append(_parameter("namespace", "path"))
    on_all: dict[str, Any] = {"parameters": shared}
    if "list" in verbs:
        on_all["get"] = operation("list", _LIST_PARAMETERS)
    if "create" in verbs or not verbs:
        on_all["post"] = operation("post", _WRITE_PARAMETERS, True)
    paths[collection] = on_all
    if not verbs:
        return paths
    patches = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH] + ([] if served.custom else [STRATEGIC_PATCH])
    on_one = {
        "parameters": [_parameter("name", "path"), *shared],
        "get": operation("get", []),
        "put": operation("put", _WRITE_PARAMETERS, True),
        "patch": operation("patch", _PATCH_PARAMETERS, True, *patches),
        "delete": operation("delete", _DELETE_PARAMETERS),
    }
    paths[f"{collection}/{{name}}"] = on_one
    if strategy.has_status:
        paths[f"{collection}/{{name}}/status"] = {
            key: on_one[key] for key in ("parameters", "get", "put", "patch")
        }
    return paths
