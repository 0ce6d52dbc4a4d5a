"""`kaito operator`: the three controllers against any API server.

In a pod it uses the pod's service account. Elsewhere it wants the context by name and says which server it is about to
write to: an operator started by mistake against the wrong cluster is an expensive mistake.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import typer

from kaito import __version__
from kaito.catalog import load_catalog
from kaito.cli.build_info import BuildInfo
from kaito.cli.errors import CliError
from kaito.cli.local.images import parse_image_map
from kaito.cli.operator.checks import check_operator
from kaito.cli.operator.config import OperatorConfig
from kaito.cli.operator.names import LEASE_NAME
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeClass, NodeProvisioner, WorkspaceConfig, parse_cloud
from kaito.embedded.processes.lifeline import end_with_parent, report_ready
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.connection import SERVICE_ACCOUNT, Connection
from kaito.runtime.garbage import relax_collector
from kaito.runtime.leader import LeaderElectionOptions
from kaito.runtime.logs import configure_logging
from kaito.runtime.manager import Manager, ManagerOptions

USER_AGENT = f"kaito-operator/{__version__}"
PATIENCE = 10 * 365 * 86400.0
"""Seconds to wait for caches: what keeps them from filling is told by /readyz, and a restart would mend none of it."""


async def run_operator(config: OperatorConfig) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises:
        CliError: a flag's value is not known, or there is no cluster to use.
    """
    if config.log_format not in ("json", "human"):
        raise CliError(f"--log-format={config.log_format}: write json or human.")
    supervised = end_with_parent()
    configure_logging("json" if config.log_format == "json" else "human")
    clock = LoopClock()
    connection = _connect(config, clock)
    try:
        client = Client(
            connection.transport, clock=clock, user_agent=USER_AGENT, field_manager="kaito-operator"
        )
        manager = operator_manager(client, clock, config, connection.namespace)
        if supervised:
            manager.add(_Ready(manager, config))
        relax_collector()
        await manager.run_until_signal()
    except OSError as error:  # of listening; what concerns the cluster is a TransportError
        raise CliError(
            f"Metrics or health checks cannot be served: {error.strerror}. Choose other addresses with "
            '--metrics-bind-address and --health-probe-bind-address; "0" turns one off.'
        ) from None
    finally:
        await connection.close()


def operator_manager(client: Client, clock: Clock, config: OperatorConfig, namespace: str) -> Manager:
    """Everything that the flags ask for, through this client; `namespace` is the operator's own.

    Raises CliError where a flag's value is not known.
    """
    settings = _workspace_config(config)
    manager = _manager(client, clock, config, namespace)
    check_operator(manager, settings.node_provisioner, namespace)
    manager.metrics.add(BuildInfo())
    try:
        workspace.setup(manager, settings, load_catalog())
    except ValueError as error:
        raise CliError(str(error)) from None
    adapter.setup(manager, _adapter_options(config))
    if config.cloud_provider == "instant":
        cloud = InstantCloud(client.named(machine.USER_AGENT, machine.FIELD_MANAGER), clock)
        machine.setup(manager, cloud)
    elif config.cloud_provider != "none":
        raise CliError(f"--cloud-provider={config.cloud_provider}: write none or instant.")
    return manager


def _adapter_options(config: OperatorConfig) -> AdapterOptions:
    # The instant cloud's nodes are this machine, so their host paths are ours.
    return AdapterOptions(
        image_map=parse_image_map(config.images), host_paths=config.cloud_provider == "instant"
    )


def _workspace_config(config: OperatorConfig) -> WorkspaceConfig:
    try:
        settings = WorkspaceConfig(
            node_provisioner=NodeProvisioner.parse(config.node_provisioner),
            stand_in_weights=config.stand_in_weights,
            cloud=parse_cloud(config.cloud),
            node_class=NodeClass(config.node_class_group, config.node_class_kind, config.node_class_name),
        )
        return replace(settings, registry=config.preset_registry) if config.preset_registry else settings
    except ValueError as error:
        raise CliError(str(error)) from None


def _connect(config: OperatorConfig, clock: LoopClock) -> Connection:
    if config.kubeconfig is None and config.context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Connection.in_cluster(clock=clock)
    if config.context is None:
        raise CliError(
            "Outside a cluster, say which one to operate: `kaito operator --context NAME` (and --kubeconfig FILE "
            "unless it is $KUBECONFIG or ~/.kube/config). `kubectl config get-contexts` lists the names. "
            f"(There is no service account in {SERVICE_ACCOUNT} either.)"
        )
    connection = Connection.from_kubeconfig(config.kubeconfig, config.context, clock=clock)
    typer.echo(
        f"kaito operator {__version__} operates {connection.url} (context {connection.context})", err=True
    )
    return connection


def _manager(client: Client, clock: Clock, config: OperatorConfig, namespace: str) -> Manager:
    try:
        return Manager(client, clock=clock, options=_manager_options(config, namespace))
    except ValueError as error:  # names the address that is none
        raise CliError(f"--metrics-bind-address or --health-probe-bind-address: {error}.") from None


def _manager_options(config: OperatorConfig, namespace: str) -> ManagerOptions:
    lease = LeaderElectionOptions(LEASE_NAME, namespace) if config.leader_elect else None
    return ManagerOptions(
        metrics_address=_address(config.metrics_bind_address),
        health_address=_address(config.health_probe_bind_address),
        leader_election=lease,
        cache_sync_timeout=PATIENCE,
    )


def _address(flag: str) -> str:
    """The flag in the manager's words: "0" switches an endpoint off."""
    return "" if flag == "0" else flag


class _Ready:
    """Tells the parent process, once the controllers start or wait for the lease, that they do."""

    name = "ready-report"
    needs_leader_election = False

    def __init__(self, manager: Manager, config: OperatorConfig) -> None:
        self._manager = manager
        self._has_metrics = config.metrics_bind_address != "0"

    async def run(self) -> None:
        report_ready(metrics_port=self._manager.metrics_port if self._has_metrics else 0)
        await asyncio.Event().wait()
