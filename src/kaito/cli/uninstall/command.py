"""The command line of `kaito uninstall`: which cluster, and whom to ask."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from kaito.cli.connect import USER_AGENT
from kaito.cli.errors import CliError
from kaito.cli.terminal import LineReader
from kaito.cli.uninstall.run import NOT_CONFIRMED, Options, Uninstall
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.connection import Connection


async def run_uninstall(options: Options, kubeconfig: Path | None, context: str | None) -> None:
    """Removes KAITO from a cluster.

    Raises:
        CliError: something stays, or nobody said which cluster is meant.
    """
    clock = LoopClock()
    connection = _connect(options, kubeconfig, context, clock)
    try:
        client = Client(connection.transport, clock=clock, user_agent=USER_AGENT, field_manager="kaito-cli")
        where = f" (context {connection.context})" if connection.context else ""
        typer.echo(f"Cluster {connection.url}{where}")
        await Uninstall(client, options, typer.echo, _ask).run()
    finally:
        await connection.close()


def _connect(options: Options, kubeconfig: Path | None, context: str | None, clock: LoopClock) -> Connection:
    """Without a question the context must be named: the wrong cluster would be an expensive mistake."""
    if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Connection.in_cluster(clock=clock)
    if options.yes and not options.dry_run and context is None:
        raise CliError(
            "With --yes say which cluster is meant: --context NAME (kubectl config get-contexts lists them). Nothing "
            "was changed.",
            code=NOT_CONFIRMED,
        )
    return Connection.from_kubeconfig(kubeconfig, context, clock=clock)


async def _ask(prompt: str) -> str | None:
    return await LineReader().line(prompt) if sys.stdin.isatty() else None
