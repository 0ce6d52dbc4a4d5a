"""Which cluster a command talks to, and a client for it."""

from __future__ import annotations

import os
from pathlib import Path

from kaito import __version__
from kaito.cli.local.state import DEFAULT_DIRECTORY, LocalDirectory
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.connection import Connection

USER_AGENT = f"kaito-cli/{__version__}"


def choose_kubeconfig(given: Path | None) -> Path | None:
    """The kubeconfig of `--kubeconfig`, else $KUBECONFIG, else a running local mode's, else ~/.kube/config.

    None stands for $KUBECONFIG, which may list several files, and for ~/.kube/config. For commands that only use a
    cluster (`kaito chat`, `kaito proxy`); the local mode itself never reads the last.
    """
    if given is not None:
        return given
    if os.environ.get("KUBECONFIG"):
        return None
    local = LocalDirectory(DEFAULT_DIRECTORY)
    if local.kubeconfig.exists() and local.is_running():
        return local.kubeconfig
    return None


def connect(kubeconfig: Path | None, context: str | None, clock: Clock) -> tuple[Connection, Client]:
    """An open connection (close it) and a client on it that calls itself kaito-cli."""
    connection = Connection.from_kubeconfig(kubeconfig, context, clock=clock)
    client = Client(connection.transport, clock=clock, user_agent=USER_AGENT, field_manager="kaito-cli")
    return connection, client
