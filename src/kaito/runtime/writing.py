"""Writing to the API server: create, update, patch, apply, delete and the usual subresources.

Bodies are plain dicts: nothing is added to them and nothing is dropped. Whoever keeps a cache learns of each
write that was accepted (`on_write`), so that nobody acts on a cache older than his own writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kaito.runtime.errors import NotFound
from kaito.runtime.patches import PatchType
from kaito.runtime.reading import with_type
from kaito.runtime.resources import ObjectKey, Resource
from kaito.runtime.rest import Object, Parameters, RestClient
from kaito.runtime.writes import Write

FieldValidation = Literal["Ignore", "Warn", "Strict"]
"""What the server does about unknown and repeated fields; its default is Warn."""

Propagation = Literal["Background", "Foreground", "Orphan"]
"""What becomes of the objects that a deleted one owns."""


class Writing(RestClient):
    """The writing half of `Client`."""

    async def create(
        self,
        res: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: FieldValidation | None = None,
    ) -> Object:
        """POST; `namespace` defaults to the body's. `metadata.generateName` lets the server choose the name.

        With `subresource` (eviction, token, binding) the body's name says of which object. With `dry_run` the
        server does everything but keep the result.
        """
        metadata = body.get("metadata") or {}
        path = res.path(
            namespace or metadata.get("namespace"),
            metadata["name"] if subresource else None,
            subresource or None,
        )
        if res.namespaced and "/namespaces/" not in path:
            raise ValueError(f"create {res.name}: neither a namespace argument nor metadata.namespace is set")
        query = self._query(dry_run, field_validation)
        answer = await self.json("POST", path, query=query, body=body)
        return self._written(res, answer, dry_run)

    async def update(
        self,
        res: Resource,
        body: Mapping[str, Any],
        *,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: FieldValidation | None = None,
    ) -> Object:
        """PUT the whole object; its resourceVersion decides whether a concurrent change is a `Conflict`."""
        metadata = body["metadata"]
        path = res.path(metadata.get("namespace"), metadata["name"], subresource or None)
        query = self._query(dry_run, field_validation)
        return self._written(res, await self.json("PUT", path, query=query, body=body), dry_run)

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
        dry_run: bool = False,
        field_validation: FieldValidation | None = None,
    ) -> Object:
        """PATCH; `patch` is a list for `PatchType.JSON` and a map otherwise.

        `force` only matters for APPLY. STRATEGIC is for built-in resources: custom ones answer with
        `UnsupportedMediaType`.
        """
        query = self._query(dry_run, field_validation)
        if patch_type is PatchType.APPLY:
            query.append(("force", "true" if force else "false"))
        path = res.path(namespace, name, subresource or None)
        answer = await self.json("PATCH", path, query=query, body=patch, content_type=patch_type.value)
        return self._written(res, answer, dry_run)

    async def apply(
        self,
        res: Resource,
        body: Mapping[str, Any],
        *,
        force: bool = True,
        subresource: str = "",
        dry_run: bool = False,
        field_validation: FieldValidation | None = None,
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
            patch=with_type(body, res),
            patch_type=PatchType.APPLY,
            subresource=subresource,
            force=force,
            dry_run=dry_run,
            field_validation=field_validation,
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

    async def get_scale(self, res: Resource, name: str, namespace: str | None = None) -> Object:
        """The autoscaling/v1 Scale of anything that has replicas: wanted in `spec`, counted in `status`."""
        return await self.json("GET", res.path(namespace, name, "scale"))

    async def scale(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        replicas: int,
        resource_version: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Sets the number of replicas and returns the Scale.

        With `resource_version` the call fails with `Conflict` when the object has changed since.
        """
        patch: Object = {"spec": {"replicas": replicas}}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": resource_version}
        return await self.patch(res, name, namespace, patch=patch, subresource="scale", dry_run=dry_run)

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation | str | None = "Background",
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period: int | None = None,
        dry_run: bool = False,
    ) -> Object | None:
        """DELETE. Returns the object or Status that the server sent, None when the object was already gone.

        `propagation` is Background, Foreground, Orphan or None (the resource's default); `uid` and
        `resource_version` are preconditions (`Conflict` when they do not hold); `grace_period` is in seconds.
        """
        preconditions = {
            **({"uid": uid} if uid is not None else {}),
            **({"resourceVersion": resource_version} if resource_version is not None else {}),
        }
        options = _delete_options(propagation, grace_period, preconditions)
        query = self._query(dry_run, None, manager=False)
        try:
            answer = await self.json("DELETE", res.path(namespace, name), query=query, body=options)
        except NotFound:
            return None
        if not dry_run and self.on_write is not None:
            self.on_write(_deletion(res, ObjectKey(namespace if res.namespaced else None, name), answer))
        return answer

    async def delete_collection(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation: Propagation | None = "Background",
        grace_period: int | None = None,
        dry_run: bool = False,
    ) -> list[Object]:
        """Deletes all matching objects in one request and returns them as they were.

        A namespaced resource needs a namespace: servers do not delete across namespaces. Objects that appear while
        the server is at it may stay. No preconditions: `delete` has them.
        """
        if res.namespaced and not namespace:
            raise ValueError(f"delete_collection of {res.name} needs a namespace: it cannot span several")
        query = self._query(dry_run, None, manager=False)
        query += [("labelSelector", label_selector)] if label_selector else []
        query += [("fieldSelector", field_selector)] if field_selector else []
        options = _delete_options(propagation, grace_period, {})
        answer = await self.json("DELETE", res.path(namespace), query=query, body=options)
        deleted = [with_type(item, res) for item in answer.get("items") or ()]
        if not dry_run and self.on_write is not None:
            for item in deleted:
                self.on_write(_collected(res, item))
        return deleted

    def _query(
        self, dry_run: bool, field_validation: FieldValidation | None, *, manager: bool = True
    ) -> Parameters:
        return [
            *([("fieldManager", self.field_manager)] if manager and self.field_manager else []),
            *([("dryRun", "All")] if dry_run else []),
            *([("fieldValidation", field_validation)] if field_validation else []),
        ]

    def _written(self, res: Resource, answer: Object, dry_run: bool) -> Object:
        """Reports the write; answers that name no version (Eviction, TokenRequest) changed no object."""
        metadata = answer.get("metadata") or {}
        if not dry_run and self.on_write is not None and metadata.get("resourceVersion"):
            self.on_write(_write(res, answer, metadata["resourceVersion"], deleted=False))
        return answer


def _delete_options(
    propagation: str | None, grace_period: int | None, preconditions: Mapping[str, str]
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        **({"propagationPolicy": propagation} if propagation is not None else {}),
        **({"preconditions": preconditions} if preconditions else {}),
        **({"gracePeriodSeconds": grace_period} if grace_period is not None else {}),
    }


def _write(res: Resource, tree: Object, version: str, *, deleted: bool) -> Write:
    metadata = tree["metadata"]
    return Write(
        resource=res,
        key=ObjectKey(metadata.get("namespace"), str(metadata.get("name") or "")),
        uid=str(metadata.get("uid") or ""),
        resource_version=version,
        deleted=deleted,
        labels=metadata.get("labels") or {},
    )


def _deletion(res: Resource, key: ObjectKey, answer: Object) -> Write:
    """A Status means that the object is gone; an object, that it stays until its finalizers or pods are."""
    metadata = answer.get("metadata") or {}
    if metadata.get("resourceVersion") and metadata.get("name"):
        return _write(res, answer, metadata["resourceVersion"], deleted=True)
    uid = (answer.get("details") or {}).get("uid") or ""
    return Write(resource=res, key=key, uid=str(uid), resource_version="", deleted=True, labels={})


def _collected(res: Resource, item: Object) -> Write:
    """The server lists objects as they were: seen is any version after that."""
    version = str(item["metadata"].get("resourceVersion") or "")
    return _write(res, item, str(int(version) + 1) if version.isdecimal() else version, deleted=True)
