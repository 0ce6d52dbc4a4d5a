"""`kaito provisioner`: the machine controller alone, with the identity and rights of its own that clouds ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaito import __version__
from kaito.cli.beside import Installation, add_check
from kaito.cli.build_info import BuildInfo
from kaito.cli.errors import CliError
from kaito.cli.operator.checks import check_provisioner
from kaito.cli.operator.names import PROVISIONER_LEASE_NAME
from kaito.cli.operator.process import connect, make_manager, serve, start_logging
from kaito.controllers import machine
from kaito.provisioner.existing import ExistingNodes
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.manager import Manager
from kaito.runtime.resources import NODES
from kaito.runtime.selectors import SelectorError, parse_label_selector

USER_AGENT = f"kaito-provisioner/{__version__}"


@dataclass(frozen=True)
class ProvisionerConfig:
    """The flags of `kaito provisioner`, as given."""

    kubeconfig: Path | None
    context: str | None
    cloud_provider: str
    existing_selector: str
    metrics_bind_address: str
    health_probe_bind_address: str
    leader_elect: bool
    log_format: str


async def run_provisioner(config: ProvisionerConfig) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises:
        CliError: a flag's value is not known, or there is no cluster to use.
    """
    start_logging(config)
    clock = LoopClock()
    connection = connect("provisioner", config, clock)
    try:
        client = Client(connection.transport, clock=clock, user_agent=USER_AGENT)
        await serve(provisioner_manager(client, clock, config, connection.namespace))
    finally:
        await connection.close()


def provisioner_manager(client: Client, clock: Clock, config: ProvisionerConfig, namespace: str) -> Manager:
    """Everything that the flags ask for, through this client; `namespace` is the provisioner's own.

    Raises CliError where a flag's value is not known.
    """
    if config.cloud_provider != "existing":
        raise CliError(f"--cloud-provider={config.cloud_provider}: write existing; other clouds come later.")
    try:
        parse_label_selector(config.existing_selector)
    except SelectorError as error:
        raise CliError(f"--existing-selector={config.existing_selector}: {error}") from None
    manager = make_manager(client, clock, config, PROVISIONER_LEASE_NAME, namespace)
    check_provisioner(manager, namespace)
    add_check(manager, Installation(namespace, workspaces=False, claims=True))
    manager.metrics.add(BuildInfo())
    nodes = manager.cache.informer(NODES).lister
    cloud = ExistingNodes(
        client.named(machine.USER_AGENT, machine.FIELD_MANAGER), nodes, selector=config.existing_selector
    )
    machine.setup(manager, cloud)
    return manager
