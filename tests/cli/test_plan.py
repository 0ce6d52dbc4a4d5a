"""`kaito plan`: the same children as the controller makes, and a sentence for all that is wrong with a file."""

from __future__ import annotations

import copy
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from controllers.workspace.builders import seed
from controllers.workspace.cluster import Cluster, cluster
from kaito.api.labels import INSTANCE_TYPE_LABEL
from kaito.api.resources import ADAPTERS, MACHINES, NODECLAIMS, WORKSPACES
from kaito.catalog import load_catalog
from kaito.cli.main import app
from kaito.cli.plan.command import read_documents
from kaito.cli.plan.report import plan_workspace
from kaito.cli.plan.world import CLAIMS, Child
from kaito.controllers.workspace import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.compare import difference
from kaito.runtime.resources import DEPLOYMENTS, NODES, SERVICES, STATEFULSETS
from kaito.runtime.testing import VirtualClock
from kaito.runtime.testing.virtual import EPOCH

EXAMPLES = Path(__file__).parents[2] / "examples"
PHI = EXAMPLES / "inference" / "kaito_workspace_phi_3.yaml"

Object = dict[str, Any]


def kaito_plan(*arguments: str, text: str | None = None) -> tuple[int, str]:
    """Exit status and output."""
    result = CliRunner().invoke(app, ["plan", *arguments], input=text)
    return (
        result.exit_code,
        result.output if result.exception is None else f"{result.output}{result.exception}",
    )


def planned(text: str, *arguments: str) -> tuple[int, list[Object]]:
    """Exit status and what `--json` says of the Workspaces."""
    code, output = kaito_plan("-f", "-", "--json", *arguments, text=text)
    found: list[Object] = json.loads(output[: output.rindex("}") + 1])["workspaces"]
    return code, found


def workspace(name: str = "phi", **resource: Any) -> Object:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "resource": {"instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"a": "b"}}}
        | resource,
        "inference": {"preset": {"name": "phi-3-mini-4k-instruct"}},
    }


def without_context(spec: Object) -> Object:
    """The spec without the context of a server: how long one fits follows from an adapter's rank, which a file does not
    tell."""
    spec = copy.deepcopy(spec)
    for container in spec.get("template", {}).get("spec", {}).get("containers", ()):
        container["args"] = [each for each in container["args"] if not each.startswith("--max-model-len=")]
    return spec


PROVISIONERS = [NodeProvisioner.MACHINE, NodeProvisioner.NODECLAIM, NodeProvisioner.BYO]
KINDS = (MACHINES, NODECLAIMS, ADAPTERS, SERVICES, DEPLOYMENTS, STATEFULSETS)


@pytest.mark.parametrize("provisioner", PROVISIONERS)
@pytest.mark.parametrize("name", ["inference", "adapters", "tuning"])
async def test_the_plan_has_the_very_children_that_the_controller_makes(
    virtual_clock: VirtualClock, provisioner: NodeProvisioner, name: str
) -> None:
    config = WorkspaceConfig(node_provisioner=provisioner, stand_in_weights="tiny-phi-3")
    given = seed(name)
    for key in ("uid", "generation", "resourceVersion", "finalizers"):
        given["metadata"].pop(key)
    plan = plan_workspace(given, load_catalog(), config, EPOCH, {})
    space = given["metadata"]["name"]
    async with cluster(virtual_clock, config) as world, world.operator(world.wire()):
        before = {resource: await world.names(resource) for resource in KINDS}
        if provisioner is NodeProvisioner.BYO:
            size = {INSTANCE_TYPE_LABEL: given["resource"]["instanceType"]}
            await add_node(world, size | given["resource"]["labelSelector"]["matchLabels"])
        await world.client.create(WORKSPACES, given)
        if provisioner is NodeProvisioner.NODECLAIM and name != "tuning":
            await make_real(world)
        end = "TuningNotImplemented" if name == "tuning" else "WorkspaceReady"
        await world.until(lambda: world.holds(end, space), end, 60)
        made = [
            live
            for resource in KINDS
            for live in await world.client.list(resource)
            if live["metadata"]["name"] not in before[resource]
        ]
    assert sorted(each["kind"] for each in made) == sorted(child.kind for child in plan.children)
    for child in plan.children:
        (live,) = (each for each in made if each["kind"] == child.kind and is_same(child, each))
        ours, theirs = (without_context(each["spec"]) for each in (child.body, live))
        assert difference(ours, theirs) in (None, "machineTemplateRef.name")
    assert plan.ok is (name != "tuning")


READY = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}


async def add_node(world: Cluster, labels: dict[str, str]) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu", "labels": labels}}
    await world.client.create(NODES, node)
    status = {"conditions": [READY], "allocatable": {"nvidia.com/gpu": "1"}}
    await world.client.patch_status(NODES, "gpu", None, status)


async def make_real(world: Cluster) -> None:
    """Makes the one NodeClaim a ready node, as a provisioner would."""
    while not (claims := await world.client.list(NODECLAIMS)):
        await world.clock.sleep(1)
    (claim,) = claims
    await add_node(world, {})
    status = {"nodeName": "gpu", "conditions": [READY]}
    await world.client.patch_status(NODECLAIMS, claim["metadata"]["name"], None, status)


def is_same(child: Child, live: Object) -> bool:
    """The name of a claim hangs on the Workspace's uid, so any name will do."""
    return child.kind in CLAIMS or child.name == live["metadata"]["name"]


def test_a_person_reads_what_is_made_and_when() -> None:
    code, output = kaito_plan("-f", str(PHI), "--node-provisioner", "nodeclaim")
    assert code == 0
    assert output.splitlines()[:12] == [
        "Workspace default/workspace-phi-3-mini",
        "  nodes     1 x Standard_NC6s_v3 (1 x NVIDIA V100, 16 GiB)",
        "  price     unknown: `kaito prices update --cloud azure --region REGION` reads it",
        "  model     phi-3-mini-4k-instruct (microsoft/Phi-3-mini-4k-instruct, commit 0a67737cc96d)",
        "  serves    by transformers in float16, 4,096 tokens of context",
        "  memory    GiB of one GPU, the fullest; cache for 4,096 tokens; what is free becomes cache too",
        "                               weights     cache  overhead      free        of",
        "            Standard_NC6s_v3       7.3       1.5       5.2       2.0      16.0",
        "  image     localhost/kaito/kaito-phi-3-mini-4k-instruct:0.2.0-transformers-torch2.10",
        "  disk      80Gi on each node",
        "  makes     1 NodeClaim, Service workspace-phi-3-mini",
        "  at last   Deployment workspace-phi-3-mini, once the nodes are ready",
    ]
    assert "  warning   resource.instanceType: Azure retired Standard_NC6s_v3" in output


def test_every_provisioner_has_its_own_way_to_nodes() -> None:
    text = yaml.safe_dump(workspace(count=2))
    first = {}
    for name in ("machine", "nodeclaim", "karpenter", "byo"):
        code, (plan,) = planned(text, "--node-provisioner", name)
        assert code == 0
        first[name] = [(child["kind"], child["name"], child["when"]) for child in plan["children"]]
    assert first["machine"] == [
        *[("Machine", None, "atOnce")] * 2,
        ("Service", "phi", "atOnce"),
        ("Deployment", "phi", "nodesReady"),
        ("PodDisruptionBudget", "phi", "nodesReady"),
    ]
    assert first["nodeclaim"] == [
        (kind.replace("Machine", "NodeClaim"), *rest) for kind, *rest in first["machine"]
    ]
    assert first["karpenter"][0] == ("NodePool", "default-phi", "atOnce")
    assert {kind for kind, *_ in first["byo"]} == {"Service", "PodDisruptionBudget", "Deployment"}


def test_sizes_stand_in_the_order_in_which_they_are_tried() -> None:
    wanted = ["Standard_ND96isr_H100_v5", "Standard_NC24ads_A100_v4"]
    _, (plan,) = planned(yaml.safe_dump(workspace(instanceType=None, instanceTypes=wanted)))
    assert [size["name"] for size in plan["instanceTypes"]] == wanted
    assert plan["instanceTypes"][1] == {
        "name": "Standard_NC24ads_A100_v4",
        "gpus": 1,
        "gpuMemoryGiB": 80.0,
        "gpuModel": "NVIDIA A100",
        "retired": None,
    }


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"instanceType": "Standard_NC24ads_A100"}, "resource.instanceType", "is not known; nearest"),
        ({"instanceType": 3}, "resource.instanceType", "valid string"),
        ({"count": "two"}, "resource.count", "valid integer"),
        ({"partition": {"mode": "mig", "profile": "1g.10gb"}}, "resource.partition", "not available yet"),
    ],
)
def test_what_is_wrong_is_told_with_its_path_and_the_exit_status(
    change: Object, path: str, says: str
) -> None:
    code, (plan, fine) = planned(yaml.safe_dump_all([workspace(**change), workspace("fine")]))
    assert code == 1
    assert (plan["ok"], plan["children"], fine["ok"]) == (False, [], True)
    assert [each["path"] for each in plan["problems"]] == [path]
    assert says in plan["problems"][0]["message"]


def test_a_workspace_without_a_name_is_a_problem() -> None:
    code, (plan,) = planned(yaml.safe_dump({**workspace(), "metadata": None}))
    assert code == 1
    assert plan["problems"] == [{"path": "metadata.name", "message": "write a name"}]


def test_a_config_map_in_the_file_counts_and_one_that_is_not_is_told() -> None:
    body = workspace()
    body["inference"]["config"] = "settings"
    there = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {}}
    _, (plan,) = planned(yaml.safe_dump_all([there, body]))
    assert plan["warnings"] == []
    _, (plan,) = planned(yaml.safe_dump(body))
    assert [each["path"] for each in plan["warnings"]] == ["inference.config"]
    assert [child["kind"] for child in plan["children"]] == ["Machine", "Service", "Deployment"]


def test_lists_are_opened_and_other_kinds_are_passed_over() -> None:
    items = [workspace("one"), {"apiVersion": "v1", "kind": "Secret"}, "odd"]
    _, found = planned(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    assert [plan["name"] for plan in found] == ["one"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "no Kubernetes object"),
        ("", "no Workspace"),
        ("kind: Pod", "no Workspace"),
        ("kind: Workspace\napiVersion: other/v1", "no Workspace"),
    ],
)
def test_a_file_without_a_workspace_ends_in_a_sentence(text: str, says: str) -> None:
    code, output = kaito_plan("-f", "-", text=text)
    assert (code, says in output) == (1, True), output


def test_a_file_that_is_not_there_ends_in_a_sentence() -> None:
    code, output = kaito_plan("-f", "/nowhere/x.yaml")
    assert code == 1
    assert "/nowhere/x.yaml cannot be read: No such file or directory" in output


def test_standard_input_is_read_where_the_file_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("kind: A\n---\n---\nkind: B\n"))
    assert [each["kind"] for each in read_documents(Path("-"))] == ["A", "B"]


def test_a_flag_that_makes_no_sense_ends_in_a_sentence() -> None:
    code, output = kaito_plan("-f", str(PHI), "--node-provisioner", "magic")
    assert code == 1
    assert "magic" in output


@pytest.mark.parametrize(
    ("change", "path", "sentence"),
    [
        ({"resource": {"instanceTyp": "Standard_NC24ads_A100_v4"}}, "resource.instanceTyp", "instanceType?"),
        ({"inferense": {"preset": {"name": "phi-4"}}}, "inferense", "did you mean inference?"),
        ({"colour": 1}, "colour", "there is no such field"),
        ({"inference": {"adapters": [{"strenght": "1"}]}}, "inference.adapters[0].strenght", "strength?"),
        ({"apiVersion": "kaito.sh/v7"}, "apiVersion", "write kaito.sh/v1beta1 or kaito.sh/v1alpha1"),
        ({"metadata": {"name": "Phi_3"}}, "metadata.name", "a Service gets this name"),
        ({"metadata": {"name": "p" * 64}}, "metadata.name", "at most 63"),
    ],
)
def test_what_no_api_server_takes_is_a_problem_of_the_plan(change: Object, path: str, sentence: str) -> None:
    code, (plan,) = planned(yaml.safe_dump(workspace() | change))
    assert code == 1
    assert sentence in {each["path"]: each["message"] for each in plan["problems"]}[path]


def test_labels_annotations_and_templates_may_hold_any_key() -> None:
    given = workspace()
    given["metadata"] |= {"annotations": {"a.b/c": "d"}, "labels": {"e": "f"}}
    container = {"name": "c", "image": "registry.example.com/c:1", "anything": {"at": ["all"]}}
    given["inference"] = {"template": {"spec": {"containers": [container]}}}
    code, (plan,) = planned(yaml.safe_dump(given))
    assert (code, plan["problems"]) == (0, [])


@pytest.mark.parametrize("by_variable", [True, False])
def test_images_come_from_the_registry_of_the_operator(
    by_variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [] if by_variable else ["--preset-registry", "registry.example.com/k"]
    if by_variable:
        monkeypatch.setenv("PRESET_REGISTRY_NAME", "registry.example.com/k")
    _, (plan,) = planned(yaml.safe_dump(workspace()), *flags)
    assert plan["image"].startswith("registry.example.com/k/kaito-phi-3-mini-4k-instruct:")


def test_sizes_whose_gpus_take_different_images_have_each_their_own() -> None:
    given = workspace(instanceTypes=["Standard_NC4as_T4_v3", "Standard_NC6s_v3"])
    del given["resource"]["instanceType"]
    _, (plan,) = planned(yaml.safe_dump(given))
    lines = [each["image"].rpartition(":")[2] for each in plan["serving"]]
    assert lines == ["0.2.0-vllm", "0.2.0-transformers-torch2.10"]
    assert plan["image"] == plan["serving"][0]["image"]
    _, output = kaito_plan("-f", "-", text=yaml.safe_dump(given))
    assert "  image     Standard_NC6s_v3: localhost/kaito/kaito-phi-3-mini-4k-instruct:0.2.0-tr" in output


@pytest.mark.parametrize("provisioner", ["machine", "byo"])
def test_a_config_map_that_no_server_can_read_is_a_problem(provisioner: str) -> None:
    given = workspace()
    given["inference"]["config"] = "mine"
    for text, says in (
        ("vllm: [\n", "is not YAML (line 2)"),
        ("- vllm", "is no mapping"),
        ("transformers: {max-num-seqs: few}", "transformers.max-num-seqs must be a whole number from 1"),
        (None, "inference_config.yaml in ConfigMap mine is not there"),
    ):
        data = {} if text is None else {"inference_config.yaml": text}
        beside = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": data}
        code, (plan,) = planned(yaml.safe_dump_all([given, beside]), "--node-provisioner", provisioner)
        assert code == 1
        assert says in plan["problems"][0]["message"]


def test_more_nodes_than_a_cluster_may_have_are_refused_before_they_are_counted_out() -> None:
    code, (plan,) = planned(yaml.safe_dump(workspace(count=100_000_000)))
    assert (code, plan["problems"][0]["path"]) == (1, "resource.count")
    assert "at most that many" in plan["problems"][0]["message"]
