"""The `kaito` command.

Only the names and options of commands live here; what a command does is imported when it runs, so that `kaito --help`
is quick and `kaito chat` never loads the operator.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaito import __version__
from kaito.cli.errors import CliError
from kaito.cli.flags import (
    NODE_PROVISIONER_HELP,
    PRICES_FILE,
    CatalogFlag,
    Context,
    Directory,
    Images,
    Kubeconfig,
    Namespace,
    NodeProvisionerFlag,
    PresetRegistry,
    PricesFlag,
    run,
)
from kaito.cli.serving import operator, provisioner
from kaito.runtime.errors import ConfigurationError, TransportError

app = typer.Typer(
    name="kaito",
    help="KAITO in Python: apply a Workspace, get GPU nodes and a served model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut the names of options off where a terminal has 80 columns
)
local = typer.Typer(help="A Kubernetes on this machine with the operator in it.", no_args_is_help=True)
app.add_typer(local, name="local")
models = typer.Typer(
    help="The models that a Workspace may name, and the machine sizes they fit.", no_args_is_help=True
)
app.add_typer(models, name="models")
prices = typer.Typer(help="What machine sizes cost, for plans and for choosing sizes.", no_args_is_help=True)
app.add_typer(prices, name="prices")


@local.command("up")
def local_up(
    directory: Directory = Path(".kaito"),
    image: Images = None,
    weights: Annotated[
        str,
        typer.Option(
            help="stand-in: small demo weights answer for the Phi-3 presets. real: download the real ones."
        ),
    ] = "stand-in",
    preset: Annotated[
        list[str] | None,
        typer.Option(help="With --weights=real: download this preset's weights. May be given several times."),
    ] = None,
    node_provisioner: NodeProvisionerFlag = "machine",
    only: Annotated[
        str | None,
        typer.Option(
            help="`api`: only the API server, for work on controllers: no node, no workload controllers, no operator."
        ),
    ] = None,
    crds: Annotated[
        list[Path] | None,
        typer.Option(
            "--crds",
            metavar="FILE|DIR",
            help="Serve the CustomResourceDefinitions in this YAML or JSON file, or in all of a folder, too. May be "
            "given several times.",
        ),
    ] = None,
) -> None:
    """Start it and keep it up until Ctrl-C.

    `--only api` is a Kubernetes API for hand work on controllers: objects are kept and served, and nothing runs. The
    same server stands behind the pytest fixture `kube_api`.
    """
    from kaito.cli.local.commands import check_up_options, read_crds, up
    from kaito.cli.local.images import parse_image_map
    from kaito.cli.local.options import LocalOptions

    check_up_options(weights, preset or [], only, node_provisioner)
    downloaded: dict[str, Path] = {}
    if weights == "real":
        from kaito.catalog import load_catalog
        from kaito.cli.local.weights import obtain

        downloaded = obtain(load_catalog(), preset or [], directory / "weights", typer.echo)
    options = LocalOptions(
        parse_image_map(image or []),
        downloaded,
        node_provisioner,
        operator=only is None,
        crds=tuple(read_crds(crds or [])),
    )
    run(up(directory, options))


@local.command("down")
def local_down(directory: Directory = Path(".kaito")) -> None:
    """End a running local mode."""
    from kaito.cli.local.commands import down

    run(down(directory))


@local.command("status")
def local_status(directory: Directory = Path(".kaito")) -> None:
    """Say what runs, where, and what the Workspaces do."""
    from kaito.cli.local.commands import status

    run(status(directory))


@app.command()
def demo(directory: Directory = Path(".kaito")) -> None:
    """Apply the first examples on this machine and ask the model: the main job, for real, in a minute."""
    from kaito.cli.demo import run_demo

    run(run_demo(directory))


@app.command()
def chat(
    workspace: Annotated[str, typer.Argument(help="Name of the Workspace.")],
    prompt: Annotated[str | None, typer.Argument(help="One question. Without it: a conversation.")] = None,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Ask a Workspace's model."""
    from kaito.cli.chat import run_chat

    run(run_chat(workspace, prompt, namespace=namespace, kubeconfig=kubeconfig, context=context))


@app.command()
def proxy(
    workspace: Annotated[str, typer.Argument(help="Name of the Workspace.")],
    namespace: Namespace = "default",
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give a Workspace's model an OpenAI-compatible address on this machine."""
    from kaito.cli.chat import run_proxy

    run(run_proxy(workspace, namespace=namespace, port=port, kubeconfig=kubeconfig, context=context))


app.command()(operator)


@app.command()
def uninstall(
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Do not ask. Wants --context, so that no other cluster is met."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    without_operator: Annotated[
        bool,
        typer.Option(
            "--without-operator",
            help="The operator is gone already: delete the claims, and take its finalizer off the Workspaces.",
        ),
    ] = False,
    crds: Annotated[
        bool,
        typer.Option("--crds", help="At last remove KAITO's CustomResourceDefinitions, and so Adapters."),
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for nodes to go, and then for the operator to.")
    ] = 1800.0,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Default: $KUBECONFIG, else ~/.kube/config.")
    ] = None,
    context: Context = None,
) -> None:
    """Remove Workspaces and the nodes behind them, wait until they are gone, then remove the operator.

    Asks before it changes anything, and can be repeated at any time: it goes on where it stopped. Exit status: 0 all is
    gone; 1 the cluster cannot be reached or refuses something; 2 not confirmed; 3 Workspaces are there but no operator
    to end them; 4 not gone in time.
    """
    from kaito.cli.uninstall.command import run_uninstall
    from kaito.cli.uninstall.run import Options

    options = Options(
        yes=yes,
        dry_run=dry_run,
        without_operator=without_operator,
        definitions=crds,
        timeout=timeout,
    )
    run(run_uninstall(options, kubeconfig, context))


app.command()(provisioner)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except CliError as error:
        typer.echo(f"kaito: {error}", err=True)
        sys.exit(error.code)
    except (ConfigurationError, TransportError) as error:
        typer.echo(f"kaito: {error}", err=True)
        sys.exit(1)
