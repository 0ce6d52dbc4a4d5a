"""gpu-provisioner's environment, read as its own and complained about at once."""

from __future__ import annotations

from typing import Final

import pytest

from kaito.provisioner.aks import clouds
from kaito.provisioner.aks.config import SETTINGS, VARIABLES, AksConfig, SignIn

CLIENT: Final = "11111111-2222-3333-4444-555555555555"
SUBSCRIPTION: Final = "00000000-0000-0000-0000-00000000c0de"
CHART: Final = {
    "LOCATION": "eastus",
    "ARM_RESOURCE_GROUP": "my-group",
    "AZURE_CLUSTER_NAME": "mine",
    "ARM_SUBSCRIPTION_ID": SUBSCRIPTION,
    "AZURE_TENANT_ID": "72f988bf-86f1-41af-91ab-2d7cd011db47",
    "AZURE_CLIENT_ID": CLIENT,
    "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/azure/tokens/azure-identity-token",
    "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
}
"""As gpu-provisioner's chart and the workload identity webhook write it."""


def complaint(**changes: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the sentence is what the tests look at
        AksConfig.from_environment({**CHART, **changes})
    return str(caught.value)


def test_gpu_provisioner_s_environment_is_enough() -> None:
    found = AksConfig.from_environment(CHART)
    assert found == AksConfig(
        location="eastus",
        resource_group="my-group",
        cluster="mine",
        subscription_id=SUBSCRIPTION,
        tenant_id=CHART["AZURE_TENANT_ID"],
        client_id=CLIENT,
        sign_in=SignIn.WORKLOAD,
        federated_token_file=CHART["AZURE_FEDERATED_TOKEN_FILE"],
    )
    assert found.cluster_id == (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/my-group/providers/Microsoft.ContainerService/managedClusters/mine"
    )


def test_space_around_values_and_in_a_region_s_title_does_not_count() -> None:
    padded = {name: f" {value}\n" for name, value in CHART.items()}
    assert AksConfig.from_environment({**padded, "LOCATION": " East US "}) == AksConfig.from_environment(
        CHART
    )


def test_everything_that_is_missing_is_named_together_with_what_it_is() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        AksConfig.from_environment({})
    said = str(caught.value)
    for name in (
        *("LOCATION", "ARM_RESOURCE_GROUP", "AZURE_CLUSTER_NAME", "ARM_SUBSCRIPTION_ID"),
        *("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"),
    ):
        assert name in said
    assert SETTINGS["LOCATION"] in said
    assert "workload identity webhook" in said


@pytest.mark.parametrize(
    "name", ["LOCATION", "ARM_RESOURCE_GROUP", "AZURE_CLUSTER_NAME", "ARM_SUBSCRIPTION_ID"]
)
def test_what_names_the_cluster_may_not_be_empty(name: str) -> None:
    assert complaint(**{name: " "}) == f"not set in the environment: {name} ({SETTINGS[name]})"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOCATION", "east_us"),
        ("ARM_RESOURCE_GROUP", "a/b"),
        ("AZURE_CLUSTER_NAME", "-mine"),
        ("AZURE_CLUSTER_NAME", "a" * 64),
        ("ARM_SUBSCRIPTION_ID", "my subscription"),
        ("AZURE_TENANT_ID", "contoso/x"),
        ("AZURE_CLIENT_ID", "my-identity"),
        ("DEPLOYMENT_MODE", "manged"),
        ("AZURE_ENVIRONMENT", "AzureGermanCloud"),
        ("AZURE_AUTHORITY_HOST", "http://login.microsoftonline.com"),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com@example.net"),
        ("AZURE_RESOURCE_MANAGER_ENDPOINT", "management.azure.com"),
        ("AZURE_RESOURCE_MANAGER_ENDPOINT", "https://management.azure.com/?x=y"),
        ("ARM_CALLS_IN_FLIGHT", "0"),
        ("ARM_CALLS_IN_FLIGHT", "many"),
    ],
)
def test_what_makes_no_sense_is_named_with_what_to_write(name: str, value: str) -> None:
    said = complaint(**{name: value})
    assert said.startswith(f"{name}=")
    assert "write" in said


@pytest.mark.parametrize(
    "url",
    [
        "http://management.azure.com",
        "http://10.0.0.4:8080",
        "http://localhost.example.net",
        "http://127.0.0.1@example.net",
        "ftp://127.0.0.1",
    ],
)
def test_plain_http_is_for_this_machine_alone(url: str) -> None:
    assert "loopback" in complaint(AZURE_RESOURCE_MANAGER_ENDPOINT=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/", "http://localhost:1", "http://[::1]:8080"])
def test_a_fake_on_this_machine_needs_no_credential(url: str) -> None:
    bare = {name: value for name, value in CHART.items() if name.startswith(("LOC", "ARM", "AZURE_CLUSTER"))}
    found = AksConfig.from_environment({**bare, "AZURE_RESOURCE_MANAGER_ENDPOINT": url})
    assert found.sign_in is SignIn.NONE
    assert found.arm == url.rstrip("/")


def test_a_private_resource_manager_over_https_keeps_the_credential() -> None:
    found = AksConfig.from_environment(
        {**CHART, "AZURE_RESOURCE_MANAGER_ENDPOINT": "https://arm.internal.example"}
    )
    assert (found.arm, found.sign_in) == ("https://arm.internal.example", SignIn.WORKLOAD)


@pytest.mark.parametrize(
    ("changes", "sign_in"),
    [
        ({}, SignIn.WORKLOAD),
        ({"DEPLOYMENT_MODE": "self-hosted"}, SignIn.WORKLOAD),
        ({"DEPLOYMENT_MODE": "Managed"}, SignIn.MANAGED),
        ({"DEPLOYMENT_MODE": "cli"}, SignIn.CLI),
        ({"AZURE_CLIENT_SECRET": "canary"}, SignIn.WORKLOAD),
        ({"AZURE_FEDERATED_TOKEN_FILE": "", "AZURE_CLIENT_SECRET": "canary"}, SignIn.SECRET),
        ({"AZURE_FEDERATED_TOKEN_FILE": "", "AZURE_CLIENT_CERTIFICATE_PATH": "/c.pem"}, SignIn.CERTIFICATE),
    ],
)
def test_how_tokens_are_had(changes: dict[str, str], sign_in: SignIn) -> None:
    assert AksConfig.from_environment({**CHART, **changes}).sign_in is sign_in


@pytest.mark.parametrize("mode", ["managed", "cli"])
def test_the_node_s_identity_and_az_login_need_neither_tenant_nor_client(mode: str) -> None:
    bare = {name: value for name, value in CHART.items() if name.startswith(("LOC", "ARM", "AZURE_CLUSTER"))}
    found = AksConfig.from_environment({**bare, "DEPLOYMENT_MODE": mode})
    assert (found.tenant_id, found.client_id) == ("", "")


def test_workload_identity_names_both_that_it_needs() -> None:
    said = complaint(AZURE_TENANT_ID="", AZURE_CLIENT_ID="")
    assert "AZURE_TENANT_ID" in said
    assert "AZURE_CLIENT_ID" in said


@pytest.mark.parametrize("cloud", clouds.CLOUDS, ids=lambda cloud: cloud.name)
def test_a_sovereign_cloud_is_known_by_its_name_or_by_who_gives_tokens(cloud: clouds.Cloud) -> None:
    for name in (cloud.name, cloud.name.upper(), *cloud.also):
        found = AksConfig.from_environment({**CHART, "AZURE_ENVIRONMENT": name, "AZURE_AUTHORITY_HOST": ""})
        assert (found.cloud, found.arm) == (cloud, cloud.arm)
        assert found.authority == f"https://{cloud.authority}"
    for host in (cloud.authority, *cloud.authorities):
        for url in (host, f"https://{host}/"):
            found = AksConfig.from_environment({**CHART, "AZURE_AUTHORITY_HOST": url})
            assert (found.cloud, found.arm, found.authority) == (cloud, cloud.arm, f"https://{host}")


def test_the_addresses_are_those_of_the_sdk() -> None:
    from azure.core import AzureClouds
    from azure.identity import AzureAuthorityHosts
    from azure.mgmt.core.tools import get_arm_endpoints

    for cloud, theirs, authority in (
        (clouds.PUBLIC, AzureClouds.AZURE_PUBLIC_CLOUD, AzureAuthorityHosts.AZURE_PUBLIC_CLOUD),
        (clouds.US_GOVERNMENT, AzureClouds.AZURE_US_GOVERNMENT, AzureAuthorityHosts.AZURE_GOVERNMENT),
        (clouds.CHINA, AzureClouds.AZURE_CHINA_CLOUD, AzureAuthorityHosts.AZURE_CHINA),
    ):
        endpoints = get_arm_endpoints(theirs)
        assert f"{cloud.arm}/" == endpoints["resource_manager"]
        assert [cloud.scope] == endpoints["credential_scopes"]
        assert cloud.authority == authority


def test_two_clouds_at_once_are_refused() -> None:
    said = complaint(AZURE_ENVIRONMENT="AzureChinaCloud")
    assert "AZURE_ENVIRONMENT" in said
    assert "AZURE_AUTHORITY_HOST" in said


def test_an_authority_of_one_s_own_leaves_the_cloud_to_its_name() -> None:
    found = AksConfig.from_environment(
        {**CHART, "AZURE_AUTHORITY_HOST": "https://sts.example", "AZURE_ENVIRONMENT": "AzureChinaCloud"}
    )
    assert (found.cloud, found.authority) == (clouds.CHINA, "https://sts.example")


def test_a_limit_of_calls_in_flight() -> None:
    assert AksConfig.from_environment(CHART).calls_in_flight == 10
    assert AksConfig.from_environment({**CHART, "ARM_CALLS_IN_FLIGHT": "25"}).calls_in_flight == 25


def test_secrets_are_neither_shown_nor_complained_about() -> None:
    found = AksConfig.from_environment(
        {**CHART, "AZURE_CLIENT_SECRET": "canary", "AZURE_CLIENT_CERTIFICATE_PASSWORD": "canary"}
    )
    assert "canary" not in repr(found)
    wrong = dict.fromkeys(VARIABLES, "???") | {
        "AZURE_CLIENT_SECRET": "canary",
        "AZURE_CLIENT_CERTIFICATE_PASSWORD": "canary",
        "AZURE_AUTHORITY_HOST": "ftp://me:canary@x",
        "AZURE_RESOURCE_MANAGER_ENDPOINT": "https://me:canary@x",
    }
    said = complaint(**wrong)
    assert "canary" not in said
