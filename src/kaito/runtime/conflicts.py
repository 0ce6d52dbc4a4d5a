"""Writing what several may write at a time: try again on `Conflict`, create or update, and say what happened.

A write with a resourceVersion fails when the object has changed since it was read. The remedy is always the
same, to read again and to apply the same change to what is there now; these helpers do just that, as
client-go's util/retry and controller-runtime's controllerutil do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, TypeVar

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import Conflict, NotFound
from kaito.runtime.patches import differs, merge_patch
from kaito.runtime.resources import Resource

T = TypeVar("T")
Object = dict[str, Any]
Mutate = Callable[[Object], None]


@dataclass(frozen=True, slots=True)
class RetrySteps:
    """How often to try and how long to wait in between."""

    tries: int
    """Tries altogether."""
    delay: float
    """Seconds before the second try."""
    factor: float = 1.0
    """What the delay is multiplied with from try to try."""
    jitter: float = 0.1
    """The largest share of the delay that is added at random."""


DEFAULT_RETRY = RetrySteps(tries=5, delay=0.01)
"""For writers that seldom meet (client-go's DefaultRetry)."""
DEFAULT_BACKOFF = RetrySteps(tries=4, delay=0.01, factor=5.0)
"""For an object that many write (client-go's DefaultBackoff)."""


async def retry_on_conflict(
    write: Callable[[], Awaitable[T]],
    clock: Clock,
    *,
    steps: RetrySteps = DEFAULT_RETRY,
    random: Random | None = None,
) -> T:
    """Runs `write`, again after each `Conflict`; raises the last one when the tries are used up.

    `write` must read the object anew each time it is called, or every try fails alike.
    """
    draw = Random() if random is None else random
    delay = steps.delay
    for _ in range(steps.tries - 1):
        try:
            return await write()
        except Conflict:
            await clock.sleep(delay * (1 + steps.jitter * draw.random()))
            delay *= steps.factor
    return await write()


class Outcome(StrEnum):
    """What `create_or_update` and `create_or_patch` did."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    UPDATED = "updated"
    UPDATED_STATUS = "updated status"
    """The object and its status."""
    UPDATED_STATUS_ONLY = "updated status only"


async def create_or_update(
    client: Client, res: Resource, name: str, namespace: str | None = None, *, mutate: Mutate
) -> tuple[Outcome, Object]:
    """Has `mutate` change the object as it is, or an empty one, and writes it if that made a difference.

    `mutate` changes the dict that it is given, in place. The update carries the resourceVersion, so a change by
    others in between is a `Conflict`: wrap the call in `retry_on_conflict`. Raises ValueError where `mutate`
    changes the object's name or namespace.
    """
    old, new = await _mutated(client, res, name, namespace, mutate)
    if old is None:
        return Outcome.CREATED, await client.create(res, new)
    if not differs(old, new):
        return Outcome.UNCHANGED, old
    return Outcome.UPDATED, await client.update(res, new)


async def create_or_patch(
    client: Client, res: Resource, name: str, namespace: str | None = None, *, mutate: Mutate
) -> tuple[Outcome, Object]:
    """The same with merge patches of the difference, without resourceVersion, and for the status too.

    Others may write other fields meanwhile. For resources with a status subresource.
    """
    old, new = await _mutated(client, res, name, namespace, mutate)
    status = new.get("status")
    if old is None:
        created = await client.create(res, new)
        if status is None:
            return Outcome.CREATED, created
        return Outcome.CREATED, await client.patch_status(res, name, namespace, status)
    patch = merge_patch(old, new)
    status_patch = {"status": patch.pop("status")} if "status" in patch else {}
    answer = old
    if patch:
        answer = await client.patch(res, name, namespace, patch=patch)
    if status_patch:
        answer = await client.patch(res, name, namespace, patch=status_patch, subresource="status")
    if patch and status_patch:
        return Outcome.UPDATED_STATUS, answer
    if status_patch:
        return Outcome.UPDATED_STATUS_ONLY, answer
    return (Outcome.UPDATED if patch else Outcome.UNCHANGED), answer


async def _mutated(
    client: Client, res: Resource, name: str, namespace: str | None, mutate: Mutate
) -> tuple[Object | None, Object]:
    """The object on the server (None: there is none), and what `mutate` makes of it."""
    identity = {"name": name, **({"namespace": namespace} if namespace else {})}
    old: Object | None
    try:
        old = await client.get(res, name, namespace)
    except NotFound:
        old = None
        new: Object = {"apiVersion": res.api_version, "kind": res.kind, "metadata": dict(identity)}
    else:
        new = deepcopy(old)
    mutate(new)
    metadata = new.get("metadata") or {}
    if any(metadata.get(key) != value for key, value in identity.items()):
        raise ValueError(f"mutate must not change name or namespace of {res.name} {name!r}")
    return old, new
