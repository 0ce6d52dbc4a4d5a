"""The commands about a Workspace that is not applied yet: `kaito new`, `kaito plan` and `kaito quota`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaito.cli.flags import NODE_PROVISIONER_HELP, CatalogFlag, PresetRegistry, PricesFlag, run


def new(
    model: Annotated[str, typer.Argument(help="A model's name (kaito models list) or hub id.")],
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Weights of your own: organisation/model[@revision] of the hub, an image with a tag, pvc:CLAIM, or "
            "/a/directory/of/the/nodes.",
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SOURCE[:STRENGTH]",
            help="A LoRA adapter from an image with a tag or pvc:CLAIM, strength 0 to 1; NAME=adapter for an Adapter "
            "that is there already. May be given several times.",
        ),
    ] = None,
    instance_type: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Machine size. Default: the operator chooses.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The Workspace's name. Default: after the model.")] = None,
    secret: Annotated[
        str | None, typer.Option(help="Secret with the hub's token. Default, for gated models: hf-token.")
    ] = None,
    cloud: Annotated[
        str, typer.Option(envvar="CLOUD_PROVIDER", help="azure | aws | arc: whose machine sizes there are.")
    ] = "azure",
    catalog: CatalogFlag = None,
) -> None:
    """Print a Workspace for a model, with comments: kaito new phi-4 > phi-4.yaml

    Exit status: 0 it applies as it is; 1 something is missing, which is said.
    """
    from kaito.cli.new.command import NewFlags, run_new

    run_new(NewFlags(model, name, instance_type, weights, adapter or (), secret, cloud, catalog))


def plan(
    file: Annotated[
        list[Path],
        typer.Option(
            "--filename", "-f", help="YAML or JSON file; - reads standard input. May be given several times."
        ),
    ],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of Workspaces that name none.")
    ] = "default",
    node_provisioner: Annotated[
        str, typer.Option(envvar="NODE_PROVISIONER", help=NODE_PROVISIONER_HELP)
    ] = "machine",
    cloud: Annotated[
        str, typer.Option(envvar="CLOUD_PROVIDER", help="azure | aws | arc: whose machine sizes are named.")
    ] = "azure",
    live: Annotated[
        bool, typer.Option("--live", help="Ask Azure whether the sizes can be had, and for the quota.")
    ] = False,
    prices: PricesFlag = None,
    location: Annotated[
        str | None,
        typer.Option(envvar="LOCATION", help="Region of the prices and, with --live, of the quota."),
    ] = None,
    preset_registry: PresetRegistry = None,
    catalog: CatalogFlag = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what the operator would make of the Workspaces in a file, without a cluster: nodes, price, memory of a GPU,
    context, image, objects, and what the other machine sizes would be. Prices come from --prices, or else from
    .kaito/prices.yaml where `kaito prices update` has written it. Models that the catalogue does not have are asked of
    the hub (HF_ENDPOINT, HF_TOKEN).

    Exit status: 0 all can be carried out; 1 one cannot, or the file cannot be read.
    """
    from kaito.cli.plan.command import PlanFlags, run_plan

    flags = PlanFlags(
        file, namespace, node_provisioner, cloud, location, live, json, prices, catalog, preset_registry
    )
    run(run_plan(flags))


def quota(
    location: Annotated[str | None, typer.Option(help="Region, such as eastus. Default: $LOCATION.")] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Count the claims of this cluster too. Default: no cluster is asked.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="The same, by the context's name.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how many vCPUs of each GPU family the subscription may still use in a region, and for which models.

    Uses the provisioner's settings in the environment; for your own sign-in run `az login` and set DEPLOYMENT_MODE=cli,
    ARM_SUBSCRIPTION_ID and --location.
    """
    from kaito.cli.quota.command import run_quota

    run(run_quota(location, kubeconfig, context, json=json))
