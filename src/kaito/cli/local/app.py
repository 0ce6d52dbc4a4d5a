"""The commands `kaito local up`, `down` and `status`: their names and options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaito.cli.flags import Directory, Images, NodeProvisionerFlag, run

local = typer.Typer(help="A Kubernetes on this machine with the operator in it.", no_args_is_help=True)


@local.command("up")
def local_up(
    directory: Directory = Path(".kaito"),
    image: Images = None,
    weights: Annotated[
        str,
        typer.Option(
            help="stand-in: small demo weights answer for the Phi-3 presets. real: download the real ones before it "
            "starts. Those of every other model are downloaded when a Workspace names it."
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
