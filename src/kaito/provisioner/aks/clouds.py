"""Azure's clouds: the public one, the US government's and China's, by all names under which people write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Cloud:
    """Addresses of one cloud.

    name: as AZURE_ENVIRONMENT has it. also: other spellings of it. authority, authorities: host that gives tokens, and
    its former or other names. arm: URL of the Resource Manager. scope: what a token for it is asked for. portal: URL
    for people.
    """

    name: str
    also: tuple[str, ...]
    authority: str
    authorities: tuple[str, ...]
    arm: str
    scope: str
    portal: str

    @property
    def quota_page(self) -> str:
        """Where a person sees and raises quotas."""
        return f"{self.portal}/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas"


PUBLIC: Final = Cloud(
    name="AzurePublicCloud",
    also=("AzureCloud", "Public"),
    authority="login.microsoftonline.com",
    authorities=("login.windows.net", "login.microsoft.com", "sts.windows.net"),
    arm="https://management.azure.com",
    scope="https://management.azure.com/.default",
    portal="https://portal.azure.com",
)
US_GOVERNMENT: Final = Cloud(
    name="AzureUSGovernmentCloud",
    also=("AzureUSGovernment", "USGovernment"),
    authority="login.microsoftonline.us",
    authorities=("login-us.microsoftonline.com",),
    arm="https://management.usgovcloudapi.net",
    scope="https://management.core.usgovcloudapi.net/.default",
    portal="https://portal.azure.us",
)
CHINA: Final = Cloud(
    name="AzureChinaCloud",
    also=("China",),
    authority="login.chinacloudapi.cn",
    authorities=("login.partner.microsoftonline.cn",),
    arm="https://management.chinacloudapi.cn",
    scope="https://management.chinacloudapi.cn/.default",
    portal="https://portal.azure.cn",
)
CLOUDS: Final[Sequence[Cloud]] = (PUBLIC, US_GOVERNMENT, CHINA)
"""Sources of the addresses: azure.mgmt.core.tools.get_arm_endpoints, azure.identity.AzureAuthorityHosts."""


def by_name(name: str) -> Cloud | None:
    """The cloud of that name, whatever its case; None for a name that no cloud has."""
    wanted = name.strip().lower()
    return next((each for each in CLOUDS if wanted in _lower((each.name, *each.also))), None)


def by_authority(url: str) -> Cloud | None:
    """The cloud whose tokens come from that host, written with or without `https://`; None for another host."""
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    return next((each for each in CLOUDS if host in (each.authority, *each.authorities)), None)


def names() -> str:
    """All names that AZURE_ENVIRONMENT may have, for a sentence."""
    return ", ".join(each.name for each in CLOUDS)


def _lower(names: Sequence[str]) -> set[str]:
    return {name.lower() for name in names}
