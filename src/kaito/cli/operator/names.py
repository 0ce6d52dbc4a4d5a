"""Names under which `kaito operator` and `kaito provisioner` are found in a cluster, and those of the clouds."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

LEASE_NAME: Final = "kaito-operator"
"""The Lease of `kaito operator --leader-elect`."""
PROVISIONER_LEASE_NAME: Final = "kaito-provisioner"
"""The Lease of `kaito provisioner --leader-elect`."""


class CloudName(StrEnum):
    """Values of `--cloud-provider`, beside none."""

    INSTANT = "instant"
    EXISTING = "existing"
    AKS = "aks"
