"""What the flags of `kaito operator` and `kaito provisioner` say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EXISTING_SELECTOR: Final = "kaito.sh/existing-node=true"
CLAIM_KINDS: Final = "machine,nodeclaim"
LAUNCH_TIMEOUT: Final = 1800.0
REGISTRATION_TIMEOUT: Final = 900.0
INITIALIZATION_TIMEOUT: Final = 900.0
"""Seconds; `kaito.controllers.machine.Limits` says why."""


@dataclass(frozen=True, kw_only=True)
class CloudFlags:
    """The flags about machines for claims, which both commands have, as given."""

    cloud_provider: str
    existing_selector: str = EXISTING_SELECTOR
    claim_kinds: str = CLAIM_KINDS
    aks_options: Sequence[str] | None = None
    launch_timeout: float = LAUNCH_TIMEOUT
    registration_timeout: float = REGISTRATION_TIMEOUT
    initialization_timeout: float = INITIALIZATION_TIMEOUT


@dataclass(frozen=True)
class OperatorConfig(CloudFlags):
    """The flags of `kaito operator`, as given."""

    kubeconfig: Path | None
    context: str | None
    node_provisioner: str
    node_class_group: str
    node_class_kind: str
    node_class_name: str
    node_class_names: str
    cloud: str
    preset_registry: str | None
    stand_in_weights: str
    images: tuple[str, ...]
    metrics_bind_address: str
    health_probe_bind_address: str
    leader_elect: bool
    log_format: str
    webhook: bool | None
    webhook_bind_address: str | None
    webhook_service: str
    webhook_cert_dir: Path | None
    webhook_register: bool
    prices: Path | None = None
    price_region: str | None = None
    held_weights: str | None = None


@dataclass(frozen=True)
class ProvisionerConfig(CloudFlags):
    """The flags of `kaito provisioner`, as given."""

    kubeconfig: Path | None
    context: str | None
    metrics_bind_address: str
    health_probe_bind_address: str
    leader_elect: bool
    log_format: str
