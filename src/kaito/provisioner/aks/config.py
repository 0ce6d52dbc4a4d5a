"""Which managed cluster is served, and as whom: settings from the environment, under gpu-provisioner's names.

Its chart, the workload identity webhook and `az aks` guides all write these variables, so they are kept although some
are not prefixed. All that is missing or wrong is named in one sentence, before anything starts.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from kaito.provisioner.aks import clouds
from kaito.provisioner.aks.clouds import Cloud

ENDPOINT: Final = "AZURE_RESOURCE_MANAGER_ENDPOINT"
CALLS_IN_FLIGHT: Final = "ARM_CALLS_IN_FLIGHT"
SETTINGS: Final[Mapping[str, str]] = {
    "LOCATION": "region of the cluster, such as eastus",
    "ARM_RESOURCE_GROUP": "resource group of the cluster",
    "AZURE_CLUSTER_NAME": "name of the managed cluster",
    "ARM_SUBSCRIPTION_ID": "id of its subscription",
    "AZURE_TENANT_ID": "id of the tenant that the identity is in",
    "AZURE_CLIENT_ID": "client id of the identity",
    "DEPLOYMENT_MODE": "`managed`: the identity of the node; `cli`: whoever `az login` has signed in; empty or "
    "`self-hosted`: workload identity, or a secret or certificate where one is given",
    "AZURE_FEDERATED_TOKEN_FILE": "file with the service account's token; the workload identity webhook sets it",
    "AZURE_AUTHORITY_HOST": "who gives tokens; the workload identity webhook sets it",
    "AZURE_CLIENT_SECRET": "secret of the identity, instead of workload identity",
    "AZURE_CLIENT_CERTIFICATE_PATH": "PEM or PKCS12 file of the identity, instead of workload identity",
    "AZURE_CLIENT_CERTIFICATE_PASSWORD": "password of that file",
    "AZURE_ENVIRONMENT": f"{clouds.names()}; default: as AZURE_AUTHORITY_HOST says, else the first",
    ENDPOINT: "URL of another Resource Manager; http on loopback only, where no real token is sent",
    CALLS_IN_FLIGHT: "requests to the Resource Manager at the same time, 1 to 100; default 10",
}
"""Every variable that is read, with its meaning."""
VARIABLES: Final = tuple(SETTINGS)
"""Their names, for the documentation's table and the manifests."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_GROUP: Final = re.compile(r"[\w().-]{0,89}[\w()-]")
_CLUSTER: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_LOCATION: Final = re.compile(r"[a-z0-9]+")


class SignIn(StrEnum):
    """How tokens are had."""

    WORKLOAD = "workload identity"
    MANAGED = "managed identity"
    SECRET = "client secret"
    CERTIFICATE = "client certificate"
    CLI = "az login"
    NONE = "none"
    """The Resource Manager is a fake on loopback: a fixed word is sent instead of a token."""


@dataclass(frozen=True, slots=True)
class AksConfig:
    """One managed cluster and the identity that serves it.

    location: as in `eastus`, without spaces. arm, authority: URLs without a slash at the end.
    calls_in_flight: requests at the same time. request_timeout: seconds for one request, its token and body included.
    """

    location: str
    resource_group: str
    cluster: str
    subscription_id: str
    tenant_id: str = ""
    client_id: str = ""
    sign_in: SignIn = SignIn.WORKLOAD
    federated_token_file: str = ""
    client_secret: str = field(default="", repr=False)
    certificate_path: str = ""
    certificate_password: str = field(default="", repr=False)
    cloud: Cloud = clouds.PUBLIC
    arm: str = clouds.PUBLIC.arm
    authority: str = f"https://{clouds.PUBLIC.authority}"
    calls_in_flight: int = 10
    request_timeout: float = 30.0

    @property
    def cluster_id(self) -> str:
        """The cluster's resource id."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.ContainerService/managedClusters/{self.cluster}"
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AksConfig:
        """The settings in `SETTINGS`, without space around them.

        Raises ValueError: one sentence with everything that is missing or wrong.
        """
        reader = _Reader(environment)
        found = reader.read()
        reader.complain()
        return found


class _Reader:
    """Reads the variables and collects what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._values = {name: environment.get(name, "").strip() for name in SETTINGS}
        self._missing: list[str] = []
        self._wrong: list[str] = []

    def read(self) -> AksConfig:
        arm, cloud = self._arm(), self._cloud()
        sign_in = SignIn.NONE if arm.startswith("http://") else self._sign_in()
        needs_tenant = sign_in in (SignIn.WORKLOAD, SignIn.SECRET, SignIn.CERTIFICATE)
        return AksConfig(
            location=self._required("LOCATION", _LOCATION, "eastus", clean=_location),
            resource_group=self._required("ARM_RESOURCE_GROUP", _GROUP, "my-group"),
            cluster=self._required("AZURE_CLUSTER_NAME", _CLUSTER, "my-cluster"),
            subscription_id=self._required("ARM_SUBSCRIPTION_ID", _UUID, "the id, not the name"),
            tenant_id=self._optional("AZURE_TENANT_ID", _TENANT, needed=needs_tenant),
            client_id=self._optional("AZURE_CLIENT_ID", _UUID, needed=needs_tenant),
            sign_in=sign_in,
            federated_token_file=self._values["AZURE_FEDERATED_TOKEN_FILE"],
            client_secret=self._values["AZURE_CLIENT_SECRET"],
            certificate_path=self._values["AZURE_CLIENT_CERTIFICATE_PATH"],
            certificate_password=self._values["AZURE_CLIENT_CERTIFICATE_PASSWORD"],
            cloud=cloud,
            arm=arm or cloud.arm,
            authority=self._authority() or f"https://{cloud.authority}",
            calls_in_flight=self._calls_in_flight(),
        )

    def complain(self) -> None:
        parts = []
        if self._missing:
            named = ", ".join(f"{name} ({SETTINGS[name]})" for name in self._missing)
            parts.append(f"not set in the environment: {named}")
        if parts or self._wrong:
            raise ValueError("; ".join([*parts, *self._wrong]))

    def _required(
        self, name: str, rule: re.Pattern[str], example: str, *, clean: Callable[[str], str] = str
    ) -> str:
        value = clean(self._values[name])
        if not value:
            self._missing.append(name)
        elif not rule.fullmatch(value):
            self._wrong.append(f"{name}={value}: write the {SETTINGS[name].split(',')[0]} ({example})")
        return value

    def _optional(self, name: str, rule: re.Pattern[str], *, needed: bool) -> str:
        value = self._values[name]
        if value and not rule.fullmatch(value):
            self._wrong.append(f"{name}={value}: write the {SETTINGS[name]}")
        if needed and not value:
            self._missing.append(name)
        return value

    def _sign_in(self) -> SignIn:
        mode = self._values["DEPLOYMENT_MODE"].lower()
        if mode in ("managed", "cli"):
            return SignIn.MANAGED if mode == "managed" else SignIn.CLI
        if mode not in ("", "self-hosted"):
            self._wrong.append(f"DEPLOYMENT_MODE={mode}: write managed, cli or self-hosted")
        for name, sign_in in (
            ("AZURE_FEDERATED_TOKEN_FILE", SignIn.WORKLOAD),
            ("AZURE_CLIENT_SECRET", SignIn.SECRET),
            ("AZURE_CLIENT_CERTIFICATE_PATH", SignIn.CERTIFICATE),
        ):
            if self._values[name]:
                return sign_in
        self._wrong.append(
            "no credential: AZURE_FEDERATED_TOKEN_FILE is not set, so the workload identity webhook has not changed "
            "this pod (label azure.workload.identity/use=true, service account with annotation "
            "azure.workload.identity/client-id); for the node's own identity set DEPLOYMENT_MODE=managed"
        )
        return SignIn.WORKLOAD

    def _cloud(self) -> Cloud:
        name, authority = self._values["AZURE_ENVIRONMENT"], self._values["AZURE_AUTHORITY_HOST"]
        named, told = clouds.by_name(name), clouds.by_authority(authority)
        if name and named is None:
            self._wrong.append(f"AZURE_ENVIRONMENT={name}: write one of {clouds.names()}")
        if named is not None and told is not None and named is not told:
            self._wrong.append(
                f"AZURE_ENVIRONMENT={name} and AZURE_AUTHORITY_HOST={authority} are of different clouds"
            )
        return named or told or clouds.PUBLIC

    def _arm(self) -> str:
        url = self._values[ENDPOINT].rstrip("/")
        if url and not _is_safe(url):
            self._wrong.append(
                f"{ENDPOINT}={_without_user(url)}: write https://HOST; http is for a fake on loopback"
            )
            return ""
        return url

    def _authority(self) -> str:
        host = self._values["AZURE_AUTHORITY_HOST"].rstrip("/")
        url = host if not host or "//" in host else f"https://{host}"
        if url and not (_is_safe(url) and url.startswith("https://")):
            self._wrong.append(f"AZURE_AUTHORITY_HOST={_without_user(url)}: write https://HOST")
        return url

    def _calls_in_flight(self) -> int:
        value = self._values[CALLS_IN_FLIGHT]
        if not value:
            return 10
        if not value.isdecimal() or not 1 <= int(value) <= 100:
            self._wrong.append(f"{CALLS_IN_FLIGHT}={value}: write a number from 1 to 100")
            return 1
        return int(value)


def _location(name: str) -> str:
    """Azure's display names (`East US`) mean the same as its names."""
    return name.lower().replace(" ", "")


def _is_safe(url: str) -> bool:
    """https, or http to this machine; a host and nothing that hides another."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_user(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
