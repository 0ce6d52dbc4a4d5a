"""`--cloud-provider`: the same for both commands, read before anything starts; only what is asked for is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaito.api.resources import MACHINES, NODECLAIMS
from kaito.cli.errors import CliError
from kaito.cli.main import app
from kaito.cli.operator.clouds import FOR_OPERATOR, FOR_PROVISIONER, choose
from kaito.cli.operator.config import CloudFlags
from kaito.cli.operator.names import CloudName
from kaito.provisioner import aks
from kaito.provisioner.aks.config import SETTINGS

HERE = {
    "ARM_SUBSCRIPTION_ID": "11111111-2222-3333-4444-555555555555",
    "ARM_RESOURCE_GROUP": "group",
    "AZURE_CLUSTER_NAME": "cluster",
    "LOCATION": "eastus",
    "AZURE_RESOURCE_MANAGER_ENDPOINT": "http://127.0.0.1:1",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One without any setting of Azure's."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def flags(provider: str, **more: str) -> CloudFlags:
    return CloudFlags(cloud_provider=provider, **more)


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, CliError), result.output
    return str(result.exception)


@pytest.mark.parametrize("command", ["operator", "provisioner"])
def test_all_that_is_missing_for_aks_is_said_at_once_and_before_a_cluster_is_looked_for(command: str) -> None:
    said = refusal(command, "--cloud-provider=aks")
    assert "\n" not in said
    for name in (
        "ARM_SUBSCRIPTION_ID",
        "ARM_RESOURCE_GROUP",
        "AZURE_CLUSTER_NAME",
        "LOCATION",
        "no credential",
    ):
        assert name in said
    assert "--context" not in said


@pytest.mark.parametrize("command", ["operator", "provisioner"])
def test_an_option_of_pools_that_is_none_is_said_before_any_pool_is_made(
    command: str, environment: pytest.MonkeyPatch
) -> None:
    for name, value in HERE.items():
        environment.setenv(name, value)
    said = refusal(command, "--cloud-provider=aks", "--aks-option=os-sku=Windows")
    assert said.startswith('--aks-option or AKS_OPTIONS: os-sku says "Windows"; allowed is Ubuntu')
    assert refusal(command, "--cloud-provider=aks", "--aks-option=spot") == (
        "--aks-option=spot (or AKS_OPTIONS): write NAME=VALUE, such as os-sku=AzureLinux."
    )


def test_options_of_pools_come_from_the_environment_too(environment: pytest.MonkeyPatch) -> None:
    for name, value in HERE.items():
        environment.setenv(name, value)
    environment.setenv("AKS_OPTIONS", "os-sku=AzureLinux zones=9,x")
    assert "zones" in refusal("provisioner", "--cloud-provider=aks")


def test_packages_that_are_not_installed_are_named_with_the_way_to_have_them(
    environment: pytest.MonkeyPatch,
) -> None:
    def without() -> None:
        raise ModuleNotFoundError("No module named 'azure.identity'", name="azure.identity")

    environment.setattr(aks, "check_installed", without)
    with pytest.raises(CliError, match=r"not installed \(azure\.identity\): `pip install 'kaito\[azure\]'`"):
        choose(flags("aks"), FOR_PROVISIONER)


def test_each_command_knows_its_clouds() -> None:
    assert choose(flags("none"), FOR_OPERATOR) is None
    for provider in ("existing", "instant"):
        chosen = choose(flags(provider), FOR_OPERATOR)
        assert chosen is not None
        assert chosen.name == CloudName(provider)
    with pytest.raises(CliError, match="write none, instant, existing or aks"):
        choose(flags("gcp"), FOR_OPERATOR)
    for provider in ("none", "instant"):
        with pytest.raises(CliError, match="write existing or aks"):
            choose(flags(provider), FOR_PROVISIONER)


def test_the_kinds_of_claims_are_a_choice() -> None:
    def served(kinds: str) -> tuple[object, ...]:
        chosen = choose(flags("existing", claim_kinds=kinds), FOR_PROVISIONER)
        assert chosen is not None
        return chosen.claims

    assert served("machine,nodeclaim") == (MACHINES, NODECLAIMS)
    assert served(" NodeClaim ") == (NODECLAIMS,)
    for wrong in ("", "node", "machine,node"):
        with pytest.raises(CliError, match="write machine or nodeclaim, or both with a comma"):
            served(wrong)


@pytest.mark.parametrize(
    ("command", "provider", "loaded"),
    [
        ("operator", "none", False),
        ("operator", "existing", False),
        ("provisioner", "existing", False),
        ("provisioner", "aks", True),
        ("operator", "aks", True),
    ],
)
def test_packages_of_a_cloud_are_loaded_where_it_makes_machines_and_nowhere_else(
    command: str, provider: str, loaded: bool, environment: pytest.MonkeyPatch
) -> None:
    for name, value in HERE.items():
        environment.setenv(name, value)
    program = Path(__file__).with_name("loaded_modules.py")
    done = subprocess.run(
        [sys.executable, str(program), command, provider], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ("azure msal" if loaded else "")
