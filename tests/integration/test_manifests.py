"""The overlays on an API server: each applies, a second time changes nothing, and what others wrote stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.cli.uninstall.kinds import ORDER, SELECTOR
from kaito.cli.uninstall.run import Options, Uninstall
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import DEPLOYMENTS, SERVICES
from kaito.runtime.webhook.certificates import VALIDATING
from support.apiserver import Kubectl, kubectl_binaries
from support.cluster import Object, World
from support.kustomize import MANIFESTS, OVERLAYS, of_kind, render

pytestmark = pytest.mark.needs("api")

SYSTEM = "kaito-system"


@pytest.fixture
def kubectl(world: World, tmp_path: Path) -> Kubectl:
    """One kubectl: what differs between them is not in these files."""
    return Kubectl(kubectl_binaries()[0], tmp_path, world.backend.kubeconfig)


@pytest.fixture(autouse=True)
async def removed(world: World) -> AsyncIterator[None]:
    """What a test installs goes with it."""
    yield
    await Uninstall(
        world.client, Options(yes=True, definitions=True, interval=0.1), lambda text: None, nobody
    ).run()
    assert await installed(world) == {}


async def nobody(prompt: str) -> str | None:
    return None


async def installed(world: World) -> dict[str, Object]:
    """Everything with the labels of `manifests/`, by kind and name."""
    found: dict[str, Object] = {}
    for resource in (each for group in ORDER for each in group):
        try:
            items = await world.client.list(resource, label_selector=SELECTOR)
        except NotFound:
            continue  # a kind of an operator that is not here
        found |= {f"{resource.kind} {each['metadata']['name']}": each for each in items}
    return found


async def apply(kubectl: Kubectl, folder: str) -> str:
    return await kubectl("apply", "--server-side", "--validate=strict", "-k", str(MANIFESTS / folder))


@pytest.mark.kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_an_overlay_applies_twice_and_changes_nothing(
    world: World, kubectl: Kubectl, overlay: str
) -> None:
    await apply(kubectl, overlay)
    before = await installed(world)
    assert len(before) == len(render(overlay))
    await apply(kubectl, overlay)
    after = await installed(world)
    assert after == before


@pytest.mark.kubectl
async def test_what_the_operator_and_the_cluster_wrote_stays(world: World, kubectl: Kubectl) -> None:
    await apply(kubectl, "default")
    operator = world.client.named("kaito-operator/1", "kaito-operator")
    hooks = [each["metadata"]["name"] for each in of_kind(render("default"), VALIDATING.kind)]
    for name in hooks:
        found = await operator.get(VALIDATING, name)
        injected = [{**each["clientConfig"], "caBundle": "Q0E="} for each in found["webhooks"]]
        webhooks = [
            {**each, "clientConfig": config} for each, config in zip(found["webhooks"], injected, strict=True)
        ]
        await operator.update(VALIDATING, {**found, "webhooks": webhooks})
    status = {"replicas": 2, "readyReplicas": 2, "observedGeneration": 1}
    await operator.patch_status(DEPLOYMENTS, "kaito-operator", SYSTEM, status)
    address = (await operator.get(SERVICES, "kaito-webhook", SYSTEM))["spec"]["clusterIP"]
    await apply(kubectl, "default")
    for name in hooks:
        found = await operator.get(VALIDATING, name)
        assert {each["clientConfig"]["caBundle"] for each in found["webhooks"]} == {"Q0E="}
    assert (await operator.get(DEPLOYMENTS, "kaito-operator", SYSTEM))["status"]["readyReplicas"] == 2
    assert (await operator.get(SERVICES, "kaito-webhook", SYSTEM))["spec"]["clusterIP"] == address


@pytest.mark.kubectl
async def test_the_definitions_apply_twice_and_change_nothing(world: World, kubectl: Kubectl) -> None:
    for folder in ("crd", "crd-karpenter"):
        await apply(kubectl, folder)
        said = await apply(kubectl, folder)
        assert len(said.splitlines()) == len(render(folder))
        diff = await kubectl("diff", "--server-side", "-k", str(MANIFESTS / folder))
        assert diff == ""
