"""KAITO's admission on both API servers: the CRDs' rules, the operator's webhook, and what becomes of it in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.workspaces import ADAPTER, SELECTOR, STORED_INVALID, workspace
from kaito.api.crds import crd_manifests
from kaito.api.resources import ADAPTERS, WORKSPACES, WORKSPACES_V1ALPHA1
from kaito.catalog import load_catalog
from kaito.cli.operator import webhooks
from kaito.cli.operator.webhook_manifest import CONFIGURATION, WORKSPACE_PATH, by_address
from kaito.cli.operator.webhook_rights import SECRET
from kaito.cli.operator.webhooks import OperatorWebhooks, WebhookFlags
from kaito.controllers.workspace import WorkspaceConfig
from kaito.runtime.client import PatchType
from kaito.runtime.errors import ApiError, Invalid, NotFound
from kaito.runtime.resources import CRDS, SECRETS, Resource
from kaito.runtime.webhook.admission import AdmissionRequest
from kaito.runtime.webhook.certificates import VALIDATING
from support.apiserver import Kubectl
from support.cluster import Object, World
from support.webhooks import made

pytestmark = pytest.mark.needs("api")

A100 = {"instanceType": "Standard_NC24ads_A100_v4", **SELECTOR}
UNKNOWN = {"inference": {"preset": {"name": "phi-3-mini"}}, "resource": A100}
"""Only the webhook refuses it."""
NEITHER = {"inference": None, "resource": A100}
"""CEL refuses it."""
EXAMPLES = Path(__file__).parents[2] / "examples"


def body(world: World, name: str, speaks: Resource = WORKSPACES, **changes: Any) -> Object:
    given = workspace(**{"resource": A100, **changes})
    return {
        **given,
        "apiVersion": speaks.api_version,
        "kind": speaks.kind,
        "metadata": {**given["metadata"], "name": name, "namespace": world.namespace},
    }


class Operator:
    """Replicas of the operator with nothing but the webhook in them, and the registration at one of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.replicas: list[OperatorWebhooks] = []

    @contextlib.asynccontextmanager
    async def running(self, **flags: Any) -> AsyncIterator[OperatorWebhooks]:
        """One replica, from when it is ready until the block ends."""
        manager = self.world.manager("kaito-operator/1")
        # Service "localhost", so that the certificate is good for the address that the test registers.
        given = WebhookFlags(enabled=True, bind_address="127.0.0.1:0", service="localhost", **flags)
        config, catalog = WorkspaceConfig(), load_catalog()
        replica = webhooks.setup(manager, given, catalog, config, {}, self.world.namespace)
        assert replica is not None
        async with self.world.running(manager):
            await self.world.until(lambda: self.ready(replica), "the webhook is ready")
            self.replicas.append(replica)
            yield replica

    async def ready(self, replica: OperatorWebhooks) -> bool:
        with contextlib.suppress(RuntimeError, OSError):
            await replica.check()
            return True
        return False

    async def register(self, replica: OperatorWebhooks) -> None:
        """By hand, as the manifests do it: without a caBundle, which the replicas then write."""
        given = by_address(f"https://localhost:{replica.server.port}", "")
        for hook in given["webhooks"]:
            del hook["clientConfig"]["caBundle"]
            hook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": self.world.namespace}}
        manager = self.world.client.named("installer", "installer")
        await manager.apply(VALIDATING, given, force=True)

    async def judges(self) -> bool:
        """Whether the webhook is asked: what it alone would refuse is refused."""
        try:
            await self.world.client.create(WORKSPACES, body(self.world, "probe", **UNKNOWN))
        except Invalid:
            return True
        await self.world.client.delete(WORKSPACES, "probe", self.world.namespace)
        return False

    async def at_work(self) -> None:
        await self.world.until(self.judges, "the webhook is asked")


@pytest.fixture
async def operator(world: World) -> AsyncIterator[Operator]:
    for definition in crd_manifests():
        await world.define(definition)
    try:
        yield Operator(world)
    finally:
        with contextlib.suppress(NotFound):
            await world.client.delete(VALIDATING, CONFIGURATION)


@contextlib.asynccontextmanager
async def installed(operator: Operator) -> AsyncIterator[OperatorWebhooks]:
    async with operator.running() as replica:
        await operator.register(replica)
        await operator.at_work()
        yield replica


async def test_both_versions_are_refused_with_every_cause(operator: Operator, world: World) -> None:
    wrong = {"resource": {"instanceType": "Standard_NC6s_v33", **SELECTOR}, "inference": UNKNOWN["inference"]}
    async with installed(operator):
        for resource in (WORKSPACES, WORKSPACES_V1ALPHA1):
            with pytest.raises(Invalid) as caught:
                await world.client.create(resource, body(world, "wrong", resource, **wrong))
            causes = {each["field"]: each["message"] for each in caught.value.details["causes"]}
            assert list(causes) == ["inference.preset.name", "resource.instanceType"]
            assert "phi-3-mini is not known; nearest: " in causes["inference.preset.name"]
        bad = {
            "apiVersion": ADAPTERS.api_version,
            "kind": "Adapter",
            "metadata": world.meta("a"),
            "spec": {"source": {}},
        }
        with pytest.raises(Invalid, match="write exactly one of image"):
            await world.client.create(ADAPTERS, bad)


async def test_kubectl_shows_refusals_and_warnings(
    operator: Operator, world: World, kubectl: Kubectl, tmp_path: Path
) -> None:
    async with installed(operator):
        for file in sorted(EXAMPLES.glob("inference/*.yaml")) + sorted(EXAMPLES.glob("fine-tuning/*.yaml")):
            result = await kubectl.run("apply", "-f", str(file))
            assert result.code == 0, result.err
            retired = 'instanceType: "Standard_NC6s_v3"' in file.read_text() and "tuning" not in str(file)
            said = "Warning: resource.instanceType: Azure retired Standard_NC6s_v3" in result.err
            assert said is retired
            if "adapters" in str(file):
                assert "Warning: inference.adapters[0].source.image: " in result.err
                assert "still holds the placeholder ACR_REPO_HERE" in result.err
            again = await kubectl.run("apply", "-f", str(file))
            assert (again.code, again.err) == (0, ""), "nothing changes, so nothing is said"
        wrong = body(world, "wrong", WORKSPACES_V1ALPHA1, **UNKNOWN)
        wrong["metadata"]["annotations"] = {"kaito.sh/performance-mode": "fast"}
        file = tmp_path / "wrong.yaml"
        file.write_text(yaml.safe_dump(wrong))
        result = await kubectl.run("apply", "-f", str(file))
        assert result.code == 1
        assert 'The Workspace "wrong" is invalid:' in result.err
        assert (
            "* metadata.annotations[kaito.sh/performance-mode]: write balanced, interactivity" in result.err
        )
        assert "* inference.preset.name: phi-3-mini is not known" in result.err


async def test_what_was_stored_before_the_rules_came_lives_and_goes(operator: Operator, world: World) -> None:
    definition = next(each for each in crd_manifests() if each["spec"]["names"]["kind"] == "Workspace")
    lax = copy.deepcopy(definition)
    for version in lax["spec"]["versions"]:
        strip_all(version["schema"]["openAPIV3Schema"])
    names = [f"old-{index}" if label != "name" else "3phi" for index, (label, _) in enumerate(STORED_INVALID)]
    await world.define(lax)
    try:
        for name, (_, changes) in zip(names, STORED_INVALID, strict=True):
            old = body(world, name, **{key: value for key, value in changes.items() if key != "metadata"})
            old["metadata"]["finalizers"] = ["workspace.finalizer.kaito.sh"]
            await world.until(lambda old=old: stored(world, old), f"{name} is stored without rules")
    finally:
        await world.define(definition)

    async def strict() -> bool:
        with contextlib.suppress(Invalid):
            await world.client.create(WORKSPACES, body(world, "probe", **NEITHER))
            await world.client.delete(WORKSPACES, "probe", world.namespace)
            return False
        return True

    await world.until(strict, "the rules are back")
    async with installed(operator):
        for name in names:
            condition = {
                "type": "ResourceReady", "status": "False", "reason": "InvalidSpec", "message": "m",
                "lastTransitionTime": "2026-11-21T12:00:00Z",
            }  # fmt: skip
            await world.client.patch_status(WORKSPACES, name, world.namespace, {"conditions": [condition]})
            note = {"metadata": {"annotations": {"a": "b"}}}
            await world.client.patch(WORKSPACES, name, world.namespace, patch=note)
            await world.client.delete(WORKSPACES, name, world.namespace)
            free = [{"op": "remove", "path": "/metadata/finalizers/0"}]
            await world.client.patch(WORKSPACES, name, world.namespace, patch=free, patch_type=PatchType.JSON)
            await world.gone(WORKSPACES, name)


def strip_all(node: Any) -> None:
    """As a release without any rule had it, CEL or limits."""
    if isinstance(node, dict):
        for key in ("x-kubernetes-validations", "maxItems", "maxProperties"):
            node.pop(key, None)
        for child in node.values():
            strip_all(child)


async def stored(world: World, given: Object) -> bool:
    try:
        await world.client.create(WORKSPACES, given)
    except Invalid:
        return False
    return True


async def test_a_webhook_that_is_down_blocks_nothing_and_cel_still_guards(
    operator: Operator, world: World
) -> None:
    async with installed(operator):
        pass
    kept = body(world, "kept", **UNKNOWN)
    kept["metadata"]["finalizers"] = ["workspace.finalizer.kaito.sh"]
    await world.client.create(WORKSPACES, kept)
    with pytest.raises(Invalid, match="at the top level"):
        await world.client.create(WORKSPACES, body(world, "wrong", **NEITHER))
    await world.client.patch(
        WORKSPACES, "kept", world.namespace, patch={"inference": {"adapters": [ADAPTER]}}
    )
    await world.client.delete(WORKSPACES, "kept", world.namespace)
    await world.client.patch(WORKSPACES, "kept", world.namespace, patch={"metadata": {"finalizers": None}})
    await world.gone(WORKSPACES, "kept")
    async with operator.running() as replica:
        await operator.register(replica)
        await operator.at_work()


async def test_two_replicas_share_a_certificate_and_mend_what_is_broken(
    operator: Operator, world: World
) -> None:
    async with operator.running() as first, operator.running():
        await operator.register(first)
        await operator.at_work()
        shared = (await world.client.get(SECRETS, SECRET, world.namespace))["data"]
        stores = [each for each in world.requests if each.method == "POST" and "/secrets" in each.path]
        assert len(stores) <= 2, "one made it, the other may have lost the race"

        await world.client.delete(SECRETS, SECRET, world.namespace)
        await world.until(lambda: same_secret(world, shared), "the Secret is back")
        spoilt = {"data": {"tls.crt": b64encode(b"nothing").decode(), "ca.crt": None}}
        await world.client.patch(SECRETS, SECRET, world.namespace, patch=spoilt)
        await world.until(lambda: same_secret(world, shared), "the Secret is whole")

        for index in range(2):
            with contextlib.suppress(Invalid):  # an API server may look into what it is given
                overwritten = [
                    {
                        "op": "replace",
                        "path": f"/webhooks/{index}/clientConfig/caBundle",
                        "value": stranger_bundle(),
                    }
                ]
                await world.client.patch(
                    VALIDATING, CONFIGURATION, patch=overwritten, patch_type=PatchType.JSON
                )

        async def announced() -> bool:
            found = await world.client.get(VALIDATING, CONFIGURATION)
            return all(each["clientConfig"].get("caBundle") == shared["ca.crt"] for each in found["webhooks"])

        await world.until(announced, "the bundle is written again")
        await operator.at_work()


def stranger_bundle() -> str:
    return b64encode(made().bundle).decode()


async def same_secret(world: World, data: Object) -> bool:
    found = await world.find(SECRETS, SECRET)
    return found is not None and found.get("data") == data


async def test_a_certificate_that_expired_while_nobody_ran_is_renewed(
    operator: Operator, world: World
) -> None:
    old = made(days=10, age=20)
    parts = {"ca.crt": old.bundle, "ca.key": old.ca_key, "tls.crt": old.chain, "tls.key": old.key}
    data = {name: b64encode(value).decode() for name, value in parts.items()}
    secret = {"metadata": world.meta(SECRET), "type": "kubernetes.io/tls", "data": data}
    await world.client.create(SECRETS, secret)
    async with installed(operator):
        found = (await world.client.get(SECRETS, SECRET, world.namespace))["data"]
        assert b64decode(found["tls.crt"]) != old.chain
        assert b64decode(found["ca.crt"]) == old.bundle, "the authority was good for years"


async def test_a_flood_of_wrong_workspaces_is_refused_and_others_go_on(
    operator: Operator, world: World
) -> None:
    async with installed(operator) as replica:
        gate = asyncio.Semaphore(16)

        async def send(number: int) -> str:
            async with gate:
                try:
                    await world.client.create(WORKSPACES, body(world, f"wrong-{number}", **UNKNOWN))
                except Invalid:
                    return "refused"
            return "stored"

        flood = asyncio.gather(*(send(number) for number in range(1000)))
        for number in range(10):
            await world.client.create(WORKSPACES, body(world, f"good-{number}"))
        assert set(await flood) == {"refused"}
        names = {each["metadata"]["name"] for each in await world.client.list(WORKSPACES, world.namespace)}
        assert names == {f"good-{number}" for number in range(10)}
        await world.until(lambda: held() == 0, "nothing of the requests is kept")
        await replica.check()


def held() -> int:
    gc.collect()
    return sum(isinstance(each, AdmissionRequest) for each in gc.get_objects())


async def test_annotations_up_to_the_api_servers_own_limit(operator: Operator, world: World) -> None:
    async with installed(operator):
        large = body(world, "large")
        large["metadata"]["annotations"] = {f"example.com/note-{index}": "x" * 25_000 for index in range(10)}
        await world.client.create(WORKSPACES, large)
        await world.client.patch(
            WORKSPACES, "large", world.namespace, patch={"inference": {"adapters": [ADAPTER]}}
        )
        huge = body(world, "huge")
        huge["metadata"]["annotations"] = {"example.com/note": "x" * 1_000_000}
        with pytest.raises(Invalid, match="may not be more than 262144 bytes"):
            await world.client.create(WORKSPACES, huge)


async def test_writes_that_there_is_nothing_to_say_about_are_not_asked_about(
    operator: Operator, world: World
) -> None:
    async with installed(operator) as replica:
        await world.client.create(WORKSPACES, body(world, "quiet"))
        asked = replica.server.metrics.hook(WORKSPACE_PATH).requests
        before = asked[200]
        for patch in (
            {"metadata": {"finalizers": ["workspace.finalizer.kaito.sh"]}},
            {"metadata": {"labels": {"a": "b"}}},
        ):
            await world.client.patch(WORKSPACES, "quiet", world.namespace, patch=patch)
        await world.client.patch_status(WORKSPACES, "quiet", world.namespace, {"state": "Pending"})
        assert asked[200] == before
        for patch in (
            {"metadata": {"annotations": {"a": "b"}}},
            {"inference": {"adapters": [ADAPTER]}},
            {"resource": {"preferredNodes": ["n"]}},
        ):
            await world.client.patch(WORKSPACES, "quiet", world.namespace, patch=patch)
        assert asked[200] == before + 3
        await world.client.delete(WORKSPACES, "quiet", world.namespace)
        gone = {"metadata": {"finalizers": None, "annotations": {"a": None}}}
        await world.client.patch(WORKSPACES, "quiet", world.namespace, patch=gone)
        assert asked[200] == before + 3
        await world.gone(WORKSPACES, "quiet")


async def test_without_rights_the_webhook_waits_and_says_why(operator: Operator, world: World) -> None:
    from support.cluster import Wire

    wire = Wire(world.backend, "system:serviceaccount:nobody:nobody")
    manager = world.manager("kaito-operator/1")
    client = world.connect("kaito-operator/1", wire=wire)
    replica = OperatorWebhooks(client, manager.clock, WebhookFlags(True, "127.0.0.1:0"), world.namespace)
    running = asyncio.create_task(replica.run())
    try:

        async def told() -> bool:
            try:
                await replica.check()
            except RuntimeError as error:
                return "the webhook has no certificate yet" in str(error) and "forbidden" in str(error)
            return False

        await world.until(told, "/readyz says what is forbidden")
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    with pytest.raises(ApiError):
        await client.get(CRDS, "workspaces.kaito.sh")
