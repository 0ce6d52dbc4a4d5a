"""The client's verbs, against whichever API server answers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from kaito.runtime.client import PatchType
from kaito.runtime.errors import AlreadyExists, ApiError, Conflict, Forbidden, Gone, Invalid, NotFound
from kaito.runtime.resources import CONFIGMAPS, DEPLOYMENTS, LEASES, NAMESPACES, PODS, Resource
from support.cluster import World, definition

pytestmark = pytest.mark.needs("api")


def config_map(world: World, name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {"metadata": world.meta(name, **({"labels": labels} if labels else {})), "data": data}


def pod(world: World, name: str) -> dict[str, Any]:
    return {
        "metadata": world.meta(name),
        "spec": {"containers": [{"name": "main", "image": "example.com/app:1"}]},
    }


async def test_a_life_of_an_object(world: World) -> None:
    client = world.client
    made = await client.create(CONFIGMAPS, config_map(world, "a", k="1"))
    assert made["metadata"]["uid"]
    with pytest.raises(AlreadyExists):
        await client.create(CONFIGMAPS, config_map(world, "a"))
    assert await client.get(CONFIGMAPS, "a", world.namespace) == made | {
        "apiVersion": "v1",
        "kind": "ConfigMap",
    }
    updated = await client.update(CONFIGMAPS, {**made, "data": {"k": "2"}})
    assert updated["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await client.update(CONFIGMAPS, {**made, "data": {"k": "3"}})
    again = await client.update(CONFIGMAPS, updated)
    assert again["metadata"]["resourceVersion"] == updated["metadata"]["resourceVersion"], "nothing changed"
    for precondition in ({"uid": "another"}, {"resource_version": made["metadata"]["resourceVersion"]}):
        with pytest.raises(Conflict):
            await client.delete(CONFIGMAPS, "a", world.namespace, **precondition)
    assert await client.delete(CONFIGMAPS, "a", world.namespace) is not None
    assert await client.delete(CONFIGMAPS, "a", world.namespace) is None
    with pytest.raises(NotFound):
        await client.get(CONFIGMAPS, "a", world.namespace)


async def test_refusals_say_what_is_wrong(world: World) -> None:
    client = world.client
    with pytest.raises(Invalid) as refused:
        await client.create(CONFIGMAPS, config_map(world, "Not_A_Name"))
    assert refused.value.status == 422
    assert "metadata.name" in str(refused.value)
    with pytest.raises(NotFound):
        await client.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": f"{world.namespace}-absent"}})
    with pytest.raises(NotFound):
        await client.list(Resource("nothing.example.com", "v1", "things", "Thing"))
    with pytest.raises(ApiError) as bad:
        await client.list(CONFIGMAPS, world.namespace, label_selector="a in (b")
    assert bad.value.status == 400
    with pytest.raises(Forbidden):
        await client.delete(NAMESPACES, "kube-system")


async def test_patches(world: World) -> None:
    client, space = world.client, world.namespace
    await client.create(CONFIGMAPS, config_map(world, "a", k="1", gone="x"))
    merged = await client.patch(CONFIGMAPS, "a", space, patch={"data": {"k": "2", "gone": None}})
    assert merged["data"] == {"k": "2"}
    operations = [
        {"op": "test", "path": "/data/k", "value": "2"},
        {"op": "add", "path": "/data/j", "value": "x"},
    ]
    patched = await client.patch(CONFIGMAPS, "a", space, patch=operations, patch_type=PatchType.JSON)
    assert patched["data"] == {"k": "2", "j": "x"}
    with pytest.raises(Invalid):
        await client.patch(
            CONFIGMAPS,
            "a",
            space,
            patch=operations[:1] * 2 + [{"op": "test", "path": "/data/k", "value": "other"}],
            patch_type=PatchType.JSON,
        )
    await client.create(PODS, pod(world, "p"))
    image = {"spec": {"containers": [{"name": "main", "image": "example.com/app:2"}]}}
    changed = await client.patch(PODS, "p", space, patch=image, patch_type=PatchType.STRATEGIC)
    assert [each["image"] for each in changed["spec"]["containers"]] == ["example.com/app:2"]


async def test_apply_owns_fields(world: World) -> None:
    one, two = (world.client.named(name, name) for name in ("one", "two"))
    made = await one.apply(CONFIGMAPS, config_map(world, "a", k="1", mine="x"))
    again = await one.apply(CONFIGMAPS, config_map(world, "a", k="1", mine="x"))
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict) as conflict:
        await two.apply(CONFIGMAPS, config_map(world, "a", k="2"), force=False)
    assert "one" in str(conflict.value)
    await two.apply(CONFIGMAPS, config_map(world, "a", k="2"))
    left = await one.apply(CONFIGMAPS, config_map(world, "a"), force=False)
    assert left["data"] == {"k": "2"}, "what nobody owns goes, what another took stays"


async def test_status_is_a_subresource(world: World) -> None:
    client, group = world.client, f"{world.namespace}.example.com"
    gadgets = Resource(group, "v1", "gadgets", "Gadget")
    await world.define(definition(group, size={"type": "integer", "default": 3}))
    made = await client.create(
        gadgets,
        {
            "apiVersion": gadgets.api_version,
            "kind": "Gadget",
            "metadata": world.meta("g"),
            "spec": {},
            "status": {"x": 1},
        },
    )
    assert made["spec"] == {"size": 3}
    assert "status" not in made
    stated = await client.patch_status(gadgets, "g", world.namespace, {"phase": "Ready"})
    assert stated["status"] == {"phase": "Ready"}
    assert stated["metadata"]["generation"] == 1
    both = {**stated, "spec": {"size": 5}, "status": {"phase": "Lost"}}
    updated = await client.update(gadgets, both)
    assert (updated["spec"], updated["status"]) == ({"size": 5}, {"phase": "Ready"})
    assert updated["metadata"]["generation"] == 2
    with pytest.raises(Conflict):
        await client.patch_status(
            gadgets,
            "g",
            world.namespace,
            {"phase": "Old"},
            resource_version=made["metadata"]["resourceVersion"],
        )
    with pytest.raises(Invalid) as refused:
        await client.patch(gadgets, "g", world.namespace, patch={"spec": {"size": "big"}})
    assert "spec.size" in str(refused.value)


async def test_lists_in_pages_and_selections(world: World) -> None:
    client, space = world.client, world.namespace
    for number in range(7):
        labels = {"parity": "even" if number % 2 == 0 else "odd"}
        await client.create(CONFIGMAPS, config_map(world, f"m{number}", labels))

    async def names(**selection: Any) -> list[str]:
        found = await client.list(CONFIGMAPS, space, **selection)
        return [each["metadata"]["name"] for each in found if each["metadata"]["name"][0] == "m"]

    assert await names(limit=2) == [f"m{number}" for number in range(7)]
    assert await names(label_selector="parity=odd") == ["m1", "m3", "m5"]
    assert await names(label_selector="parity notin (odd)", limit=1) == ["m0", "m2", "m4", "m6"]
    assert await names(label_selector="parity,parity!=even") == ["m1", "m3", "m5"]
    assert await names(field_selector="metadata.name=m4") == ["m4"]
    assert await names(field_selector=f"metadata.namespace={space},metadata.name!=m4", limit=3) == [
        f"m{number}" for number in range(7) if number != 4
    ]
    pages = [page async for page in client.pages(CONFIGMAPS, space, limit=3)]
    assert len({page.resource_version for page in pages}) == 1, "one snapshot"
    assert [len(page.items) for page in pages[:-1]] == [3] * (len(pages) - 1)


async def test_scale_dry_run_and_collections(world: World) -> None:
    client, space = world.client, world.namespace
    labels = {"matchLabels": {"app": "web"}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod(world, "x")["spec"]}
    await client.create(
        DEPLOYMENTS,
        {"metadata": world.meta("web"), "spec": {"replicas": 1, "selector": labels, "template": template}},
    )
    await client.scale(DEPLOYMENTS, "web", space, replicas=3)
    assert (await client.get_scale(DEPLOYMENTS, "web", space))["spec"]["replicas"] == 3
    assert (await client.get(DEPLOYMENTS, "web", space))["spec"]["replicas"] == 3
    await client.create(CONFIGMAPS, config_map(world, "dry"), dry_run=True)
    assert await world.find(CONFIGMAPS, "dry") is None
    for name in ("a", "b", "keep"):
        await client.create(CONFIGMAPS, config_map(world, name, {"keep": str(name == "keep").lower()}))
    await client.delete_collection(CONFIGMAPS, space, label_selector="keep=false")
    left = await client.list(CONFIGMAPS, space, label_selector="keep")
    assert [each["metadata"]["name"] for each in left] == ["keep"]


async def test_two_writers_and_one_lock(world: World) -> None:
    lease = await world.client.create(LEASES, {"metadata": world.meta("l"), "spec": {"holderIdentity": "a"}})
    answers = await asyncio.gather(
        *(
            world.client.update(LEASES, {**lease, "spec": {"holderIdentity": holder}})
            for holder in ("b", "c")
        ),
        return_exceptions=True,
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "dict"]


async def test_a_watch_resumes_where_it_was_and_the_past_ends_with_compaction(world: World) -> None:
    client, space = world.client, world.namespace
    first = await client.create(LEASES, {"metadata": world.meta("a")})
    version = first["metadata"]["resourceVersion"]
    await client.patch(LEASES, "a", space, patch={"spec": {"holderIdentity": "x"}})
    await client.create(LEASES, {"metadata": world.meta("b")})
    await client.delete(LEASES, "a", space)
    for _ in range(2):
        seen = []
        async with aclosing(client.watch(LEASES, space, resource_version=version)) as watch:
            async for event in watch:
                if event.type != "BOOKMARK":
                    seen.append((event.type, event.object["metadata"]["name"]))
                if len(seen) == 3:
                    break
        assert seen == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    await world.backend.compact()
    async with aclosing(client.watch(LEASES, space, resource_version=version)) as watch:
        with pytest.raises(Gone):
            await anext(watch)
