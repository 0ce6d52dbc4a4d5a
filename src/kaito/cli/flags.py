"""Flags that several commands have, and how a command is run to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

Directory = Annotated[
    Path, typer.Option("--dir", help="Folder for kubeconfig, logs and pods. Nothing outside it is touched.")
]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        metavar="REF=oci:PATH",
        help="Answer for image REF with the OCI image layout in folder PATH. May be given several times.",
    ),
]
PresetRegistry = Annotated[
    str | None,
    typer.Option(envvar="PRESET_REGISTRY_NAME", help="Registry and path of the preset images."),
]
CatalogFlag = Annotated[
    list[Path] | None,
    typer.Option(
        "--catalog",
        metavar="FILE",
        help="Models and sizes of your own beside ours: a catalogue file, or a ConfigMap with one. May be repeated.",
    ),
]
NODE_PROVISIONER_HELP = (
    "machine | nodeclaim (alias azure-gpu-provisioner) | karpenter (a NodePool for each Workspace) | byo. "
    "What asks for nodes."
)
NodeProvisionerFlag = Annotated[str, typer.Option("--node-provisioner", help=NODE_PROVISIONER_HELP)]
ExistingSelector = Annotated[
    str,
    typer.Option(
        envvar="EXISTING_SELECTOR",
        help="With --cloud-provider=existing: label selector of the nodes that may be lent.",
    ),
]
ClaimKinds = Annotated[
    str,
    typer.Option(
        envvar="CLAIM_KINDS",
        help="With a cloud: which claims it serves, machine or nodeclaim or both. Their definitions must be there.",
    ),
]
LaunchTimeout = Annotated[
    float,
    typer.Option(
        envvar="LAUNCH_TIMEOUT",
        min=1.0,
        help="Seconds a cloud may take to make a claim's machine before the claim is replaced. Time in a queue or "
        "without quota does not count.",
    ),
]
RegistrationTimeout = Annotated[
    float,
    typer.Option(
        envvar="REGISTRATION_TIMEOUT",
        min=1.0,
        help="Seconds until a machine has become a node, else its claim is replaced.",
    ),
]
InitializationTimeout = Annotated[
    float,
    typer.Option(
        envvar="INITIALIZATION_TIMEOUT",
        min=1.0,
        help="Seconds until a node can take pods: else its claim is replaced, or says that the GPUs are missing.",
    ),
]
AksOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--aks-option",
        envvar="AKS_OPTIONS",
        metavar="NAME=VALUE",
        help="With --cloud-provider=aks: an option of agent pools, for claims that do not say otherwise. May be given "
        "several times; docs/aks.md lists the names.",
    ),
]
PricesFlag = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        envvar="KAITO_PRICES",
        help="What sizes cost, as `kaito prices update` wrote it. Without it the smallest memory counts as cheapest.",
    ),
]
PRICES_FILE = Path(".kaito/prices.yaml")
"""Where `kaito prices update` writes unless told otherwise; `kaito plan` looks there."""
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Default: $KUBECONFIG, else a running local mode's, else ~/.kube/config."),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the Workspace.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig. Default: its current one.")]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a command to its end; Ctrl-C is a normal way to end one."""
    try:
        asyncio.run(coroutine)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
