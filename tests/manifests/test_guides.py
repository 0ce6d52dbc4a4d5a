"""The guides name what is there: paths, settings, components, flags of commands, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from kaito.cli.main import app
from kaito.cli.uninstall import run
from kaito.provisioner.aks.config import SETTINGS, AksConfig
from kaito.provisioner.aks.options import OPTIONS
from support.kustomize import MANIFESTS, OVERLAYS, Object, of_kind, render

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("install.md", "upgrade.md", "uninstall.md", "aks.md")


def text(guide: str) -> str:
    return (DOCS / guide).read_text(encoding="utf-8")


def commands() -> Any:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group.commands


@pytest.mark.parametrize("guide", GUIDES)
def test_paths_and_links_lead_somewhere(guide: str) -> None:
    content = text(guide)
    paths = re.findall(r"\b((?:manifests|examples)/[\w./-]+\w)", content)
    assert paths
    for path in paths:
        assert (DOCS.parent / path).exists(), path
    for link in re.findall(r"\]\(([\w./-]+\.md)\)", content):
        assert (DOCS / link).exists(), link


def test_every_overlay_component_and_setting_is_in_the_guide() -> None:
    content = text("install.md")
    for overlay in OVERLAYS:
        assert f"`{overlay}`" in content
        (config,) = of_kind(render(overlay), "ConfigMap")
        for name in config["data"]:
            assert f"`{name}`" in content
    for component in (MANIFESTS / "components").iterdir():
        assert f"components/{component.name}" in content
    known = {each.envvar for name in ("operator", "provisioner") for each in commands()[name].params} | {
        *SETTINGS
    }
    table = content.partition("## Settings")[2].partition("Optional parts")[0]
    assert {*re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", table)} <= known


def example(guide: str, folder: Path, number: int = 0) -> list[Object]:
    """What a kustomization of one's own in the guide stands for; number: which of them."""
    body = yaml.safe_load(text(guide).split("```yaml\n")[number + 1].partition("```")[0])
    ours = Path(*([".."] * len(folder.parts[1:])), *MANIFESTS.parts[1:])
    for field in ("resources", "components"):
        body[field] = [str(ours / each.partition("manifests/")[2]) for each in body.get(field, ())]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(body))
    return render(folder)


def test_the_example_of_ones_own_renders(tmp_path: Path) -> None:
    (deployment,) = of_kind(example("install.md", tmp_path), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.com/kaito/operator:")


def test_the_example_for_aks_says_which_cluster_it_is(tmp_path: Path) -> None:
    objects = example("aks.md", tmp_path)
    (config,) = of_kind(objects, "ConfigMap")
    pod = {
        "AZURE_TENANT_ID": "72f988bf-86f1-41af-91ab-2d7cd011db47",
        "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
        "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure/tokens/azure-identity-token",
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
    }
    settings = AksConfig.from_environment({**config["data"], **pod})
    assert (settings.cluster, settings.location) == ("kaito", "eastus")
    accounts = {each["metadata"]["name"]: each["metadata"] for each in of_kind(objects, "ServiceAccount")}
    client = accounts["kaito-provisioner"]["annotations"]["azure.workload.identity/client-id"]
    assert client == pod["AZURE_CLIENT_ID"]
    for deployment in of_kind(objects, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"].startswith("registry.example.com/kaito/operator:")


def test_the_example_of_one_process_for_aks_has_what_two_have(tmp_path: Path) -> None:
    objects = example("aks.md", tmp_path, 1)
    (deployment,) = of_kind(objects, "Deployment")
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    (container,) = template["spec"]["containers"]
    with commands()["operator"].make_context("operator", container["args"][1:]) as context:
        assert (context.params["cloud_provider"], context.params["leader_elect"]) == ("aks", True)
    bound = {each["metadata"]["name"] for each in of_kind(objects, "ClusterRoleBinding")}
    assert {"kaito-operator-cloud-aks", "kaito-operator-nodeclaim"} <= bound
    (config,) = of_kind(objects, "ConfigMap")
    assert {"ARM_SUBSCRIPTION_ID", "CLAIM_KINDS", "LOCATION"} <= config["data"].keys()


def test_every_setting_of_aks_is_in_its_table_and_no_other() -> None:
    table = text("aks.md").partition("## Settings")[2].partition("`AKS_OPTIONS` holds")[0]
    rows = re.findall(r"^\| (`[A-Z`_, ]+) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {*SETTINGS}


def test_every_option_of_a_pool_is_in_its_table_with_what_is_allowed() -> None:
    table = text("aks.md").partition("## Options")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*?) \|", table, re.MULTILINE))
    assert list(rows) == [option.name for option in OPTIONS]
    for option in OPTIONS:
        allowed = option.allowed.partition(";")[0]
        assert rows[option.name].replace("`", "").startswith(allowed), option.name


def test_the_role_for_aks_can_be_read() -> None:
    _, _, rest = text("aks.md").partition("--role-definition '")
    role = json.loads(rest.partition("}'")[0].replace("'$SUBSCRIPTION'", "id") + "}")
    assert all(re.fullmatch(r"Microsoft\.\w+(/\w+)+/(read|write|delete)", each) for each in role["Actions"])
    assert not any(each.startswith("Microsoft.Authorization") for each in role["Actions"])


def test_flags_and_exit_codes_of_uninstall() -> None:
    content = text("uninstall.md")
    flags = {option for each in commands()["uninstall"].params for option in each.opts}
    used = {*re.findall(r"kaito uninstall (--[\w-]+)", content), *re.findall(r"`(--[\w-]+)`", content)}
    assert used
    assert used <= flags
    codes = {int(each) for each in re.findall(r"^\| (\d) \|", content, re.MULTILINE)}
    assert codes == {0, 1, run.NOT_CONFIRMED, run.NO_OPERATOR, run.NOT_IN_TIME}
