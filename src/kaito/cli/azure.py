"""Azure for commands that only look: the provisioner's own settings and sign-in, without a cluster of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from kaito.cli.errors import CliError
from kaito.provisioner.errors import CloudError
from kaito.runtime.clock import Clock

if TYPE_CHECKING:
    from kaito.provisioner.aks.arm import Arm

CLUSTER: Final = ("ARM_RESOURCE_GROUP", "AZURE_CLUSTER_NAME")
"""What the provisioner needs and a look at quotas can do without."""
NO_CLUSTER: Final = "none"
MISSING: Final = "this needs packages that are not installed ({}): `pip install 'kaito[azure]'`."


class Region:
    """One region of one subscription, to be looked at. Errors come out as CliError.

    has_cluster: whether it is known which managed cluster is meant.
    """

    def __init__(self, arm: Arm, location: str, quota_page: str, *, has_cluster: bool) -> None:
        self._arm = arm
        self.location = location
        self.quota_page = quota_page
        self.has_cluster = has_cluster

    async def usages(self) -> list[Mapping[str, Any]]:
        return await _told(self._arm.usages())

    async def resource_skus(self) -> list[Mapping[str, Any]]:
        return await _told(self._arm.resource_skus())

    async def list_pools(self) -> list[Mapping[str, Any]]:
        """Agent pools of the cluster; none where it is not known which."""
        return await _told(self._arm.list_pools()) if self.has_cluster else []


async def _told(answer: Any) -> list[Mapping[str, Any]]:
    try:
        return list(await answer)
    except CloudError as error:
        raise CliError(f"Azure: {error.message}.") from None


@asynccontextmanager
async def region(location: str | None, clock: Clock) -> AsyncIterator[Region]:
    """The region of `--location`, else of $LOCATION, with the credentials that the environment describes.

    Raises CliError with everything that is missing or makes no sense.
    """
    try:
        from kaito.provisioner.aks.arm import Arm
        from kaito.provisioner.aks.config import AksConfig
    except ModuleNotFoundError as error:
        raise CliError(MISSING.format(error.name)) from None
    environment = dict(os.environ)
    has_cluster = all(environment.get(name, "").strip() for name in CLUSTER)
    if not has_cluster:
        environment.update(dict.fromkeys(CLUSTER, NO_CLUSTER))
    if location is not None:
        environment["LOCATION"] = location
    try:
        config = AksConfig.from_environment(environment)
    except ValueError as error:
        raise CliError(
            f"{error}. For your own sign-in run `az login` and set DEPLOYMENT_MODE=cli, ARM_SUBSCRIPTION_ID and "
            "--location."
        ) from None
    arm = Arm(config, clock)
    try:
        yield Region(arm, config.location, config.cloud.quota_page, has_cluster=has_cluster)
    finally:
        await arm.close()
