"""kubectl writes: apply in its forms, create, edit, patch, label, scale, rollout, delete."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from support.apiserver import Kubectl, widget

pytestmark = [pytest.mark.kubectl, pytest.mark.needs("api")]


def deployment(name: str, image: str = "example.com/app:1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
            **spec,
        },
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def data_of(kubectl: Kubectl, name: str) -> Any:
    return json.loads(await kubectl("get", "configmap", name, "-o", "jsonpath={.data}") or "{}")


async def test_client_side_apply(kubectl: Kubectl) -> None:
    assert "created" in await kubectl("apply", "-f", "-", stdin=config_map("a", x="1", y="1"))
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=config_map("a", x="1", y="1"))
    assert "configured" in await kubectl("apply", "-f", "-", stdin=config_map("a", x="2"))
    assert await data_of(kubectl, "a") == {"x": "2"}


async def test_client_side_apply_keeps_what_others_wrote(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=deployment("d", replicas=1))
    await kubectl("set", "env", "deployment/d", "A=b")
    await kubectl("apply", "-f", "-", stdin=deployment("d", image="example.com/app:2", replicas=1))
    path = (
        "jsonpath={.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env[0].name}"
    )
    assert await kubectl("get", "deployment", "d", "-o", path) == "example.com/app:2 A"


async def test_server_side_apply(widgets: Kubectl) -> None:
    apply = ["apply", "--server-side", "-f", "-"]
    assert "serverside-applied" in await widgets(
        *apply, "--field-manager=one", stdin=widget("a", size=1, note="n")
    )
    conflict = await widgets.fails(*apply, "--field-manager=two", stdin=widget("a", size=2))
    assert "conflict" in conflict
    assert ".spec.size" in conflict
    await widgets(*apply, "--field-manager=two", "--force-conflicts", stdin=widget("a", size=2))
    await widgets(*apply, "--field-manager=one", stdin=widget("a"))
    spec = json.loads(await widgets("get", "widget", "a", "-o", "jsonpath={.spec}"))
    assert spec == {"size": 2}


async def test_from_client_side_to_server_side_apply(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=deployment("d", replicas=1))
    await kubectl(
        "apply", "--server-side", "-f", "-", stdin=deployment("d", image="example.com/app:2", replicas=1)
    )
    image = await kubectl(
        "get", "deployment", "d", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    assert image == "example.com/app:2"


async def test_dry_run_and_diff(kubectl: Kubectl) -> None:
    for mode in ("server", "client"):
        assert "created" in await kubectl(
            "apply", f"--dry-run={mode}", "-f", "-", stdin=config_map("a", x="1")
        )
        assert "not found" in await kubectl.fails("get", "configmap", "a")
    await kubectl("apply", "-f", "-", stdin=config_map("a", x="1"))
    assert (await kubectl.run("diff", "-f", "-", stdin=config_map("a", x="1"))).code == 0
    difference = await kubectl.run("diff", "-f", "-", stdin=config_map("a", x="2"))
    assert difference.code == 1
    assert '+  x: "2"' in difference.out
    assert await data_of(kubectl, "a") == {"x": "1"}
    assert "applied" in await kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "-f",
        "-",
        stdin=config_map("a", x="3"),
    )
    assert await data_of(kubectl, "a") == {"x": "1"}


async def test_validation_messages_reach_the_user(widgets: Kubectl) -> None:
    said = await widgets.fails("apply", "-f", "-", stdin=widget("a", color="pink"))
    assert "spec.color" in said
    said = await widgets.fails("apply", "-f", "-", stdin=widget("a", nonsense=1))
    assert 'unknown field "spec.nonsense"' in said
    result = await widgets.run("apply", "--validate=warn", "-f", "-", stdin=widget("a", nonsense=1))
    assert result.code == 0
    assert 'Warning: unknown field "spec.nonsense"' in result.err


async def test_create_with_typed_commands(kubectl: Kubectl) -> None:
    for args in (
        ["namespace", "team"],
        ["configmap", "cm", "--from-literal=k=v"],
        ["secret", "generic", "sec", "--from-literal=k=v"],
        ["serviceaccount", "sa"],
        ["deployment", "dep", "--image=example.com/app:1", "--replicas=2", "--port=80"],
        ["job", "once", "--image=example.com/app:1", "--", "run", "it"],
        ["service", "clusterip", "svc", "--tcp=80:5000"],
    ):
        assert "created" in await kubectl("create", *args)
    assert await data_of(kubectl, "cm") == {"k": "v"}
    assert await kubectl("get", "secret", "sec", "-o", "jsonpath={.data.k} {.type}") == "dg== Opaque"
    assert await kubectl("get", "deployment", "dep", "-o", "jsonpath={.spec.replicas}") == "2"
    job = "jsonpath={.spec.template.spec.containers[0].command} {.spec.template.spec.restartPolicy}"
    assert await kubectl("get", "job", "once", "-o", job) == '["run","it"] Never'
    ports = "jsonpath={.spec.ports[0].port}:{.spec.ports[0].targetPort}"
    assert await kubectl("get", "service", "svc", "-o", ports) == "80:5000"
    assert "already exists" in await kubectl.fails("create", "namespace", "team")


async def test_replace(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=config_map("a", x="1"))
    assert "replaced" in await kubectl("replace", "-f", "-", stdin=config_map("a", y="2"))
    assert await data_of(kubectl, "a") == {"y": "2"}
    assert "replaced" in await kubectl("replace", "--force", "-f", "-", stdin=config_map("a", z="3"))
    assert "not found" in await kubectl.fails("replace", "-f", "-", stdin=config_map("b"))


async def test_edit(kubectl: Kubectl, tmp_path: Path) -> None:
    await kubectl("create", "-f", "-", stdin=config_map("a", color="red"))
    editor = tmp_path / "editor"
    editor.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n"
        "path.write_text(path.read_text().replace('red', 'green'))\n"
    )
    editor.chmod(0o755)
    assert "edited" in (await kubectl.run("edit", "configmap", "a", KUBE_EDITOR=str(editor))).out
    assert await data_of(kubectl, "a") == {"color": "green"}


async def test_patch_types(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=deployment("d"))
    containers = '{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"s"}]}}}}'
    await kubectl("patch", "deployment", "d", "-p", containers)
    names = "jsonpath={.spec.template.spec.containers[*].name}"
    assert set((await kubectl("get", "deployment", "d", "-o", names)).split()) == {"main", "side"}
    await kubectl("patch", "deployment", "d", "--type=merge", "-p", containers)
    assert await kubectl("get", "deployment", "d", "-o", names) == "side"
    operations = '[{"op":"replace","path":"/spec/template/spec/containers/0/name","value":"main"}]'
    await kubectl("patch", "deployment", "d", "--type=json", "-p", operations)
    assert await kubectl("get", "deployment", "d", "-o", names) == "main"


async def test_labels_annotations_and_images(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=deployment("d"))
    await kubectl("label", "deployment", "d", "tier=web")
    assert "already has a value" in await kubectl.fails("label", "deployment", "d", "tier=db")
    await kubectl("label", "deployment", "d", "tier=db", "--overwrite")
    await kubectl("annotate", "deployment", "d", "note=hello")
    await kubectl("set", "image", "deployment/d", "main=example.com/app:9")
    path = "jsonpath={.metadata.labels.tier} {.metadata.annotations.note} {.spec.template.spec.containers[0].image}"
    assert await kubectl("get", "deployment", "d", "-o", path) == "db hello example.com/app:9"
    await kubectl("label", "deployment", "d", "tier-")
    assert await kubectl("get", "deployment", "d", "-o", "jsonpath={.metadata.labels.tier}") == ""


async def test_scale_and_rollout(widgets: Kubectl) -> None:
    await widgets("create", "-f", "-", stdin=deployment("d", replicas=1))
    assert "scaled" in await widgets("scale", "deployment", "d", "--replicas=3", "--current-replicas=1")
    assert await widgets("get", "deployment", "d", "-o", "jsonpath={.spec.replicas}") == "3"
    status = {
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "observedGeneration": 2,
    }
    patch = json.dumps({"status": status})
    await widgets("patch", "deployment", "d", "--subresource", "status", "--type", "merge", "-p", patch)
    assert "successfully rolled out" in await widgets("rollout", "status", "deployment/d", "--timeout=60s")
    await widgets("rollout", "restart", "deployment/d")
    restarted = "jsonpath={.spec.template.metadata.annotations}"
    assert "restartedAt" in await widgets("get", "deployment", "d", "-o", restarted)
    await widgets("create", "-f", "-", stdin=widget("w", replicas=1))
    await widgets("scale", "widget", "w", "--replicas=4")
    assert await widgets("get", "widget", "w", "-o", "jsonpath={.spec.replicas}") == "4"


async def test_delete_variants(kubectl: Kubectl) -> None:
    for name in "abcdef":
        await kubectl("create", "-f", "-", stdin=config_map(name))
    await kubectl("label", "configmap", "b", "c", "tier=x")
    assert "deleted" in await kubectl("delete", "configmap", "a")
    await kubectl("delete", "configmap", "-l", "tier=x")
    await kubectl("delete", "-f", "-", stdin=config_map("d"))
    await kubectl("delete", "configmap", "e", "--now")
    assert "not found" in await kubectl.fails("delete", "configmap", "a")
    assert await kubectl("delete", "configmap", "a", "--ignore-not-found") == ""
    assert "(server dry run)" in await kubectl("delete", "configmap", "f", "--dry-run=server")
    names = await kubectl("get", "configmaps", "-o", "name")
    assert "configmap/f" in names.split()
    await kubectl("delete", "configmaps", "--all")
    assert "configmap/f" not in await kubectl("get", "configmaps", "-o", "name")


@pytest.mark.parametrize(
    ("cascade", "survives"), [("background", False), ("foreground", False), ("orphan", True)]
)
async def test_cascades(kubectl: Kubectl, cascade: str, survives: bool) -> None:
    await kubectl("create", "-f", "-", stdin=config_map("owner"))
    uid = await kubectl("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
    child = config_map("child")
    child["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "blockOwnerDeletion": True}
    ]
    await kubectl("create", "-f", "-", stdin=child)
    await kubectl("delete", "configmap", "owner", f"--cascade={cascade}", "--timeout=60s")
    if survives:
        assert await kubectl("get", "configmap", "child", "-o", "jsonpath={.metadata.ownerReferences}") == ""
    else:
        await kubectl("wait", "--for=delete", "configmap/child", "--timeout=60s")


async def test_namespace_deletion_waits_for_its_contents(kubectl: Kubectl) -> None:
    await kubectl("create", "namespace", "team")
    await kubectl("create", "-n", "team", "-f", "-", stdin=config_map("a"))
    await kubectl("delete", "namespace", "team", "--timeout=60s")
    assert "not found" in await kubectl.fails("get", "namespace", "team")


async def test_definition_deletion_ends_its_kind(widgets: Kubectl) -> None:
    await widgets("create", "-f", "-", stdin=widget("a"))
    await widgets("delete", "crd", "widgets.example.com", "--timeout=60s")
    # Which sentence depends on whether kubectl still believes its cached discovery.
    said = await widgets.fails("get", "widgets")
    assert "doesn't have a resource type" in said or "could not find the requested resource" in said


async def test_expose_taint_cordon(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=deployment("d"))
    await kubectl("expose", "deployment", "d", "--port=80", "--target-port=5000")
    assert await kubectl("get", "service", "d", "-o", "jsonpath={.spec.selector.app}") == "d"
    await kubectl("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    await kubectl("taint", "node", "n", "gpu=yes:NoSchedule")
    await kubectl("cordon", "n")
    assert (
        await kubectl("get", "node", "n", "-o", "jsonpath={.spec.taints[0].key} {.spec.unschedulable}")
        == "gpu true"
    )
    assert "SchedulingDisabled" in await kubectl("get", "nodes")
    await kubectl("drain", "n", "--ignore-daemonsets", "--timeout=60s")


def list_of(*items: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


async def test_lists_in_every_verb(widgets: Kubectl) -> None:
    both = list_of(config_map("a", x="1"), widget("w", size=1))
    assert (await widgets("create", "-f", "-", stdin=both)).count(" created") == 2
    assert "already exists" in await widgets.fails("create", "-f", "-", stdin=both)
    assert (await widgets("apply", "-f", "-", stdin=both)).count(" configured") == 2
    assert (await widgets("apply", "-f", "-", stdin=both)).count(" unchanged") == 2
    assert await widgets("diff", "-f", "-", stdin=both) == ""
    changed = await widgets.run("diff", "-f", "-", stdin=list_of(config_map("a", x="2"), widget("w", size=2)))
    assert changed.code == 1
    assert '+  x: "2"' in changed.out
    assert "+  size: 2" in changed.out
    assert (await widgets("apply", "-f", "-", "--server-side", "--force-conflicts", stdin=both)).count(
        " serverside-applied"
    ) == 2
    assert (await widgets("delete", "-f", "-", stdin=both)).count(" deleted") == 2


async def test_what_is_wrong_in_a_list(kubectl: Kubectl) -> None:
    wrong = deployment("d", replicaz=1)
    wrong["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": "a"}]
    said = await kubectl.fails("apply", "-f", "-", stdin=list_of(config_map("a", x="1"), wrong))
    assert 'error validating "STDIN": error validating data' in said
    assert 'ValidationError(Deployment.spec): unknown field "replicaz" in ' in said
    assert (
        "ValidationError(Deployment.spec.template.spec.containers[0].ports[0].containerPort): invalid type"
        in said
    )
    assert "NotFound" in await kubectl.fails("get", "configmap", "a")


async def test_pruning(kubectl: Kubectl) -> None:
    mine = [{**config_map(name, x="1"), "metadata": {"name": name, "labels": {"app": "x"}}} for name in "ab"]
    await kubectl("apply", "-f", "-", stdin=list_of(*mine))
    prune = ("apply", "-f", "-", "--prune", "-l", "app=x", "--prune-allowlist=core/v1/ConfigMap")
    said = await kubectl(*prune, stdin=list_of(mine[0]))
    assert said == "configmap/a unchanged\nconfigmap/b pruned\n"
