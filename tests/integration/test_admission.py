"""One webhook server, called by both API servers over TLS."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime.errors import ApiError, Forbidden, InternalError
from kaito.runtime.resources import CONFIGMAPS, NAMESPACES, SECRETS, ObjectKey, Resource
from kaito.runtime.webhook import AdmissionRequest, Allow, Cause, Deny, WebhookOptions, WebhookServer
from kaito.runtime.webhook.certificates import (
    MUTATING,
    VALIDATING,
    CertificateKeeper,
    CertificateOptions,
)
from kaito.runtime.webhook.pki import make_certificates
from support.cluster import Wire, World
from support.webhooks import made, write_pair

ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")

pytestmark = pytest.mark.needs("api")
CHECK = "/validate--v1-configmap"
CHANGE = "/mutate--v1-configmap"


class Hooks:
    """A webhook server that judges ConfigMaps, and what it was asked."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory
        self.asked: list[AdmissionRequest] = []
        options = WebhookOptions(address="127.0.0.1:0", directory=directory, poll_interval=0.05)
        self.server = WebhookServer(clock=world.clock, options=options)
        self.server.validate(CONFIGMAPS)(self.check)
        self.server.mutate(CONFIGMAPS)(self.change)

    def check(self, request: AdmissionRequest) -> Allow | Deny:
        self.asked.append(request)
        data = ((request.object or request.old_object or {}).get("data")) or {}
        if data.get("size") == "big":
            causes = [
                Cause("data.size", "must be small"),
                Cause("data.other", "is missing", "FieldValueRequired"),
            ]
            return Deny("the map is invalid", causes=causes)
        return Allow(warnings=["size is deprecated"] if "size" in data else [])

    def change(self, request: AdmissionRequest) -> dict[str, Any] | None:
        assert request.object is not None
        request.object.setdefault("data", {}).setdefault("colour", "red")
        request.object["metadata"].setdefault("labels", {})["seen/by"] = "hook"
        return request.object

    def configuration(self, name: str, path: str, bundle: bytes | None, **more: Any) -> dict[str, Any]:
        client: dict[str, Any] = {"url": f"https://localhost:{self.server.port}{path}"}
        if bundle is not None:
            client["caBundle"] = b64encode(bundle).decode()
        rule = {
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }
        hook = {
            "name": f"{name}.example.com",
            "clientConfig": client,
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.world.namespace}},
            **more,
        }
        return {"metadata": {"name": f"{name}-{self.world.namespace}"}, "webhooks": [hook]}

    async def install(self, bundle: bytes | None, **more: Any) -> None:
        """Both configurations, gone again with the test; waits until the API server calls them."""
        for resource, name, path in ((VALIDATING, "check", CHECK), (MUTATING, "change", CHANGE)):
            body = self.configuration(name, path, bundle, **more)
            await self.world.client.create(resource, body)
            self.world.stack.push_async_callback(self.world.client.delete, resource, body["metadata"]["name"])

    async def called(self) -> None:
        """Waits until the API server knows both: a real one reads configurations by a watch."""

        async def both() -> bool:
            body = {"metadata": self.world.meta("probe"), "data": {}}
            with contextlib.suppress(ApiError):
                made = await self.world.client.create(CONFIGMAPS, body)
                await self.world.client.delete(CONFIGMAPS, "probe", self.world.namespace)
                return bool(self.asked) and "labels" in made["metadata"]
            return False

        await self.world.until(both, "both webhooks are called")
        self.asked.clear()


@contextlib.asynccontextmanager
async def serving(hooks: Hooks) -> AsyncIterator[None]:
    running = asyncio.create_task(hooks.server.run())

    async def ready() -> bool:
        if running.done():
            running.result()
        with contextlib.suppress(RuntimeError, OSError):
            await hooks.server.check()
            return True
        return False

    try:
        await hooks.world.until(ready, "the webhook server answers")
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.fixture
async def hooks(world: World, tmp_path: Path) -> AsyncIterator[Hooks]:
    """The server with both webhooks installed."""
    certificates = made()
    write_pair(tmp_path, certificates)
    hooks = Hooks(world, tmp_path)
    async with serving(hooks):
        await hooks.install(certificates.bundle)
        await hooks.called()
        yield hooks


async def test_objects_are_changed_then_judged(hooks: Hooks, world: World) -> None:
    stored = await world.client.create(CONFIGMAPS, {"metadata": world.meta("one"), "data": {"size": "small"}})
    assert stored["data"] == {"size": "small", "colour": "red"}
    assert stored["metadata"]["labels"] == {"seen/by": "hook"}
    (request,) = hooks.asked
    assert request.object is not None
    assert request.object["data"] == stored["data"]
    assert request.object["metadata"]["uid"] == stored["metadata"]["uid"]
    assert (request.namespace, request.name, request.operation) == (world.namespace, "one", "CREATE")
    assert request.options["kind"] == "CreateOptions"


async def test_a_denial_reaches_the_client_with_its_causes(hooks: Hooks, world: World) -> None:
    with pytest.raises(Forbidden) as caught:
        await world.client.create(CONFIGMAPS, {"metadata": world.meta("big"), "data": {"size": "big"}})
    name = "check.example.com"
    assert f'admission webhook "{name}" denied the request: the map is invalid' in caught.value.message
    assert caught.value.status == 403
    assert [cause["field"] for cause in caught.value.details["causes"]] == ["data.size", "data.other"]
    assert await world.find(CONFIGMAPS, "big") is None


async def test_updates_patches_and_deletions(hooks: Hooks, world: World) -> None:
    client = world.client
    await client.create(CONFIGMAPS, {"metadata": world.meta("one"), "data": {"size": "small"}})
    with pytest.raises(Forbidden):
        await client.patch(CONFIGMAPS, "one", world.namespace, patch={"data": {"size": "big"}})
    changed = await client.patch(CONFIGMAPS, "one", world.namespace, patch={"data": {"size": None}})
    assert changed["data"] == {"colour": "red"}
    await client.delete(CONFIGMAPS, "one", world.namespace)
    create, refused, patched, deleted = hooks.asked
    assert [each.operation for each in hooks.asked] == ["CREATE", "UPDATE", "UPDATE", "DELETE"]
    assert (create.old_object, deleted.object) == (None, None)
    for each in (refused, patched):
        assert each.old_object is not None
        assert each.old_object["data"]["size"] == "small"
    assert deleted.old_object is not None
    assert deleted.old_object["data"] == {"colour": "red"}
    assert patched.options["kind"] == "UpdateOptions"
    assert deleted.options["kind"] == "DeleteOptions"


async def test_an_unchanged_object_is_judged_as_well(hooks: Hooks, world: World) -> None:
    stored = await world.client.create(CONFIGMAPS, {"metadata": world.meta("one"), "data": {"a": "b"}})
    again = await world.client.update(CONFIGMAPS, stored)
    assert again["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
    assert [each.operation for each in hooks.asked] == ["CREATE", "UPDATE"]


async def test_who_asks_is_told(hooks: Hooks, world: World) -> None:
    admin = world.client
    role = {
        "metadata": world.meta("writer"),
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}],
    }
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "writer"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}
    await admin.create(ROLES, role)
    binding = {"metadata": world.meta("writer"), "roleRef": reference, "subjects": [subject]}
    await admin.create(ROLE_BINDINGS, binding)
    ann = world.connect("ann", wire=Wire(world.backend, "ann"))

    async def may() -> bool:
        with contextlib.suppress(Forbidden):
            await ann.create(CONFIGMAPS, {"metadata": world.meta("one")})
            return True
        return False

    await world.until(may, "the right is known")
    user = hooks.asked[-1].user
    assert user.username == "ann"
    assert user.groups == ("system:authenticated",)


async def test_a_dry_run_is_told(hooks: Hooks, world: World) -> None:
    await world.client.create(CONFIGMAPS, {"metadata": world.meta("dry")}, dry_run=True)
    assert [each.dry_run for each in hooks.asked] == [True]
    assert await world.find(CONFIGMAPS, "dry") is None


@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
async def test_a_server_that_is_down(world: World, tmp_path: Path, policy: str) -> None:
    certificates = made()
    write_pair(tmp_path, certificates)
    hooks = Hooks(world, tmp_path)
    async with serving(hooks):
        await hooks.install(certificates.bundle, failurePolicy=policy, timeoutSeconds=5)
        await hooks.called()
    body = {"metadata": world.meta("one")}
    if policy == "Ignore":
        await world.client.create(CONFIGMAPS, body)
        return
    call = 'failed calling webhook "change.example.com": failed to call webhook: Post '

    async def refused() -> bool:
        with pytest.raises(InternalError) as caught:
            await world.client.create(CONFIGMAPS, body)
        assert f"Internal error occurred: {call}" in caught.value.message
        return "connection refused" in caught.value.message

    # The first request may still find the old connection, and its end.
    await world.until(refused, "the connection is refused")


async def test_a_certificate_of_a_stranger_is_a_failure(world: World, tmp_path: Path) -> None:
    write_pair(tmp_path, made())
    hooks = Hooks(world, tmp_path)
    async with serving(hooks):
        body = hooks.configuration("check", CHECK, made().bundle)
        await world.client.create(VALIDATING, body)
        world.stack.push_async_callback(world.client.delete, VALIDATING, body["metadata"]["name"])

        async def fails() -> bool:
            try:
                await world.client.create(CONFIGMAPS, {"metadata": world.meta("one")}, dry_run=True)
            except InternalError as error:
                return "tls: failed to verify certificate" in error.message
            return False

        await world.until(fails, "the webhook cannot be trusted")
    assert hooks.asked == []


async def test_conditions_and_selectors(world: World, tmp_path: Path) -> None:
    certificates = made()
    write_pair(tmp_path, certificates)
    hooks = Hooks(world, tmp_path)
    async with serving(hooks):
        await hooks.install(
            certificates.bundle,
            matchConditions=[{"name": "no-tests", "expression": "!request.name.startsWith('quiet')"}],
            objectSelector={"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]},
        )
        await hooks.called()
        await world.client.create(CONFIGMAPS, {"metadata": world.meta("quiet-one")})
        await world.client.create(CONFIGMAPS, {"metadata": world.meta("other", labels={"skip": "yes"})})
        await world.client.create(CONFIGMAPS, {"metadata": world.meta("third")})
        assert [each.name for each in hooks.asked] == ["third"]


async def test_the_keeper_makes_announces_and_renews(world: World, tmp_path: Path) -> None:
    hooks = Hooks(world, tmp_path)
    write_pair(tmp_path, made())
    async with serving(hooks):
        await hooks.install(None)
        options = CertificateOptions(
            secret=ObjectKey(world.namespace, "certificate"),
            service=ObjectKey(world.namespace, "hook"),
            directory=tmp_path,
            validating=(f"check-{world.namespace}",),
            mutating=(f"change-{world.namespace}",),
            extra_names=("localhost",),
        )
        keeper = CertificateKeeper(world.client, clock=world.clock, options=options)
        await keeper.ensure()
        await hooks.called()
        found = await world.client.get(VALIDATING, f"check-{world.namespace}")
        assert found["metadata"]["generation"] == 2
        await keeper.ensure()
        again = await world.client.get(VALIDATING, f"check-{world.namespace}")
        assert again["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]


async def test_a_new_authority_takes_over_while_webhooks_are_called(world: World, tmp_path: Path) -> None:
    hooks = Hooks(world, tmp_path)
    secret = ObjectKey(world.namespace, "certificate")
    nine_days = timedelta(days=9)
    old = make_certificates(
        ("localhost",), world.clock.wall() - timedelta(days=8), lifetime=nine_days, ca_lifetime=nine_days
    )
    write_pair(tmp_path, old)
    parts = {"ca.crt": old.bundle, "ca.key": old.ca_key, "tls.crt": old.chain, "tls.key": old.key}
    data = {name: b64encode(value).decode() for name, value in parts.items()}
    body = {"metadata": world.meta(secret.name), "type": "kubernetes.io/tls", "data": data}
    await world.client.create(SECRETS, body)
    async with serving(hooks):
        await hooks.install(old.bundle)
        await hooks.called()
        options = CertificateOptions(
            secret=secret,
            service=ObjectKey(world.namespace, "hook"),
            directory=tmp_path,
            validating=(f"check-{world.namespace}",),
            mutating=(f"change-{world.namespace}",),
            extra_names=("localhost",),
        )
        await CertificateKeeper(world.client, clock=world.clock, options=options).ensure()
        assert (tmp_path / "tls.crt").read_bytes() != old.chain
        found = await world.client.get(VALIDATING, f"check-{world.namespace}")
        announced = b64decode(found["webhooks"][0]["clientConfig"]["caBundle"])
        assert announced.count(b"BEGIN CERTIFICATE") == 2
        for number in range(10):
            await world.client.create(CONFIGMAPS, {"metadata": world.meta(f"map-{number}")})
        assert [each.name for each in hooks.asked] == [f"map-{number}" for number in range(10)]


async def test_invalid_configurations_are_refused_alike(world: World) -> None:
    def body(**more: Any) -> dict[str, Any]:
        rule = {
            "operations": ["CREATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }
        hook = {
            "name": "check.example.com",
            "clientConfig": {"url": "https://localhost:1/"},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }
        return {"metadata": {"name": f"bad-{world.namespace}"}, "webhooks": [hook]}

    for change, field in (
        ({"name": "check"}, "webhooks[0].name"),
        ({"sideEffects": "Some"}, "webhooks[0].sideEffects"),
        ({"sideEffects": None}, "webhooks[0].sideEffects"),
        ({"timeoutSeconds": 0}, "webhooks[0].timeoutSeconds"),
        ({"timeoutSeconds": 31}, "webhooks[0].timeoutSeconds"),
        ({"admissionReviewVersions": []}, "webhooks[0].admissionReviewVersions"),
        ({"clientConfig": {}}, "webhooks[0].clientConfig"),
        ({"clientConfig": {"url": "http://localhost/"}}, "webhooks[0].clientConfig.url"),
        ({"failurePolicy": "Maybe"}, "webhooks[0].failurePolicy"),
        (
            {"matchConditions": [{"name": "a", "expression": "1 +"}]},
            "webhooks[0].matchConditions[0].expression",
        ),
    ):
        with pytest.raises(ApiError) as caught:
            await world.client.create(VALIDATING, body(**change))
        assert caught.value.status == 422, change
        assert field in [cause["field"] for cause in caught.value.details["causes"]], change


async def test_namespaces_are_judged_by_their_own_labels(world: World, tmp_path: Path) -> None:
    certificates = made()
    write_pair(tmp_path, certificates)
    hooks = Hooks(world, tmp_path)
    hooks.server.add("/namespaces", hooks.check, mutating=False)
    name = f"{world.namespace}-other"
    async with serving(hooks):
        rule = {
            "operations": ["CREATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["namespaces"],
        }
        selector = {"matchLabels": {"judged": "yes"}}
        body = hooks.configuration(
            "spaces", "/namespaces", certificates.bundle, rules=[rule], namespaceSelector=selector
        )
        await world.client.create(VALIDATING, body)
        world.stack.push_async_callback(world.client.delete, VALIDATING, body["metadata"]["name"])

        async def asked() -> bool:
            made = {"metadata": {"name": name, "labels": {"judged": "yes"}}}
            await world.client.create(NAMESPACES, made, dry_run=True)
            return bool(hooks.asked)

        await world.until(asked, "the webhook is called")
        assert (hooks.asked[0].name, hooks.asked[0].namespace) == (name, name)
        hooks.asked.clear()
        plain = {"metadata": {"name": name}}
        await world.client.create(NAMESPACES, plain, dry_run=True)
        assert hooks.asked == []
