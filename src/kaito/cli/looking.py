"""The commands `kaito models …` and `kaito prices …`: what may be named in a Workspace, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaito.cli.flags import PRICES_FILE, CatalogFlag, PricesFlag, run

models = typer.Typer(
    help="The models that a Workspace may name, and the machine sizes they fit.", no_args_is_help=True
)
prices = typer.Typer(help="What machine sizes cost, for plans and for choosing sizes.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For programs: all that is known of each model.")]


@models.command("list")
def models_list(catalog: CatalogFlag = None, json: Json = False) -> None:
    """Show all models."""
    from kaito.cli.models.command import run_models

    run_models((), json=json, catalogs=catalog)


@models.command("search")
def models_search(
    words: Annotated[
        list[str],
        typer.Argument(help="Parts of a name, a licence, an architecture, a property: all must occur."),
    ],
    catalog: CatalogFlag = None,
    json: Json = False,
) -> None:
    """Show the models that all words are about, such as: kaito models search mit tuning.

    Exit status: 0 some were found; 1 none.
    """
    from kaito.cli.models.command import run_models

    run_models(words, json=json, catalogs=catalog)


@models.command("sizes")
def models_sizes(
    model: Annotated[str, typer.Argument(help="A model's name or hub id.")],
    cloud: Annotated[
        str,
        typer.Option(envvar="CLOUD_PROVIDER", help="azure | aws | arc: whose machine sizes are looked at."),
    ] = "azure",
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens that a request may have. Default: as many as fit, 8192 or more."),
    ] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Requests at the same time that have all of it.")] = 1,
    runtime: Annotated[
        str | None,
        typer.Option(help="transformers | vllm | mistralrs. Default: the first of the model's that can."),
    ] = None,
    prices: PricesFlag = None,
    location: Annotated[str | None, typer.Option(envvar="LOCATION", help="Region of the prices.")] = None,
    catalog: CatalogFlag = None,
    json: Json = False,
) -> None:
    """Estimate what a model takes of each machine size: nodes, GPU memory, longest context; the cheapest first,
    or where no prices are known the least memory. A model that the catalogue does not have is asked of the hub
    (HF_ENDPOINT, HF_TOKEN).

    Exit status: 0 some size will do; 1 none.
    """
    from kaito.cli.models.sizes import SizesFlags, run_sizes

    run_sizes(SizesFlags(model, cloud, context, sequences, runtime, json, prices, location, catalog))


@models.command("pin")
def models_pin(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Names of models, or ids of the hub.")
    ] = None,
    unpinned: Annotated[
        bool, typer.Option("--unpinned", help="All whose commit is not recorded, instead of names.")
    ] = False,
    newest: Annotated[
        bool, typer.Option("--newest", help="Ask for the newest commit of pinned models, too.")
    ] = False,
    config_map: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print a ConfigMap of this name, which the operator reads."),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The ConfigMap's: where the operator runs.")
    ] = "kaito-system",
    catalog: CatalogFlag = None,
) -> None:
    """Ask the hub at which commit models are, and print entries of a catalogue that hold them there:

    kaito models pin Qwen/Qwen3-8B-AWQ --config-map models | kubectl apply -f -

    Exit status: 0 all are pinned; 1 one is not, and the rest is printed.
    """
    from kaito.cli.models.pin import PinFlags, run_pin

    run(run_pin(PinFlags(names or (), unpinned, newest, config_map, namespace, catalog)))


@prices.command("update")
def prices_update(
    region: Annotated[
        list[str],
        typer.Option(
            envvar="LOCATION", help="Such as westeurope or eu-central-1. May be given several times."
        ),
    ],
    cloud: Annotated[
        str, typer.Option(envvar="CLOUD_PROVIDER", help="azure | aws: whose list is read.")
    ] = "azure",
    currency: Annotated[str, typer.Option(help="With azure. AWS's lists are in US dollars.")] = "USD",
    output: Annotated[
        Path,
        typer.Option("--output", "-o", envvar="KAITO_PRICES", help="The file; other regions stay in it."),
    ] = PRICES_FILE,
    endpoint: Annotated[
        str | None,
        typer.Option(help="A mirror's address. Default: the cloud's own, which asks for no sign-in."),
    ] = None,
    catalog: CatalogFlag = None,
) -> None:
    """Read the cloud's public price list and keep what it says of the GPU sizes, each with day and source.

    `kaito plan` and `kaito operator` read the file by --prices. Exit status: 0 it is written; 1 it is as it was.
    """
    from kaito.cli.prices.command import UpdateFlags, run_update

    run(run_update(UpdateFlags(cloud, region, currency, output, endpoint, catalog)))
