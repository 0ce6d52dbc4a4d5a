"""What the flags of `kaito operator` say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OperatorConfig:
    """The flags of `kaito operator`, as given."""

    kubeconfig: Path | None
    context: str | None
    node_provisioner: str
    node_class_group: str
    node_class_kind: str
    node_class_name: str
    cloud: str
    cloud_provider: str
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
