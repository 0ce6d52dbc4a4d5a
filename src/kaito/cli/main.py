"""The `kaito` command.

Only the names and options of commands live here and in the modules it takes them from; what a command does is imported
when it runs, so that `kaito --help` is quick and `kaito chat` never loads the operator.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaito import __version__
from kaito.cli.errors import CliError
from kaito.cli.flags import Context, Directory, Kubeconfig, Namespace, run
from kaito.cli.local.app import local
from kaito.cli.looking import models, prices
from kaito.cli.planning import new, plan, quota
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
app.add_typer(local, name="local")
app.add_typer(models, name="models")
app.add_typer(prices, name="prices")


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
app.command()(new)
app.command()(plan)
app.command()(quota)


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
