"""OpenAPI v2, which kubectl falls back to: for a `kind: List`, and for all that clients before v3 do.

One document of everything that is served, made from what the v3 documents say. What v2 cannot express is left out, so
that it accepts more than the server, never less: alternatives, null, and properties beside unknown ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from kaito.embedded.apiserver.bodies import JSON
from kaito.embedded.apiserver.messages import json_response
from kaito.embedded.apiserver.openapi import GVK, paths_of
from kaito.embedded.apiserver.served import Registry, Served
from kaito.embedded.apiserver.swagger_protobuf import encode_swagger
from kaito.runtime.transport import BufferedResponse, Response

_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_OLD_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""What clients ask for, though `@` has no place in the name of a media type."""
_ANSWERS: Final = {
    JSON: JSON,
    _PROTOBUF: _PROTOBUF,
    _OLD_PROTOBUF: _PROTOBUF,
    "application/*": JSON,
    "*/*": JSON,
}
"""Content type of the answer by what an Accept header names."""

_KEPT: Final = frozenset(
    (
        "format", "title", "description", "default", "multipleOf", "maximum", "exclusiveMaximum", "minimum",
        "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems",
        "maxProperties", "minProperties", "required", "enum", "type",
    )
)  # fmt: skip
"""Keywords that mean the same in both versions."""
_SHAPE: Final = frozenset(("type", "required", "properties", "items", "additionalProperties"))
_UNKNOWN_FIELDS: Final = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_OBJECT_FIELDS: Final = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"$ref": "#/definitions/io.k8s.api.ObjectMeta"},
}
"""What every object has; a custom resource with an object in it need not mention them."""


class OpenApiV2:
    """The document below `/openapi/v2`, made when first asked for and kept until a kind comes or goes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = -1
        self._written: dict[str, bytes] = {}

    def answer(self, accept: str) -> Response:
        """The document in the first form that the Accept header names, 406 if it names none."""
        named = (each.partition(";")[0].strip() for each in (accept or "*/*").split(","))
        media = next((_ANSWERS[each] for each in named if each in _ANSWERS), None)
        if media is None:
            return BufferedResponse(406, b"", {})
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._written.clear()
        if media not in self._written:
            document = swagger(self._registry.all())
            self._written[media] = orjson.dumps(document) if media == JSON else encode_swagger(document)
        return json_response(self._written[media], content_type=media)


def swagger(served: Iterable[Served]) -> dict[str, Any]:
    """The document `/openapi/v2`."""
    paths: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for each in served:
        resource = each.resource
        gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        described = each.strategy.openapi()
        if described is None:
            parts = [*reversed(resource.group.split(".")), resource.version, resource.kind]
            name = ".".join(part for part in parts if part)
            definitions[name] = {"type": "object"}
        else:
            name, own = described
            for other, schema in own.items():
                if other not in definitions:
                    definitions[other] = _schema(schema)
        known = definitions[name].setdefault(GVK, [])
        if gvk not in known:
            known.append(gvk)
        reference = {"$ref": f"#/components/schemas/{name}"}
        paths.update({path: _path(item) for path, item in paths_of(each, reference).items()})
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": definitions,
    }


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in schema.items() if key in _KEPT or key.startswith("x-")}
    reference = _reference(schema)
    if reference is not None:
        return {"$ref": reference, **{key: value for key, value in result.items() if key.startswith("x-")}}
    if "type" not in schema and "string" in {each.get("type") for each in schema.get("oneOf") or ()}:
        # Quantities, and numbers that may be names: every scalar passes for a string.
        result["type"] = "string"
    if schema.get("nullable") or schema.get(_UNKNOWN_FIELDS):
        dropped = _SHAPE - ({"type"} if not schema.get("nullable") else set())
        return {key: value for key, value in result.items() if key not in dropped}
    # An object without properties is a map; one with none that are known would be an object that must be empty.
    if schema.get("properties"):
        result["properties"] = {name: _schema(each) for name, each in schema["properties"].items()}
        if schema.get(_EMBEDDED):
            result["properties"] |= _OBJECT_FIELDS
    if schema.get("type") == "array":
        result["items"] = _schema(schema.get("items") or {})
    more = schema.get("additionalProperties")
    if more is not None:
        result["additionalProperties"] = _schema(more) if isinstance(more, Mapping) else more
    return result


def _reference(schema: Mapping[str, Any]) -> str | None:
    """Also of one wrapped in `allOf`, as v3 must where something is said beside it."""
    wrapped: list[dict[str, str]] = schema.get("allOf") or [{}]
    found: str | None = schema.get("$ref") or (wrapped[0].get("$ref") if len(wrapped) == 1 else None)
    return None if found is None else found.replace("#/components/schemas/", "#/definitions/")


def _path(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: [_parameter(each) for each in value] if key == "parameters" else _operation(value)
        for key, value in item.items()
    }


def _operation(operation: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in operation.items() if key == "operationId" or key.startswith("x-")}
    result["produces"] = ["application/json"]
    result["parameters"] = [_parameter(each) for each in operation["parameters"]]
    body = operation.get("requestBody")
    if body is not None:
        content = body["content"]
        result["consumes"] = list(content)
        schema = _schema(next(iter(content.values()))["schema"])
        result["parameters"].append({"name": "body", "in": "body", "required": True, "schema": schema})
    result["responses"] = {
        code: {
            "description": answer["description"],
            "schema": _schema(next(iter(answer["content"].values()))["schema"]),
        }
        for code, answer in operation["responses"].items()
    }
    return result


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: parameter[key] for key in ("name", "in", "required")}, **parameter["schema"]}
