"""Identity of objects: the metadata a client may leave to the server, and what it may not choose."""

from __future__ import annotations

import random
import uuid
from typing import Any, Final

from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Object
from kaito.embedded.apiserver.strategy import REQUIRED, FieldError, Unreadable, invalid
from kaito.runtime.errors import ApiError, BadRequest

_SUFFIX_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' alphabet for generated names: no vowels, no look-alikes."""
_SUFFIX_LENGTH: Final = 5
_MAX_GENERATED: Final = 63

_random = random.SystemRandom()


def new_uid() -> str:
    return str(uuid.UUID(int=_random.getrandbits(128), version=4))


def generated_name(prefix: str) -> str:
    suffix = "".join(_random.choices(_SUFFIX_ALPHABET, k=_SUFFIX_LENGTH))
    return prefix[: _MAX_GENERATED - _SUFFIX_LENGTH] + suffix


def check_type(served: Served, obj: Object) -> None:
    """The body must be of the kind and version of the URL; a builtin kind may leave both out.

    Raises:
        BadRequest: it is something else.
    """
    resource = served.resource
    kind, api_version = obj.get("kind") or "", obj.get("apiVersion") or ""
    if served.custom and not kind:
        raise BadRequest(f"Object 'Kind' is missing in the body; expected {resource.kind}")
    if served.custom and not api_version:
        raise BadRequest(f"Object 'apiVersion' is missing in the body; expected {resource.api_version}")
    if kind and kind != resource.kind:
        raise Unreadable(
            f"{kind} in the body cannot be handled as a {resource.kind}: the URL names {resource.plural}"
        )
    if api_version and api_version != resource.api_version:
        raise Unreadable(
            f"the API version in the data ({api_version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version


def metadata_of(obj: Object) -> dict[str, Any]:
    """The object's metadata, made where it is missing.

    Raises:
        BadRequest: it is not an object.
    """
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    if not isinstance(metadata, dict):
        raise BadRequest(f"metadata must be an object, not {type(metadata).__name__}")
    for field in ("name", "generateName", "namespace", "uid", "resourceVersion"):
        if not isinstance(metadata.get(field, ""), str | None):
            raise BadRequest(f"metadata.{field} must be a string")
    return metadata


def settle_namespace(served: Served, metadata: dict[str, Any], namespace: str | None) -> None:
    """The namespace of the URL becomes the object's.

    Raises:
        BadRequest: the object names another one. One of a cluster-scoped object is dropped, as Kubernetes does.
    """
    own = metadata.get("namespace") or ""
    if served.resource.namespaced:
        if own and own != namespace:
            raise BadRequest(
                f"the namespace of the provided object does not match the namespace sent on the request: "
                f"{own} is not {namespace}"
            )
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)


def stamp_new(served: Served, obj: Object, now: str) -> None:
    """Gives a new object its name, uid and creation time, and drops what only the server may write.

    Raises:
        Invalid: neither a name nor a generateName.
        ApiError: a resourceVersion is set; 500 without a reason, as kube-apiserver has it.
    """
    metadata = metadata_of(obj)
    if metadata.get("resourceVersion"):
        raise ApiError("resourceVersion should not be set on objects to be created", status=500, reason="")
    for field in (
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
    ):
        metadata.pop(field, None)
    if not metadata.get("name"):
        if not metadata.get("generateName"):
            raise invalid(
                served.resource,
                "",
                [FieldError("metadata.name", REQUIRED, "name or generateName is required")],
            )
        metadata["name"] = generated_name(metadata["generateName"])
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = now
