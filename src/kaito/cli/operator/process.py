"""What `kaito operator` and `kaito provisioner` have in common: which cluster, where they listen, how they end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import typer

from kaito import __version__
from kaito.cli.errors import CliError
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.connection import SERVICE_ACCOUNT, Connection
from kaito.runtime.garbage import relax_collector
from kaito.runtime.leader import LeaderElectionOptions
from kaito.runtime.logs import configure_logging
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.tls_buffers import shrink_tls_buffers

PATIENCE = 10 * 365 * 86400.0
"""Seconds to wait for caches: what keeps them from filling is told by /readyz, and a restart would mend none of it."""


class ProcessFlags(Protocol):
    """The flags that both have, as given."""

    @property
    def kubeconfig(self) -> Path | None: ...
    @property
    def context(self) -> str | None: ...
    @property
    def metrics_bind_address(self) -> str: ...
    @property
    def health_probe_bind_address(self) -> str: ...
    @property
    def leader_elect(self) -> bool: ...
    @property
    def log_format(self) -> str: ...


def start_logging(flags: ProcessFlags) -> None:
    """Raises CliError where there is no such format."""
    if flags.log_format not in ("json", "human"):
        raise CliError(f"--log-format={flags.log_format}: write json or human.")
    configure_logging("json" if flags.log_format == "json" else "human")


def connect(command: str, flags: ProcessFlags, clock: Clock) -> Connection:
    """The connection of `kaito COMMAND`, open. In a pod it uses the pod's service account.

    Raises CliError where it is not said which cluster is meant.
    """
    if flags.kubeconfig is None and flags.context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Connection.in_cluster(clock=clock)
    if flags.context is None:
        raise CliError(
            f"Outside a cluster, say which one to operate: `kaito {command} --context NAME` (and --kubeconfig FILE "
            "unless it is $KUBECONFIG or ~/.kube/config). `kubectl config get-contexts` lists the names. "
            f"(There is no service account in {SERVICE_ACCOUNT} either.)"
        )
    connection = Connection.from_kubeconfig(flags.kubeconfig, flags.context, clock=clock)
    typer.echo(
        f"kaito {command} {__version__} operates {connection.url} (context {connection.context})", err=True
    )
    return connection


def make_manager(client: Client, clock: Clock, flags: ProcessFlags, lease: str, namespace: str) -> Manager:
    """An empty manager; `lease` and `namespace` say where its leader is elected. Raises CliError for a bad address."""
    election = LeaderElectionOptions(lease, namespace) if flags.leader_elect else None
    try:
        options = ManagerOptions(
            metrics_address=_address(flags.metrics_bind_address),
            health_address=_address(flags.health_probe_bind_address),
            leader_election=election,
            cache_sync_timeout=PATIENCE,
        )
        return Manager(client, clock=clock, options=options)
    except ValueError as error:  # names the address that is none
        raise CliError(f"--metrics-bind-address or --health-probe-bind-address: {error}.") from None


async def serve(manager: Manager) -> None:
    """Runs until SIGTERM or SIGINT. Raises CliError where it cannot listen."""
    relax_collector()
    shrink_tls_buffers()
    try:
        await manager.run_until_signal()
    except OSError as error:  # of listening; what concerns the cluster is a TransportError
        raise CliError(
            f"Metrics, health checks or the webhook cannot be served: {error.strerror}. Choose other addresses with "
            '--metrics-bind-address and --health-probe-bind-address ("0" turns one off) or --webhook-bind-address '
            "(--no-webhook)."
        ) from None


def _address(flag: str) -> str:
    """The flag in the manager's words: "0" switches an endpoint off."""
    return "" if flag == "0" else flag
