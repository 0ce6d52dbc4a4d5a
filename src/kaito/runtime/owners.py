"""Owner references: who made an object, and with whom it is garbage-collected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.runtime.objects import ObjectMeta, OwnerReference
from kaito.runtime.resources import Resource


class AlreadyOwned(Exception):
    """The object has another controller; an object has one at most."""


def owner_reference(owner: Mapping[str, Any], resource: Resource) -> dict[str, Any]:
    """A reference to `owner` that only says: collect the dependent when the owner is gone."""
    metadata = owner["metadata"]
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def controller_reference(owner: Mapping[str, Any], resource: Resource) -> dict[str, Any]:
    """A reference to `owner` as the controller; deletion of the owner in the foreground waits for the
    dependent.
    """
    return {**owner_reference(owner, resource), "controller": True, "blockOwnerDeletion": True}


def set_controller(child: dict[str, Any], owner: Mapping[str, Any], resource: Resource) -> None:
    """Makes `owner` the controller of `child`, in place; does nothing where it is already.

    Raises AlreadyOwned when something else controls the child, and ValueError when a namespaced owner would
    own an object outside its namespace, which the garbage collector takes for an orphan and deletes.
    """
    metadata = child.setdefault("metadata", {})
    namespace = owner["metadata"].get("namespace")
    if resource.namespaced and metadata.get("namespace") != namespace:
        raise ValueError(
            f"{resource.kind} {namespace}/{owner['metadata']['name']} cannot own "
            f"{child.get('kind', 'object')} {metadata.get('name')} in namespace {metadata.get('namespace')!r}: "
            "owner and dependent must share a namespace"
        )
    wanted = controller_reference(owner, resource)
    references: list[dict[str, Any]] = metadata.setdefault("ownerReferences", [])
    for reference in references:
        if reference.get("controller") and reference.get("uid") != wanted["uid"]:
            raise AlreadyOwned(
                f"{child.get('kind', 'object')} {metadata.get('name')} is already controlled by "
                f"{reference.get('kind')} {reference.get('name')}"
            )
    references[:] = [ref for ref in references if ref.get("uid") != wanted["uid"]]
    references.append(wanted)


def controller_of(meta: ObjectMeta) -> OwnerReference | None:
    """The reference to the object's controller, if it has one."""
    return meta.controller


def is_controlled_by(meta: ObjectMeta, uid: str) -> bool:
    """Whether the object with this uid is the controller."""
    controller = meta.controller
    return controller is not None and controller.uid == uid
