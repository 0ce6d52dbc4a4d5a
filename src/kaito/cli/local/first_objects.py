"""What a fresh API server of the local mode is given: the custom resources, and a node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaito.api.crds import crd_manifests
from kaito.api.labels import GPU_COUNT_LABEL, INSTANT_CLOUD_LABEL
from kaito.cli.errors import CliError
from kaito.cli.local.options import SYSTEM_NODE, LocalOptions
from kaito.cli.local.state import CONTEXT
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import ApiError
from kaito.runtime.resources import CRDS, NODES


async def install(kubeconfig: Path, clock: Clock, options: LocalOptions) -> None:
    """Applies KAITO's custom resources, the user's own and, with the operator, the node that is always there.

    Raises:
        CliError: the server does not take one of the user's.
    """
    connection = Connection.from_kubeconfig(kubeconfig, CONTEXT, clock=clock)
    try:
        client = Client(
            connection.transport, clock=clock, user_agent="kaito-local", field_manager="kaito-local"
        )
        await asyncio.gather(*(client.apply(CRDS, crd) for crd in crd_manifests()))
        for crd in options.crds:
            await _install(client, crd)
        if options.operator:
            byo = options.node_provisioner == "byo"
            await client.apply(NODES, system_node(gpus=1 if byo else 0))
    finally:
        await connection.close()


async def _install(client: Client, crd: Mapping[str, Any]) -> None:
    try:
        await client.apply(CRDS, crd)
    except ApiError as error:
        raise CliError(f"--crds: {crd.get('metadata', {}).get('name', 'without a name')}: {error}") from None


def system_node(*, gpus: int = 0) -> dict[str, object]:
    """The node that is there before any Workspace, as every cluster has one: for pods that want no GPU.

    With byo, where nothing makes nodes, it says it has `gpus`, so that a Workspace can use it once it is labelled.
    """
    labels = {
        INSTANT_CLOUD_LABEL: "true",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": SYSTEM_NODE,
        "kubernetes.io/os": "linux",
    }
    if gpus:
        labels[GPU_COUNT_LABEL] = str(gpus)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": SYSTEM_NODE, "labels": labels},
        "spec": {"providerID": f"local://{SYSTEM_NODE}"},
    }
