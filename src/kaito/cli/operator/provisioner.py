"""`kaito provisioner`: the machine controller alone, with the identity and rights of its own that clouds ask for."""

from __future__ import annotations

from kaito import __version__
from kaito.cli.beside import Installation, add_check
from kaito.cli.build_info import BuildInfo
from kaito.cli.operator.checks import check_provisioner
from kaito.cli.operator.clouds import FOR_PROVISIONER, choose
from kaito.cli.operator.config import ProvisionerConfig
from kaito.cli.operator.names import PROVISIONER_LEASE_NAME
from kaito.cli.operator.process import connect, make_manager, serve, start_logging
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.manager import Manager

USER_AGENT = f"kaito-provisioner/{__version__}"


async def run_provisioner(config: ProvisionerConfig) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises:
        CliError: a flag's value is not known, a cloud's setting is missing, or there is no cluster to use.
    """
    start_logging(config)
    choose(config, FOR_PROVISIONER)  # a setting's fault is told before a cluster is looked for
    clock = LoopClock()
    connection = connect("provisioner", config, clock)
    try:
        client = Client(connection.transport, clock=clock, user_agent=USER_AGENT)
        await serve(provisioner_manager(client, clock, config, connection.namespace))
    finally:
        await connection.close()


def provisioner_manager(client: Client, clock: Clock, config: ProvisionerConfig, namespace: str) -> Manager:
    """Everything that the flags ask for, through this client; `namespace` is the provisioner's own.

    Raises CliError where a flag's value is not known, or the cloud's settings are not complete.
    """
    cloud = choose(config, FOR_PROVISIONER)
    assert cloud is not None
    manager = make_manager(client, clock, config, PROVISIONER_LEASE_NAME, namespace)
    check_provisioner(manager, cloud, namespace)
    add_check(manager, Installation(namespace, workspaces=False, claims=True))
    manager.metrics.add(BuildInfo())
    cloud.add(manager)
    return manager
