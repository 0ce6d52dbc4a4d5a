"""Conversion reviews (apiextensions.k8s.io/v1): the versions of a custom resource into one another."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from kaito.runtime.webhook.admission import BadReview

API_VERSION = "apiextensions.k8s.io/v1"
Object = dict[str, Any]

Converter = Callable[[Object, str], Object | Awaitable[Object]]
"""(object, wanted apiVersion) -> the object in that version. Raise ValueError, with a sentence, for what cannot be.

    @server.convert
    def convert(obj: dict[str, Any], wanted: str) -> dict[str, Any]:
        spec = obj["spec"]
        if wanted == "example.com/v2":
            return {**obj, "apiVersion": wanted, "spec": {"width": spec["size"]}}
        return {**obj, "apiVersion": wanted, "spec": {"size": spec["width"]}}
"""

_KEPT = ("name", "namespace", "uid")


async def convert(body: bytes, converter: Converter) -> bytes:
    """Answers a ConversionReview; the conversion of all its objects fails with the first that fails.

    Raises:
        BadReview: the body is no ConversionReview.
    """
    try:
        review = orjson.loads(body)
        request = review["request"]
        uid, wanted, objects = (
            str(request["uid"]),
            str(request["desiredAPIVersion"]),
            list(request["objects"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise BadReview(f"the body is no ConversionReview: {error!r}") from None
    if review.get("kind") != "ConversionReview" or review.get("apiVersion") != API_VERSION:
        raise BadReview(
            f"the body is {review.get('apiVersion')!r} {review.get('kind')!r}; this webhook speaks "
            f"{API_VERSION} ConversionReview: list v1 in conversionReviewVersions"
        )
    response: Object = {"uid": uid}
    try:
        response["convertedObjects"] = [await _converted(obj, wanted, converter) for obj in objects]
        response["result"] = {"status": "Success"}
    except ValueError as error:
        response["convertedObjects"] = []
        response["result"] = {"status": "Failure", "message": str(error)}
    return orjson.dumps({"apiVersion": API_VERSION, "kind": "ConversionReview", "response": response})


async def _converted(obj: Object, wanted: str, converter: Converter) -> Object:
    if obj.get("apiVersion") == wanted:
        return obj
    metadata = obj.get("metadata") or {}
    result = converter(copy.deepcopy(obj), wanted)
    converted = await result if inspect.isawaitable(result) else result
    after = converted.get("metadata") or {}
    what = f"{obj.get('kind')} {metadata.get('namespace', '')}/{metadata.get('name', '')}"
    if converted.get("apiVersion") != wanted:
        raise ValueError(
            f"the conversion of {what} gave {converted.get('apiVersion')!r} instead of {wanted!r}"
        )
    if any(metadata.get(name) != after.get(name) for name in _KEPT):
        raise ValueError(f"the conversion of {what} changed its name, namespace or uid")
    return converted
