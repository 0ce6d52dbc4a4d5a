"""`kaito quota` and `kaito plan --live` against a fake Azure over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from kaito.api.crds import crd_manifests
from kaito.api.resources import NODECLAIMS
from kaito.catalog import load_catalog
from kaito.cli.errors import CliError
from kaito.cli.plan.command import PlanFlags, run_plan
from kaito.cli.quota.command import run_quota, wishes_of
from kaito.cli.quota.report import Report, Row, Wish, make_report
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE
from kaito.provisioner.aks.ledger import read_usages
from kaito.provisioner.aks.skus import read_sizes
from kaito.provisioner.testing import ArmServer, FakeArm
from kaito.provisioner.testing.quota import Quota
from kaito.provisioner.testing.sizes import Sizes
from kaito.runtime.clock import LoopClock
from kaito.testing.kube_api import KubeApi
from support.quotas import A100, A100_FAMILY, H100_FAMILY, pool

SETTINGS = {
    "LOCATION", "ARM_RESOURCE_GROUP", "AZURE_CLUSTER_NAME", "ARM_SUBSCRIPTION_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_ID",
    "DEPLOYMENT_MODE", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_SECRET", "AZURE_RESOURCE_MANAGER_ENDPOINT",
}  # fmt: skip


@pytest.fixture
async def azure(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeArm]:
    """A subscription, and the environment of a provisioner in it."""
    arm = FakeArm(LoopClock())
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    async with ArmServer(arm, LoopClock()) as server:
        monkeypatch.setenv("AZURE_RESOURCE_MANAGER_ENDPOINT", server.url)
        monkeypatch.setenv("ARM_SUBSCRIPTION_ID", arm.place.subscription)
        monkeypatch.setenv("ARM_RESOURCE_GROUP", arm.place.resource_group)
        monkeypatch.setenv("AZURE_CLUSTER_NAME", arm.place.cluster)
        monkeypatch.setenv("LOCATION", arm.place.location)
        yield arm


async def asked(capsys: pytest.CaptureFixture[str]) -> Any:
    await run_quota(None, None, None, json=True)
    return json.loads(capsys.readouterr().out)


def family(found: Any, name: str) -> Any:
    (row,) = (each for each in (*found["families"], *found["totals"]) if each["name"] == name)
    return row


async def test_each_gpu_family_has_its_figures_its_sizes_and_the_models_that_fit(
    azure: FakeArm, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.quota.limit(A100_FAMILY, 100, used=24)
    azure.quota.limit(H100_FAMILY, 0)
    azure.portal.create_pool("train", A100)
    azure.portal.set_state("train", "Creating")
    found = await asked(capsys)
    row = family(found, A100_FAMILY)
    used = 24 + azure.quota.used("cores", LoopClock().now())
    assert (row["limit"], row["used"], row["promised"], row["waiting"]) == (100, used, 24, 0)
    assert row["free"] == 100 - used - 24
    assert [(size["name"], size["fits"]) for size in row["sizes"]] == [
        ("Standard_NC24ads_A100_v4", row["free"] // 24),
        ("Standard_NC48ads_A100_v4", row["free"] // 48),
        ("Standard_NC96ads_A100_v4", row["free"] // 96),
    ]
    assert "phi-3-mini-4k-instruct" in row["presets"]
    none = family(found, H100_FAMILY)
    assert (none["free"], none["presets"]) == (0, [])
    assert {each["name"] for each in found["totals"]} == {"cores", "lowPriorityCores"}
    assert found["location"] == azure.place.location


async def test_a_person_reads_a_table(azure: FakeArm, capsys: pytest.CaptureFixture[str]) -> None:
    azure.quota.limit(A100_FAMILY, 24)
    azure.sizes.restrict("Standard_NC96ads_A100_v4")
    await run_quota(None, None, None, json=False)
    output = capsys.readouterr().out
    assert "FAMILY" in output
    assert "NC96ads_A100_v4 (96) not available" in " ".join(output.split())
    assert "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas" in output


async def test_a_region_without_gpus_or_misspelt_is_said_to_be(
    azure: FakeArm, capsys: pytest.CaptureFixture[str]
) -> None:
    await run_quota("estus", None, None, json=False)
    assert "Azure offers no size with GPUs in estus; `az account list-locations" in capsys.readouterr().out
    await run_quota(None, None, None, json=False)
    assert "no size with GPUs" not in capsys.readouterr().out


async def test_no_cluster_is_needed_to_look(
    azure: FakeArm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARM_RESOURCE_GROUP")
    assert (await asked(capsys))["location"] == azure.place.location
    assert not azure.calls("list_pools")


async def test_what_is_missing_is_named_in_one_sentence(
    azure: FakeArm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCATION")
    monkeypatch.delenv("ARM_SUBSCRIPTION_ID")
    with pytest.raises(CliError) as told:
        await run_quota(None, None, None, json=True)
    for name in ("LOCATION", "ARM_SUBSCRIPTION_ID", "az login"):
        assert name in str(told.value)


async def test_a_refusal_by_azure_ends_in_its_sentence(azure: FakeArm) -> None:
    azure.deny("Microsoft.Compute/locations/usages/read")
    with pytest.raises(CliError) as told:
        await run_quota(None, None, None, json=True)
    assert str(told.value).startswith("Azure: ")
    assert "Microsoft.Compute/locations/usages/read" in str(told.value)


async def test_claims_of_the_cluster_that_is_named_are_counted(
    azure: FakeArm, kube_api: KubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.quota.limit(A100_FAMILY, 100)
    await kube_api.load(*(each for each in crd_manifests() if each["spec"]["names"]["kind"] == "NodeClaim"))
    client = kube_api.client()
    for name, reason in (("ws1", "LaunchInProgress"), ("ws2", "WaitingForQuota"), ("ws3", None)):
        body = claim(None)
        requirements = body["spec"]["requirements"][:1]
        node_class = {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}
        spec = {**body["spec"], "requirements": requirements, "nodeClassRef": node_class}
        kind = {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim"}
        await client.create(NODECLAIMS, {**kind, "metadata": {"name": name}, "spec": spec})
        if reason is not None:
            now = {"lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""}
            condition = {"type": "Launched", "status": "Unknown", "reason": reason, **now}
            await client.patch_status(NODECLAIMS, name, None, {"conditions": [condition]})
    await run_quota(None, kube_api.kubeconfig, None, json=True)
    found = family(json.loads(capsys.readouterr().out), A100_FAMILY)
    assert (found["promised"], found["waiting"], found["free"]) == (24, 48, 76)


def flags(file: Path) -> PlanFlags:
    return PlanFlags([file], "default", "machine", "azure", None, live=True, json=True)


@pytest.fixture
def two_nodes(tmp_path: Path) -> Path:
    file = tmp_path / "workspace.yaml"
    body = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "phi"},
        "resource": {"instanceTypes": [A100, "Standard_NC40ads_H100_v5"], "count": 2},
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
    }
    body["resource"] |= {"labelSelector": {"matchLabels": {"apps": "phi"}}}  # type: ignore[operator]
    file.write_text(yaml.safe_dump(body))
    return file


async def test_a_live_plan_tells_what_can_start_now(
    azure: FakeArm, two_nodes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.quota.limit(A100_FAMILY, 48, used=24)
    await run_plan(flags(two_nodes))
    (plan,) = json.loads(capsys.readouterr().out)["workspaces"]
    first, second = plan["live"]
    assert (first["instanceType"], first["available"], first["enough"]) == (A100, True, False)
    assert "need 48 of" in first["message"]
    assert "24 are free now: the nodes will wait" in first["message"]
    assert (second["available"], second["enough"], second["message"]) == (True, True, "")


async def test_a_live_plan_that_can_never_start_is_a_problem(
    azure: FakeArm, two_nodes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.quota.limit(A100_FAMILY, 24)
    azure.sizes.restrict("Standard_NC40ads_H100_v5")
    with pytest.raises(typer.Exit) as end:
        await run_plan(flags(two_nodes))
    assert end.value.exit_code == 1
    (plan,) = json.loads(capsys.readouterr().out)["workspaces"]
    (problem,) = plan["problems"]
    assert problem["path"] == "resource.instanceTypes"
    assert "where 24 are allowed: raise the quota at https://portal.azure.com" in problem["message"]
    assert "not available to this subscription" in problem["message"]


def report(quota: Quota, pools: list[dict[str, Any]], wishes: list[Wish]) -> Report:
    sizes = Sizes()
    read = read_sizes([size.in_sku_api("eastus") for size in sizes.all()], "eastus")
    figures = read_usages(quota.usages({size.family for size in sizes.all()}, 0.0), 0.0)
    return make_report("eastus", "https://x", figures, read, pools, wishes, load_catalog())


def row(found: Report, name: str) -> Row:
    return next(each for each in (*found.families, *found.totals) if each.name == name)


def test_a_claim_and_its_pool_count_once_and_those_that_wait_are_not_promised() -> None:
    quota = Quota()
    quota.limit(A100_FAMILY, 200)
    wishes = [
        Wish("ws1", A100, False, True),
        Wish("ws2", A100, False, True),
        Wish("ws3", A100, False, False),
        Wish("ws4", A100, True, True),
        Wish("ws5", "Standard_Unheard", False, True),
    ]
    found = report(quota, [pool("ws1"), pool("done", state="Succeeded")], wishes)
    a100 = row(found, A100_FAMILY)
    assert (a100.promised, a100.waiting, a100.free) == (48, 24, 152)
    assert row(found, "cores").promised == 48
    assert row(found, "lowPriorityCores").promised == 24


def test_the_region_limits_what_fits() -> None:
    quota = Quota()
    quota.limit(A100_FAMILY, 200)
    quota.limit("cores", 30)
    found = row(report(quota, [], []), A100_FAMILY)
    assert [offer.fits for offer in found.sizes] == [1, 0, 0]


def test_families_with_free_cores_come_first() -> None:
    quota = Quota()
    quota.limit(A100_FAMILY, 0)
    assert report(quota, [], []).families[-1].name == A100_FAMILY


def claim(reason: str | None, status: str = "Unknown", **meta: Any) -> dict[str, Any]:
    conditions = [{"type": "Launched", "status": status, "reason": reason}] if reason else []
    return {
        "metadata": {"name": "ws1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", **meta},
        "spec": {
            "requirements": [
                {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [A100]},
                {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]},
            ],
            "resources": {"requests": {"storage": "100Gi"}},
        },
        "status": {"conditions": conditions},
    }


@pytest.mark.parametrize(
    ("given", "wish"),
    [
        (claim(None), Wish("ws1", A100, True, False)),
        (claim("WaitingForQuota"), Wish("ws1", A100, True, False)),
        (claim("LaunchInProgress"), Wish("ws1", A100, True, True)),
        (claim("Launched", "True"), None),
        (claim("SKUNotAvailable", "False"), None),
        (claim("LaunchInProgress", deletionTimestamp="2026-01-01T00:00:00Z"), None),
        ({**claim(None), "spec": {}}, None),
    ],
)
def test_a_claim_wishes_for_a_machine_until_it_has_one_or_never_will(
    given: dict[str, Any], wish: Wish | None
) -> None:
    assert list(wishes_of(NODECLAIM_SHAPE, given)) == ([wish] if wish else [])
    for condition in given["status"]["conditions"]:
        condition["type"] = "MachineLaunched"
    assert list(wishes_of(MACHINE_SHAPE, given)) == ([replace(wish)] if wish else [])
