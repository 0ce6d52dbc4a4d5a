"""AKS: agent pools for claims. Azure's packages are loaded by `build` and not before.

config = AksConfig.from_environment(os.environ); provider = build(config, clock, nodes)
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from kaito.provisioner.aks.config import AksConfig
from kaito.provisioner.aks.options import check_defaults
from kaito.runtime.clock import Clock
from kaito.runtime.lister import Lister

if TYPE_CHECKING:
    from kaito.provisioner.aks.arm import Arm
    from kaito.provisioner.aks.provider import AksProvider

PACKAGES: Final = ("azure.identity", "azure.mgmt.containerservice")

__all__ = ["AksConfig", "build", "check_defaults", "check_installed"]


def check_installed() -> None:
    """Raises ModuleNotFoundError, naming it, where one of Azure's packages is not installed. Loads none of them."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def build(
    config: AksConfig,
    clock: Clock,
    nodes: Lister,
    *,
    defaults: Mapping[str, str] | None = None,
    arm: Arm | None = None,
) -> AksProvider:
    """The provider of one cluster. Asks nobody anything yet; `close` ends its connections.

    nodes: the cache of Nodes. defaults: options of pools for claims that do not say otherwise, as `check_defaults`
    allows. arm: the way to the cluster; default: the one that `config` describes.
    """
    from kaito.provisioner.aks.arm import Arm
    from kaito.provisioner.aks.provider import AksProvider
    from kaito.provisioner.aks.quota import QuotaGate

    way = Arm(config, clock) if arm is None else arm
    return AksProvider(
        way,
        clock,
        nodes,
        location=config.location,
        cluster=config.cluster,
        gate=lambda wake: QuotaGate(way, clock, config.location, wake, link=config.cloud.quota_page),
        defaults=defaults or {},
    )
