"""Finalizers: clean up before an object goes, and lose nobody else's finalizer on the way.

Adding and removing are JSON patches that first test what they rely on, so two controllers that change the
list at the same moment never overwrite one another, and an object made anew under the same name is never meant:
the patch is refused, and its key tried again. Each phase that can fail has an error class of its own that names
the object.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kaito.runtime.client import Client, PatchType
from kaito.runtime.errors import ApiError, NotFound, TransportError
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import Resource
from kaito.runtime.result import Result, TerminalError


class FinalizerError(Exception):
    """A phase of an object's life under a finalizer failed; the cause is `__cause__`."""

    phase = "finalizer"

    def __init__(self, obj: CachedObject, finalizer: str, cause: Exception) -> None:
        super().__init__(f"{self.phase} of {obj.key} ({finalizer}): {cause}")
        self.key = obj.key
        self.finalizer = finalizer


class AddFinalizerError(FinalizerError):
    phase = "adding the finalizer"


class RemoveFinalizerError(FinalizerError):
    phase = "removing the finalizer"


class ApplyError(FinalizerError):
    phase = "apply"


class CleanupError(FinalizerError):
    phase = "cleanup"


async def add_finalizer(client: Client, resource: Resource, obj: CachedObject, finalizer: str) -> None:
    """Adds `finalizer` unless it is there or the object is being deleted (when the API refuses new ones)."""
    meta = obj.meta
    if finalizer in meta.finalizers or meta.deletion_timestamp is not None:
        return
    patch: list[dict[str, Any]]
    if meta.finalizers:
        patch = [
            {"op": "test", "path": "/metadata/finalizers", "value": meta.finalizers},
            {"op": "add", "path": "/metadata/finalizers/-", "value": finalizer},
        ]
    else:
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
            {"op": "add", "path": "/metadata/finalizers", "value": [finalizer]},
        ]
    patch = [*_same_object(obj), *patch]
    try:
        await client.patch(resource, meta.name, meta.namespace, patch=patch, patch_type=PatchType.JSON)
    except (ApiError, TransportError) as error:
        raise AddFinalizerError(obj, finalizer, error) from error


async def remove_finalizer(client: Client, resource: Resource, obj: CachedObject, finalizer: str) -> None:
    """Removes `finalizer`; an object that is already gone is as good."""
    meta = obj.meta
    if finalizer not in meta.finalizers:
        return
    path = f"/metadata/finalizers/{meta.finalizers.index(finalizer)}"
    patch = [
        *_same_object(obj),
        {"op": "test", "path": path, "value": finalizer},
        {"op": "remove", "path": path},
    ]
    try:
        await client.patch(resource, meta.name, meta.namespace, patch=patch, patch_type=PatchType.JSON)
    except NotFound:
        return
    except (ApiError, TransportError) as error:
        raise RemoveFinalizerError(obj, finalizer, error) from error


def _same_object(obj: CachedObject) -> list[dict[str, Any]]:
    """The test that keeps a patch off a namesake that was made after our copy was read."""
    return [{"op": "test", "path": "/metadata/uid", "value": obj.meta.uid}] if obj.meta.uid else []


Phase = Callable[[CachedObject], Awaitable[Result | None]]


async def with_finalizer(
    client: Client, resource: Resource, obj: CachedObject, finalizer: str, *, apply: Phase, cleanup: Phase
) -> Result | None:
    """One reconcile of an object that has something to clean up.

    Adds the finalizer first (the change brings the key back), then runs `apply`; once the object is being
    deleted, runs `cleanup` until it returns None, and removes the finalizer. A `Result` from `cleanup` means:
    not through yet.
    """
    if obj.meta.deletion_timestamp is None:
        if finalizer not in obj.meta.finalizers:
            await add_finalizer(client, resource, obj, finalizer)
            return None
        return await _run(ApplyError, apply, obj, finalizer)
    if finalizer not in obj.meta.finalizers:
        return None
    result = await _run(CleanupError, cleanup, obj, finalizer)
    if result is None:
        await remove_finalizer(client, resource, obj, finalizer)
    return result


async def _run(error: type[FinalizerError], phase: Phase, obj: CachedObject, finalizer: str) -> Result | None:
    try:
        return await phase(obj)
    except TerminalError:
        raise
    except Exception as cause:
        raise error(obj, finalizer, cause) from cause
