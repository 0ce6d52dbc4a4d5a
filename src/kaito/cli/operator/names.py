"""Names under which `kaito operator` and `kaito provisioner` are found in a cluster."""

from __future__ import annotations

from typing import Final

LEASE_NAME: Final = "kaito-operator"
"""The Lease of `kaito operator --leader-elect`."""
PROVISIONER_LEASE_NAME: Final = "kaito-provisioner"
"""The Lease of `kaito provisioner --leader-elect`."""
