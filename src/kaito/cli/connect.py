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


def choose_kubeconfig(given: Path | None) -> Path:
    """The kubeconfig of `--kubeconfig`, else $KUBECONFIG, else a running local mode's, else ~/.kube/config.

    For commands that only use a cluster (`kaito chat`, `kaito proxy`). The local mode itself never reads the last.
    """
    if given is not None:
        return given
    from_environment = os.environ.get("KUBECONFIG", "")
    if from_environment:
        return Path(from_environment.split(os.pathsep)[0])
    local = LocalDirectory(DEFAULT_DIRECTORY)
    if local.kubeconfig.exists() and local.is_running():
        return local.kubeconfig
    return Path("~/.kube/config").expanduser()


def connect(kubeconfig: Path, context: str | None, clock: Clock) -> tuple[Connection, Client]:
    """An open connection (close it) and a client on it that calls itself kaito-cli."""
    connection = Connection.from_kubeconfig(kubeconfig, context, clock=clock)
    client = Client(connection.transport, clock=clock, user_agent=USER_AGENT, field_manager="kaito-cli")
    return connection, client
