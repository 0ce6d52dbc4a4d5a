"""RBAC: who may not follow is told so, and follows when the right comes (back)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from kaito.runtime.cache import InformerCache
from kaito.runtime.errors import Forbidden
from kaito.runtime.informer import Informer
from kaito.runtime.resources import CONFIGMAPS, Resource
from support.cluster import Object, Wire, World

pytestmark = pytest.mark.needs("api")

ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLEBINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")


async def grant(world: World, user: str, *verbs: str) -> None:
    """Lets a user do this with ConfigMaps of the test's namespace."""
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": list(verbs)}
    await world.client.apply(ROLES, {"metadata": world.meta("reader"), "rules": [rule]})
    binding: Object = {
        "metadata": world.meta("reader"),
        "roleRef": {"apiGroup": ROLES.group, "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": ROLES.group, "kind": "User", "name": user}],
    }
    await world.client.apply(ROLEBINDINGS, binding)


def names(informer: Informer) -> list[str]:
    return sorted(each.meta.name for each in informer.lister.list() if each.meta.name.startswith("m"))


async def test_a_right_is_a_verb_on_a_resource_in_a_namespace(world: World) -> None:
    client = world.connect("limited", "limited", wire=Wire(world.backend, "limited"))
    with pytest.raises(Forbidden) as refused:
        await client.list(CONFIGMAPS, world.namespace)
    assert (
        f'configmaps is forbidden: User "limited" cannot list resource "configmaps" in API group "" '
        f'in the namespace "{world.namespace}"'
    ) in str(refused.value)
    await grant(world, "limited", "list", "create")

    async def allowed() -> bool:
        try:
            await client.list(CONFIGMAPS, world.namespace)
        except Forbidden:
            return False
        return True

    await world.until(allowed, "the binding is in force")
    await client.create(CONFIGMAPS, {"metadata": world.meta("m")})
    for forbidden in (
        client.get(CONFIGMAPS, "m", world.namespace),
        client.list(CONFIGMAPS),
        client.list(CONFIGMAPS, "default"),
        client.delete(CONFIGMAPS, "m", world.namespace),
        client.patch(CONFIGMAPS, "m", world.namespace, patch={}),
    ):
        with pytest.raises(Forbidden):
            await forbidden
    assert await world.find(CONFIGMAPS, "m") is not None


async def test_rights_taken_away_and_given_back_under_an_informer(world: World) -> None:
    await grant(world, "follower", "list", "watch")
    wire = Wire(world.backend, "follower")
    cache = InformerCache(world.connect("follower", wire=wire))
    informer = cache.informer(CONFIGMAPS, namespace=world.namespace)
    await world.client.create(CONFIGMAPS, {"metadata": world.meta("m1")})
    async with world.running(cache):
        await cache.wait_synced()
        assert names(informer) == ["m1"]

        await world.client.delete(ROLEBINDINGS, "reader", world.namespace)
        # A watch that is open goes on; it is the next one that is refused.
        await wire.cut()
        wire.mend()
        await world.until(lambda: isinstance(informer.last_error, Forbidden), "the refusal is known")
        assert "follower" in str(informer.last_error)
        await world.client.create(CONFIGMAPS, {"metadata": world.meta("m2")})
        assert names(informer) == ["m1"], "the last known state stays readable"

        await grant(world, "follower", "list", "watch")
        await world.until(lambda: names(informer) == ["m1", "m2"], "it has caught up")
        await world.until(lambda: informer.last_error is None, "the error has gone")
    refusals = [each for each in world.requests if each.user_agent == "follower" and each.code == "403"]
    assert 0 < len(refusals) < 60, "it waits between its tries"


def review(kind: str, **spec: Any) -> tuple[str, str, Object]:
    """Method, path and body of a question about one's own rights."""
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    return "POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body


async def test_everybody_may_ask_what_he_may_do(world: World) -> None:
    user = f"asker-{world.namespace}"
    client = world.connect("asker", wire=Wire(world.backend, user))

    async def may(verb: str, **more: str) -> bool:
        wanted = {"verb": verb, "resource": "configmaps", "namespace": world.namespace, **more}
        method, path, body = review("SelfSubjectAccessReview", resourceAttributes=wanted)
        return bool((await client.json(method, path, body=body))["status"]["allowed"])

    async def rules() -> list[Object]:
        method, path, body = review("SelfSubjectRulesReview", namespace=world.namespace)
        found = (await client.json(method, path, body=body))["status"]["resourceRules"]
        return [each for each in found if "configmaps" in each["resources"]]

    assert not await may("list")
    assert await rules() == []
    await grant(world, user, "list")
    await world.until(partial(may, "list"), "the binding is in force")
    assert not await may("create")
    assert not await may("list", namespace="default")
    assert not await may("list", resource="secrets")
    assert await rules() == [{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]


async def test_a_watch_of_one_object_is_a_request_for_its_name(world: World) -> None:
    user = f"watcher-{world.namespace}"
    client = world.connect("watcher", wire=Wire(world.backend, user))
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"], "resourceNames": ["mine"]}
    await grant(world, user, "list")
    await world.client.apply(ROLES, {"metadata": world.meta("reader"), "rules": [rule]})

    async def allowed(**selector: str) -> bool:
        try:
            await client.list(CONFIGMAPS, world.namespace, **selector)
        except Forbidden:
            return False
        return True

    await world.until(lambda: allowed(field_selector="metadata.name=mine"), "the binding is in force")

    async def refused() -> bool:
        return not await allowed()

    await world.until(refused, "the smaller role is in force")
    assert not await allowed(field_selector="metadata.name=other")
