"""Where the cluster of this run is: addresses and folders. Everything but the logs goes when the run ends."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.enter import FOLDER, LOGS
from cluster.init import NODE_ADDRESS

NODE: Final = "node-1"
API_PORT: Final = 6443
POD_NETWORK: Final = "10.211.0.0/16"
SERVICE_NETWORK: Final = "10.96.0.0/16"
SERVICE_ADDRESS: Final = "10.96.0.1"
"""Of the Service `kubernetes`: the first of the network."""
REGISTRY: Final = "localhost:5000"
"""Of the registry for whoever is inside, containerd too. The network is our own, so the port is always free."""
API_URL: Final = f"https://{NODE_ADDRESS}:{API_PORT}"


class NotInside(Exception):
    """This process is not in the namespaces of a cluster."""


@dataclass(frozen=True, slots=True)
class Places:
    """folder: data, keys, sockets; its name is also the name of the control groups. logs: kept after the run."""

    folder: Path
    logs: Path

    @classmethod
    def here(cls) -> Places:
        """Those of this run. Raises `NotInside` outside of `cluster.enter`."""
        if FOLDER not in os.environ:
            raise NotInside(
                "a cluster is brought up only in namespaces of its own: python -m cluster.enter COMMAND…"
            )
        return cls(Path(os.environ[FOLDER]), Path(os.environ[LOGS]) / "logs")

    @property
    def group(self) -> str:
        return self.folder.name

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        return self.folder / "containerd.sock"

    @property
    def cni(self) -> Path:
        return self.folder / "cni"
