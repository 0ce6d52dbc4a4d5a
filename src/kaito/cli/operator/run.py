"""`kaito operator`: the controllers against any API server; with a cloud, the machine controller among them.

In a pod it uses the pod's service account. Elsewhere it wants the context by name and says which server it is about to
write to: an operator started by mistake against the wrong cluster is an expensive mistake.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace

from kaito import __version__
from kaito.catalog import Catalog, load_catalog
from kaito.catalog.hub.client import ENDPOINT_VARIABLE, TOKEN_VARIABLE, HubClient
from kaito.catalog.prices import Prices
from kaito.cli import beside
from kaito.cli.beside import Installation
from kaito.cli.build_info import BuildInfo
from kaito.cli.errors import CliError
from kaito.cli.local.images import parse_image_map
from kaito.cli.operator import webhooks
from kaito.cli.operator.checks import check_operator
from kaito.cli.operator.clouds import FOR_OPERATOR, choose
from kaito.cli.operator.config import OperatorConfig
from kaito.cli.operator.names import LEASE_NAME, CloudName
from kaito.cli.operator.process import connect, make_manager, serve, start_logging
from kaito.cli.operator.webhooks import WebhookFlags
from kaito.controllers import adapter, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import (
    NodeClass,
    NodeProvisioner,
    OneMachine,
    WorkspaceConfig,
    own_catalog,
    parse_cloud,
)
from kaito.controllers.workspace.hub_lookup import ModelLookup
from kaito.controllers.workspace.needs import Lookup
from kaito.embedded.processes.lifeline import end_with_parent, report_ready
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.manager import Manager

USER_AGENT = f"kaito-operator/{__version__}"


async def run_operator(config: OperatorConfig) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises:
        CliError: a flag's value is not known, or there is no cluster to use.
    """
    supervised = end_with_parent()
    start_logging(config)
    _workspace_config(config)  # a flag's fault is told before a cluster is looked for
    choose(config, FOR_OPERATOR)
    clock = LoopClock()
    connection = connect("operator", config, clock)
    try:
        client = Client(
            connection.transport, clock=clock, user_agent=USER_AGENT, field_manager="kaito-operator"
        )
        manager = operator_manager(client, clock, config, connection.namespace)
        if supervised:
            manager.add(_Ready(manager, config))
        await serve(manager)
    finally:
        await connection.close()


def operator_manager(client: Client, clock: Clock, config: OperatorConfig, namespace: str) -> Manager:
    """Everything that the flags ask for, through this client; `namespace` is the operator's own.

    Raises CliError where a flag's value is not known, or the cloud's settings are not complete.
    """
    settings, cloud, catalog = _workspace_config(config), choose(config, FOR_OPERATOR), load_catalog()
    settings = replace(settings, machine=_machine(config, catalog))
    manager = make_manager(client, clock, config, LEASE_NAME, namespace)
    flags = WebhookFlags.of(config)
    check_operator(manager, settings.node_provisioner, namespace, webhook=flags.kept, cloud=cloud)
    mine = Installation(namespace, workspaces=True, claims=cloud is not None)
    beside.add_check(manager, mine)
    beside.watch_newcomers(manager, mine)
    manager.metrics.add(BuildInfo())
    own = own_catalog.follow(manager, catalog, namespace)
    try:
        workspace.setup(manager, settings, own, _lookups(client, clock))
    except ValueError as error:
        raise CliError(str(error)) from None
    adapter_options = _adapter_options(config)
    adapter.setup(manager, adapter_options)
    webhooks.setup(manager, flags, own, settings, adapter_options.image_map, namespace)
    if cloud is not None:
        cloud.add(manager)
    return manager


def _lookups(client: Client, clock: Clock) -> Mapping[str, Lookup]:
    """What is looked up outside of the cluster. Raises ValueError for an HF_ENDPOINT that is no URL."""
    hub = HubClient.of_environment(clock)
    lookup = ModelLookup(client, hub, os.environ.get(TOKEN_VARIABLE, "").strip() or None)
    return {"model": lookup, "weights": lookup}


def _adapter_options(config: OperatorConfig) -> AdapterOptions:
    # The instant cloud's nodes are this machine, so their host paths are ours.
    return AdapterOptions(
        image_map=parse_image_map(config.images), host_paths=config.cloud_provider == CloudName.INSTANT
    )


def _workspace_config(config: OperatorConfig) -> WorkspaceConfig:
    try:
        settings = WorkspaceConfig(
            node_provisioner=NodeProvisioner.parse(config.node_provisioner),
            stand_in_weights=config.stand_in_weights,
            hub_endpoint=os.environ.get(ENDPOINT_VARIABLE, ""),
            cloud=parse_cloud(config.cloud),
            prices=Prices.load(config.prices),
            region=config.price_region,
            node_class_names=tuple(filter(None, map(str.strip, config.node_class_names.split(",")))),
            node_class=NodeClass(config.node_class_group, config.node_class_kind, config.node_class_name),
        )
        return replace(settings, registry=config.preset_registry) if config.preset_registry else settings
    except ValueError as error:
        raise CliError(str(error)) from None


def _machine(config: OperatorConfig, catalog: Catalog) -> OneMachine | None:
    """The machine of the local mode; None where there is a cluster."""
    if config.held_weights is None:
        return None
    from kaito.cli.local.machine import this_machine

    return this_machine(catalog, list(filter(None, config.held_weights.split(","))))


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
