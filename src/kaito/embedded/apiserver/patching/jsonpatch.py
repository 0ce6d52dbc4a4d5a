"""JSON patch (RFC 6902) with the answers of Kubernetes: 400 if it is not a patch, 422 if it fails."""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer

from kaito.embedded.apiserver.strategy import Object
from kaito.runtime.errors import BadRequest, Invalid, RequestEntityTooLarge

MAX_OPERATIONS = 10_000
"""kube-apiserver's limit on the operations of one JSON patch."""


def json_patch(target: Object, operations: Any) -> Object:
    """A copy of `target` with the operations applied.

    Raises `BadRequest` when `operations` is not a list of operations, `Invalid` when one cannot be applied (a
    path that is not there, a failed `test`), `RequestEntityTooLarge` when there are more than 10,000.
    """
    if not isinstance(operations, list) or not all(isinstance(item, dict) for item in operations):
        raise BadRequest("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise RequestEntityTooLarge(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        )
    try:
        result = jsonpatch.JsonPatch(_lenient(operations, target)).apply(target)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise _rejected(error) from error
    except (TypeError, KeyError, IndexError) as error:
        raise _rejected(error) from error
    if not isinstance(result, dict):
        raise BadRequest("the patch replaces the whole object by something that is not an object")
    return result


def _lenient(operations: list[Any], target: Object) -> list[Any]:
    """`replace` of a field that is not there sets it, as the library of kube-apiserver has it."""
    result = []
    for item in operations:
        path = item.get("path")
        if item.get("op") == "replace" and isinstance(path, str) and path:
            parent, last = jsonpointer.JsonPointer(path).to_last(target)
            if isinstance(parent, dict) and last not in parent:
                item = {**item, "op": "add"}
        result.append(item)
    return result


def _rejected(error: Exception) -> Invalid:
    return Invalid(f"the server rejected our request due to an error in our request: {error}")
