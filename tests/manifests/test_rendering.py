"""What the kustomizations stand for: complete, restricted, and free of what somebody else writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from kaito.api.crds import KAITO_CRDS, KARPENTER_CRDS, KEPT, LABELS
from kaito.cli.main import app
from kaito.cli.rbac import roles
from kaito.cli.uninstall.kinds import ORDER
from kaito.controllers.workspace import NodeClass, NodeProvisioner, parse_cloud
from kaito.provisioner.aks.config import SETTINGS
from kaito.runtime.manager import ManagerOptions
from support.kustomize import MANIFESTS, OVERLAYS, Object, key, kustomizations, of_kind, render

SYSTEM = "kaito-system"


def commands() -> Mapping[str, Any]:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group.commands


each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def test_every_folder_renders() -> None:
    folders = kustomizations()
    assert {"crd", "crd-karpenter", "operator", "provisioner", "rbac", "webhook", *OVERLAYS} <= {*folders}
    for folder in folders:
        keys = [key(each) for each in render(folder)]
        assert len(keys) == len(set(keys)) > 0, folder


def test_definitions_are_in_two_folders_and_in_no_other() -> None:
    for folder, crds in (("crd", KAITO_CRDS), ("crd-karpenter", KARPENTER_CRDS)):
        objects = render(folder)
        assert sorted(each["metadata"]["name"] for each in objects) == sorted(each.name for each in crds)
        for each in objects:
            assert each["kind"] == "CustomResourceDefinition"
            assert each["metadata"]["annotations"].items() >= KEPT.items(), "nobody prunes it"
    for folder in set(kustomizations()) - {"crd", "crd-karpenter"}:
        assert not of_kind(render(folder), "CustomResourceDefinition"), folder


def test_uninstalling_finds_everything() -> None:
    """By kind and labels, whatever was applied."""
    removed = {(each.api_version, each.kind) for group in ORDER for each in group}
    for folder in set(kustomizations()) - {"crd", "crd-karpenter"}:
        for each in render(folder):
            assert each["metadata"]["labels"].items() >= LABELS.items(), (folder, key(each))
            assert (each["apiVersion"], each["kind"]) in removed, (folder, key(each))


@each_overlay
def test_nothing_is_set_that_somebody_else_writes(overlay: str) -> None:
    """The API server, or the operator: a second apply would take it away, or take it over."""
    for each in render(overlay):
        assert "status" not in each
        assert not {"uid", "resourceVersion", "generation", "creationTimestamp"} & each["metadata"].keys()
        assert "caBundle" not in str(each)
        assert each["kind"] != "Secret", "the operator makes its certificate itself"
        assert each["metadata"].get("namespace", SYSTEM) == SYSTEM


@each_overlay
def test_names_that_objects_give_one_another_are_there(overlay: str) -> None:
    objects = render(overlay)
    keys = {key(each) for each in objects}
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in of_kind(objects, "Deployment")]
    for deployment in of_kind(objects, "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        assert ("ServiceAccount", SYSTEM, spec["serviceAccountName"]) in keys
        (container,) = spec["containers"]
        for source in container["envFrom"]:
            assert ("ConfigMap", SYSTEM, source["configMapRef"]["name"]) in keys
    for binding in [*of_kind(objects, "ClusterRoleBinding"), *of_kind(objects, "RoleBinding")]:
        space = "" if binding["roleRef"]["kind"] == "ClusterRole" else SYSTEM
        assert (binding["roleRef"]["kind"], space, binding["roleRef"]["name"]) in keys
        for subject in binding["subjects"]:
            assert (subject["kind"], subject["namespace"], subject["name"]) in keys
    for selecting, path in (
        ("PodDisruptionBudget", ("spec", "selector", "matchLabels")),
        ("NetworkPolicy", ("spec", "podSelector", "matchLabels")),
        ("Service", ("spec", "selector")),
    ):
        found = of_kind(objects, selecting)
        assert found, selecting
        for each in found:
            wanted: Any = each
            for part in path:
                wanted = wanted[part]
            assert any(wanted.items() <= pod.items() for pod in labels), key(each)
    for kind in ("PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"):
        assert len(of_kind(objects, kind)) == len(labels), f"one {kind} for each Deployment"


@each_overlay
def test_pods_satisfy_the_restricted_standard(overlay: str) -> None:
    for deployment in of_kind(render(overlay), "Deployment"):
        spec = deployment["spec"]["template"]["spec"]
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] == pod["runAsGroup"] == 65532
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
        for volume in spec["volumes"]:
            assert volume.keys() - {"name"} <= {"emptyDir", "secret", "configMap"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@each_overlay
def test_pods_survive_what_happens_in_clusters(overlay: str) -> None:
    for deployment in of_kind(render(overlay), "Deployment"):
        spec = deployment["spec"]
        pod = spec["template"]["spec"]
        assert spec["replicas"] == 2
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        assert spec["selector"]["matchLabels"].keys() == {
            "app.kubernetes.io/name",
            "app.kubernetes.io/component",
        }
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        spread = pod["topologySpreadConstraints"]
        assert {each["whenUnsatisfiable"] for each in spread} == {"ScheduleAnyway"}
        assert {each["topologyKey"] for each in spread} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }
        assert pod["terminationGracePeriodSeconds"] > ManagerOptions().grace_period
        assert pod["priorityClassName"] == "system-cluster-critical"
        (container,) = pod["containers"]
        for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
            assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "health"}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}, "a CPU limit only makes it slow"
        assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


@each_overlay
def test_arguments_and_settings_are_the_commands(overlay: str) -> None:
    """The flags exist, and so do the environment variables, with values that the command takes."""
    for deployment in of_kind(render(overlay), "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        name, *flags = container["args"]
        with commands()[name].make_context(name, list(flags)) as context:
            assert context.params["leader_elect"] is True
        assert container["ports"][0] == {"name": "metrics", "containerPort": 8080, "protocol": "TCP"}


@each_overlay
def test_settings_are_known_to_a_command(overlay: str) -> None:
    objects = render(overlay)
    known = {
        parameter.envvar for name in ("operator", "provisioner") for parameter in commands()[name].params
    }
    (config,) = of_kind(objects, "ConfigMap")
    settings = config["data"]
    assert settings.keys() <= known | SETTINGS.keys()
    assert settings["PRESET_REGISTRY_NAME"]
    provisioner = NodeProvisioner.parse(settings["NODE_PROVISIONER"])
    cloud = parse_cloud(settings.get("CLOUD_PROVIDER", "azure"))
    parts = (settings.get(f"NODE_CLASS_{part}", "") for part in ("GROUP", "KIND", "NAME"))
    node_class = NodeClass(*parts)
    assert (node_class.on(cloud) if provisioner.pools is None else node_class.for_karpenter(cloud)).name
    bound = {each["metadata"]["name"] for each in of_kind(objects, "ClusterRoleBinding")}
    claims = {f"kaito-operator-{kind}" for kind in ("machine", "nodeclaim", "karpenter")}
    wanted = set() if provisioner.claims is None else {f"kaito-operator-{provisioner.value}"}
    assert bound & claims == wanted, "rights on the claims it makes, and on no others"


def own(folder: Path, overlay: str, components: Sequence[str] = (), **fields: Any) -> list[Object]:
    """A user's own kustomization on top of ours."""
    ours = Path(*([".."] * len(folder.parts[1:])), *MANIFESTS.parts[1:])
    body = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(ours / overlay)],
        "components": [str(ours / "components" / name) for name in components],
        **fields,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body))
    return render(folder)


def test_a_kustomization_of_ones_own_names_the_registry_once(tmp_path: Path) -> None:
    settings = {
        "name": "kaito-config",
        "namespace": SYSTEM,
        "behavior": "merge",
        "literals": ["PRESET_REGISTRY_NAME=r.example.com/kaito"],
    }
    image = {"name": "kaito/operator", "newName": "r.example.com/kaito/operator", "newTag": "7"}
    objects = own(tmp_path, "overlays/existing-provisioner", images=[image], configMapGenerator=[settings])
    (config,) = of_kind(objects, "ConfigMap")
    assert config["data"]["PRESET_REGISTRY_NAME"] == "r.example.com/kaito"
    found = of_kind(objects, "Deployment")
    assert len(found) == 2
    for deployment in found:
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "r.example.com/kaito/operator:7"
        assert container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]


def test_another_namespace_is_one_line(tmp_path: Path) -> None:
    objects = own(tmp_path, "overlays/existing-provisioner", namespace="elsewhere")
    assert SYSTEM not in str(objects)
    assert [each["metadata"]["name"] for each in of_kind(objects, "Namespace")] == ["elsewhere"]
    (hooks,) = of_kind(objects, "ValidatingWebhookConfiguration")
    assert {each["clientConfig"]["service"]["namespace"] for each in hooks["webhooks"]} == {"elsewhere"}
    bindings = [*of_kind(objects, "ClusterRoleBinding"), *of_kind(objects, "RoleBinding")]
    assert {each["namespace"] for binding in bindings for each in binding["subjects"]} == {"elsewhere"}


def test_components_fit_every_overlay(tmp_path: Path) -> None:
    removed = {(each.api_version, each.kind) for group in ORDER for each in group}
    for number, overlay in enumerate(OVERLAYS):
        folder = tmp_path / str(number)
        folder.mkdir()
        objects = own(folder, overlay, ["cert-manager", "critical-pods"])
        for each in objects:
            assert each["metadata"]["labels"].items() >= LABELS.items(), key(each)
            assert (each["apiVersion"], each["kind"]) in removed, key(each)
        (certificate,) = of_kind(objects, "Certificate")
        (service,) = of_kind(objects, "Service")
        name = service["metadata"]["name"]
        assert f"{name}.{SYSTEM}.svc" in certificate["spec"]["dnsNames"]
        (hooks,) = of_kind(objects, "ValidatingWebhookConfiguration")
        assert hooks["metadata"]["annotations"] == {
            "cert-manager.io/inject-ca-from": f"{SYSTEM}/{certificate['metadata']['name']}"
        }
        assert {each["clientConfig"]["service"]["name"] for each in hooks["webhooks"]} == {name}
        (deployment,) = (
            each for each in of_kind(objects, "Deployment") if each["metadata"]["name"] == "kaito-operator"
        )
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        with commands()["operator"].make_context("operator", container["args"][1:]) as context:
            mounted = context.params["webhook_cert_dir"]
            assert context.params["leader_elect"] is True
        assert {each["mountPath"] for each in container["volumeMounts"]} == {str(mounted), "/tmp"}
        secrets = [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]
        assert secrets == [certificate["spec"]["secretName"]]


@each_overlay
def test_the_operator_reads_the_prices_that_a_kustomization_generates(overlay: str, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("prices: []\n")
    generated = {"name": "kaito-prices", "namespace": SYSTEM, "files": ["prices.yaml"]}
    objects = own(tmp_path, overlay, ["prices"], configMapGenerator=[generated])
    pod = deployed(objects, "kaito-operator")["spec"]
    (container,) = pod["containers"]
    (file,) = (Path(each["value"]) for each in container["env"] if each["name"] == "KAITO_PRICES")
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == str(file.parent))
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    (found,) = (
        each
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"]["name"] == volume["configMap"]["name"]
    )
    assert set(found["data"]) == {file.name}
    assert found["metadata"]["name"].startswith("kaito-prices-"), "another price list is another name"


def deployed(objects: list[Object], name: str) -> Object:
    (found,) = (each for each in of_kind(objects, "Deployment") if each["metadata"]["name"] == name)
    template: Object = found["spec"]["template"]
    return template


@each_overlay
def test_a_provisioner_has_the_rights_for_its_cloud_and_no_other(overlay: str) -> None:
    objects = render(overlay)
    bound = {each["metadata"]["name"] for each in of_kind(objects, "ClusterRoleBinding")}
    granted = {cloud for cloud in roles.CLOUDS if f"kaito-provisioner-{cloud}" in bound}
    wanted = set()
    for deployment in of_kind(objects, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        if container["args"][0] == "provisioner":
            with commands()["provisioner"].make_context("provisioner", container["args"][1:]) as context:
                wanted.add(context.params["cloud_provider"])
    assert granted == wanted
    assert not any(name.startswith("kaito-operator-cloud") for name in bound), "its claims are another's work"


def test_only_the_provisioner_speaks_to_azure() -> None:
    objects = render("overlays/aks")
    label = "azure.workload.identity/use"
    assert deployed(objects, "kaito-provisioner")["metadata"]["labels"][label] == "true"
    assert label not in deployed(objects, "kaito-operator")["metadata"]["labels"]
    (config,) = of_kind(objects, "ConfigMap")
    assert not any(config["data"][each] for each in ("ARM_SUBSCRIPTION_ID", "ARM_RESOURCE_GROUP", "LOCATION"))
    assert config["data"]["CLAIM_KINDS"] == "nodeclaim", "a Karpenter's definition may be the only one"


def test_the_machines_identity_is_reached_only_where_it_is_wanted(tmp_path: Path) -> None:
    metadata_service = "169.254.169.254/32"
    assert metadata_service not in str(render("overlays/aks"))
    objects = own(tmp_path, "overlays/aks", ["aks-managed-identity"])
    (config,) = of_kind(objects, "ConfigMap")
    assert config["data"]["DEPLOYMENT_MODE"] == "managed"
    labels = deployed(objects, "kaito-provisioner")["metadata"]["labels"]
    assert "azure.workload.identity/use" not in labels, "the webhook would put another identity first"
    open_to = {
        policy["metadata"]["name"]
        for policy in of_kind(objects, "NetworkPolicy")
        if metadata_service in str(policy["spec"]["egress"])
    }
    assert open_to == {"kaito-provisioner"}


def test_nobody_of_ours_prefers_a_node_that_goes_with_its_workspace() -> None:
    for name in ("kaito-operator", "kaito-provisioner"):
        affinity = deployed(render("overlays/aks"), name)["spec"]["affinity"]["nodeAffinity"]
        preferred = [
            (rule["key"], rule["operator"])
            for each in affinity["preferredDuringSchedulingIgnoredDuringExecution"]
            for rule in each["preference"]["matchExpressions"]
        ]
        assert preferred == [("kaito.sh/workspace", "DoesNotExist"), ("kubernetes.azure.com/mode", "In")]
