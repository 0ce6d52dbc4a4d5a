"""Owner references and finalizers."""

from __future__ import annotations

from typing import Any

import pytest

from fakeapi import FakeApi
from kaito.runtime.errors import ApiError
from kaito.runtime.finalizers import (
    AddFinalizerError,
    ApplyError,
    CleanupError,
    RemoveFinalizerError,
    add_finalizer,
    remove_finalizer,
    with_finalizer,
)
from kaito.runtime.objects import CachedObject
from kaito.runtime.owners import (
    AlreadyOwned,
    controller_of,
    controller_reference,
    is_controlled_by,
    set_controller,
)
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, NODES
from kaito.runtime.result import Result, TerminalError
from kaito.runtime.testing.virtual import VirtualClock

OWNER = {"metadata": {"name": "d", "namespace": "n", "uid": "u1"}}
OURS = "example.io/ours"


def test_a_controller_reference_blocks_the_owners_deletion() -> None:
    assert controller_reference(OWNER, DEPLOYMENTS) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "d",
        "uid": "u1",
        "controller": True,
        "blockOwnerDeletion": True,
    }


def test_set_controller_is_idempotent_and_keeps_other_owners() -> None:
    other = {"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "u2"}
    child: dict[str, Any] = {"metadata": {"name": "c", "namespace": "n", "ownerReferences": [other]}}
    set_controller(child, OWNER, DEPLOYMENTS)
    set_controller(child, OWNER, DEPLOYMENTS)
    assert [reference["uid"] for reference in child["metadata"]["ownerReferences"]] == ["u2", "u1"]
    meta = CachedObject.from_dict(child).meta
    assert is_controlled_by(meta, "u1")
    assert not is_controlled_by(meta, "u2")
    controller = controller_of(meta)
    assert controller is not None
    assert controller.name == "d"


def test_an_object_has_one_controller() -> None:
    child: dict[str, Any] = {"metadata": {"name": "c", "namespace": "n"}}
    set_controller(child, OWNER, DEPLOYMENTS)
    with pytest.raises(AlreadyOwned, match="controlled by Deployment d"):
        set_controller(child, {"metadata": {"name": "e", "namespace": "n", "uid": "u5"}}, DEPLOYMENTS)


def test_an_owner_in_another_namespace_is_refused_but_a_cluster_scoped_one_is_fine() -> None:
    child: dict[str, Any] = {"metadata": {"name": "c", "namespace": "elsewhere"}}
    with pytest.raises(ValueError, match="must share a namespace"):
        set_controller(child, OWNER, DEPLOYMENTS)
    set_controller(child, {"metadata": {"name": "node", "uid": "u3"}}, NODES)


class Rig:
    def __init__(self, clock: VirtualClock, **meta: Any) -> None:
        self.api = FakeApi(clock)
        self.client = self.api.client()
        self.stale = self.put(**meta)

    def put(self, **meta: Any) -> CachedObject:
        tree = self.api.put(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "n", **meta}})
        return CachedObject.from_dict(tree, CONFIGMAPS)

    def finalizers(self) -> list[str] | None:
        tree = self.api.get(CONFIGMAPS, "c", "n")
        return None if tree is None else list(tree["metadata"].get("finalizers") or [])


async def test_the_first_finalizer_is_added_only_to_the_version_we_saw(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock)
    await add_finalizer(rig.client, CONFIGMAPS, rig.stale, OURS)
    assert rig.finalizers() == [OURS]
    with pytest.raises(AddFinalizerError, match=r"adding the finalizer of n/c \(example.io/second\)"):
        await add_finalizer(rig.client, CONFIGMAPS, rig.stale, "example.io/second")
    assert rig.finalizers() == [OURS]


async def test_nobody_elses_finalizer_is_lost(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, finalizers=["x/theirs"])
    rig.put(finalizers=["x/theirs", "x/more"])
    with pytest.raises(AddFinalizerError):
        await add_finalizer(rig.client, CONFIGMAPS, rig.stale, OURS)
    assert rig.finalizers() == ["x/theirs", "x/more"]
    fresh = rig.put(finalizers=["x/theirs", OURS])
    rig.put(finalizers=[OURS])
    with pytest.raises(RemoveFinalizerError):
        await remove_finalizer(rig.client, CONFIGMAPS, fresh, OURS)
    assert rig.finalizers() == [OURS]


async def test_an_object_made_anew_under_the_name_is_not_meant(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, finalizers=[OURS])
    rig.api.remove(CONFIGMAPS, "c", "n")
    fresh = rig.put(finalizers=[OURS])
    assert fresh.meta.uid != rig.stale.meta.uid
    with pytest.raises(RemoveFinalizerError):
        await remove_finalizer(rig.client, CONFIGMAPS, rig.stale, OURS)
    with pytest.raises(AddFinalizerError):
        await add_finalizer(rig.client, CONFIGMAPS, rig.stale, "x/another")
    assert rig.finalizers() == [OURS]


async def test_what_is_as_it_should_be_costs_no_request(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, finalizers=[OURS])
    await add_finalizer(rig.client, CONFIGMAPS, rig.stale, OURS)
    await remove_finalizer(rig.client, CONFIGMAPS, rig.stale, "x/absent")
    dying = CachedObject.from_dict(
        {"metadata": {"name": "c", "namespace": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    )
    await add_finalizer(rig.client, CONFIGMAPS, dying, OURS)
    assert rig.api.writes() == []


async def test_removing_from_an_object_that_is_gone_is_fine(virtual_clock: VirtualClock) -> None:
    rig = Rig(virtual_clock, finalizers=[OURS])
    rig.api.remove(CONFIGMAPS, "c", "n")
    await remove_finalizer(rig.client, CONFIGMAPS, rig.stale, OURS)


async def test_a_life_under_a_finalizer(virtual_clock: VirtualClock) -> None:
    rig, calls = Rig(virtual_clock), list[str]()
    answers: list[Result | None] = [Result(requeue_after=5), None]

    async def apply(obj: CachedObject) -> Result | None:
        calls.append("apply")
        return Result(requeue_after=60)

    async def cleanup(obj: CachedObject) -> Result | None:
        calls.append("cleanup")
        return answers.pop(0)

    async def once() -> Result | None:
        tree = rig.api.get(CONFIGMAPS, "c", "n")
        assert tree is not None
        obj = CachedObject.from_dict(tree, CONFIGMAPS)
        return await with_finalizer(rig.client, CONFIGMAPS, obj, OURS, apply=apply, cleanup=cleanup)

    assert await once() is None
    assert (calls, rig.finalizers()) == ([], [OURS])
    assert await once() == Result(requeue_after=60)
    await rig.client.delete(CONFIGMAPS, "c", "n")
    assert await once() == Result(requeue_after=5)
    assert rig.finalizers() == [OURS]
    assert await once() is None
    assert rig.finalizers() is None
    assert calls == ["apply", "cleanup", "cleanup"]


@pytest.mark.parametrize(("deleted", "error"), [(False, ApplyError), (True, CleanupError)])
async def test_errors_name_the_phase(
    virtual_clock: VirtualClock, deleted: bool, error: type[Exception]
) -> None:
    meta = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}
    tree = {"metadata": {"name": "c", "namespace": "n", "finalizers": [OURS], **meta}}
    obj = CachedObject.from_dict(tree, CONFIGMAPS)
    client = FakeApi(virtual_clock).client()

    async def fail(obj: CachedObject) -> Result | None:
        raise ApiError("no room")

    async def fail_for_good(obj: CachedObject) -> Result | None:
        raise TerminalError("never")

    with pytest.raises(error, match="n/c"):
        await with_finalizer(client, CONFIGMAPS, obj, OURS, apply=fail, cleanup=fail)
    with pytest.raises(TerminalError):
        await with_finalizer(client, CONFIGMAPS, obj, OURS, apply=fail_for_good, cleanup=fail_for_good)
