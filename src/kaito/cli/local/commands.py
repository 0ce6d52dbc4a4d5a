"""`kaito local up`, `down` and `status`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shlex
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from kaito.cli.errors import CliError
from kaito.cli.kubectl import find_kubectl
from kaito.cli.local.cluster import LocalCluster, Progress
from kaito.cli.local.images import require_presets
from kaito.cli.local.memory import memory_gib
from kaito.cli.local.options import SYSTEM_NODE, LocalOptions
from kaito.cli.local.state import CONTEXT, LocalDirectory, export_line
from kaito.runtime.clock import LoopClock
from kaito.runtime.crd import manifests
from kaito.runtime.errors import ApiError, TransportError

API_ONLY_NOTICE = """Only the API server runs: objects are kept, validated and served. What is not there:
  nodes and kubelets          pods stay Pending and nothing runs
  workload controllers        Deployments, StatefulSets and Jobs make no pods, Services get no endpoints
  scheduler                   no pod gets a node
  operator                    Workspaces and Machines stay as they are; run a controller of your own
Default ServiceAccounts, garbage collection by owner and the end of namespaces are there, as in every cluster."""

STAND_IN_NOTICE = (
    "Presets of the Phi-3 family are answered here by stand-in weights: tiny-phi-3, a model of 0.4 million parameters "
    "that knows the capitals of some countries. The model's name says so. For the real weights: kaito local up "
    "--weights=real"
)
OTHERS_NOTICE = (
    "Every other model is real: name one of the catalogue or any org/model of the Hugging Face hub, and its pod "
    "downloads the weights into {downloads}/, if this machine can serve it."
)


def stop_on_signals() -> asyncio.Event:
    """An event that Ctrl-C or SIGTERM sets; a second Ctrl-C ends the process at once (the lifeline does the rest)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked)
    return stop


def print_progress(part: str, detail: str, seconds: float) -> None:
    typer.echo(f"  {part:<17} {detail:<52} {seconds:5.1f} s")


def check_node_provisioner(name: str) -> None:
    """Raises CliError with the operator's own words for a value it does not take."""
    from kaito.controllers.workspace import NodeProvisioner

    try:
        provisioner = NodeProvisioner.parse(name)
    except ValueError as error:
        raise CliError(str(error)) from None
    if provisioner.pools is not None:
        raise CliError(
            f"--node-provisioner={name}: no Karpenter runs in the local mode; write machine, nodeclaim or byo."
        )


async def start(cluster: LocalCluster, stop: asyncio.Event, progress: Progress) -> None:
    """Starts everything unless `stop` is set before it serves.

    Raises:
        CliError: a part did not start, or the user stopped it; nothing is left running.
    """
    starting = asyncio.create_task(cluster.start(progress), name="start")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stopped
    if not starting.done():
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        raise CliError("Stopped while starting; nothing is left running.", code=130) from None


def check_up_options(weights: str, presets: Sequence[str], only: str | None, node_provisioner: str) -> None:
    """Raises CliError for values that mean nothing."""
    if node_provisioner not in ("machine", "byo"):  # the operator's own check takes time to load
        check_node_provisioner(node_provisioner)
    if presets and weights != "real":
        raise CliError("--preset names weights to download: add --weights=real.")
    if only not in (None, "api"):
        raise CliError(f"--only {only}: the only part that can run alone is `api`.")
    if weights not in ("stand-in", "real"):
        raise CliError(f"--weights {weights}: write stand-in or real.")
    if only is None:
        require_presets()
    elif weights == "real":
        raise CliError("--weights=real with --only api: nothing runs there that could load weights.")


def read_crds(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The definitions in files and folders.

    Raises:
        CliError: one cannot be read, or holds none.
    """
    try:
        return [definition for path in paths for definition in manifests(path, Path())]
    except ValueError as error:
        raise CliError(f"--crds {error}") from None


async def up(root: Path, options: LocalOptions) -> None:
    """Starts, prints how to use it, stays until a signal."""
    stop = stop_on_signals()
    directory = LocalDirectory(root)
    cluster = LocalCluster(directory, LoopClock(), options)
    typer.echo(f"Starting a Kubernetes for this machine alone; everything it keeps is in {root}/")
    await start(cluster, stop, print_progress)
    try:
        print_usage(directory, options)
        await cluster.wait(stop)
    finally:
        await cluster.stop(lambda name: typer.echo(f"  ending {name}"))


def print_usage(directory: LocalDirectory, options: LocalOptions) -> None:
    typer.echo("")
    if not options.operator:
        typer.echo(f"kubeconfig: {directory.kubeconfig.resolve()}\n\n{API_ONLY_NOTICE}\n")
    else:
        if options.weights:
            typer.echo(f"Real weights answer for {', '.join(sorted(options.weights))}.")
        else:
            typer.echo(STAND_IN_NOTICE)
        typer.echo(OTHERS_NOTICE.format(downloads=directory.downloads))
        if answers := engine_line():
            typer.echo(f"Models are computed by {answers}.")
        typer.echo("")
    typer.echo("In another window (your ~/.kube/config is neither read nor changed):")
    print_environment(directory)
    if options.operator:
        if options.node_provisioner == "byo":
            typer.echo(f"  kubectl label node {SYSTEM_NODE} apps=phi-3")
        typer.echo("  kubectl apply -f examples/inference/kaito_workspace_phi_3.yaml")
        typer.echo("  kubectl get workspace -w")
    typer.echo("\nCtrl-C ends it and everything it started.")


def print_environment(directory: LocalDirectory) -> None:
    """What to type in another window before any kubectl command."""
    typer.echo(f"  {export_line(directory.kubeconfig)}")
    if shutil.which("kubectl") is None:
        typer.echo(f"  alias kubectl={shlex.quote(str(find_kubectl()))}")


async def down(root: Path) -> None:
    """Ends a running local mode and waits until it is gone."""
    directory = LocalDirectory(root)
    if not directory.is_running():
        typer.echo(f"Nothing runs in {root}.")
        return
    pid = directory.read_state().get("pid")
    if not isinstance(pid, int):
        raise CliError(f"A local mode is just starting in {root}; try again in a moment.")
    os.kill(pid, signal.SIGTERM)
    clock = LoopClock()
    try:
        async with clock.timeout(30):
            while directory.is_running():
                await clock.sleep(0.1)
    except TimeoutError:
        raise CliError(f"Process {pid} did not end within 30 s; look at {directory.logs}.") from None
    typer.echo(f"Ended what ran in {root}.")


async def status(root: Path) -> None:
    """Prints processes, addresses and the Workspaces with their endpoints."""
    directory = LocalDirectory(root)
    state = directory.read_state()
    if not directory.is_running() or not state:
        raise CliError(f"Nothing runs in {root}. Start it: kaito local up", code=3)
    typer.echo(f"API server  {state['url']} since {state['started']}")
    typer.echo(f"kubeconfig  {directory.kubeconfig.resolve()}")
    for name, pid in state["processes"].items():
        typer.echo(f"process     {name} ({pid}), log {directory.logs / name}.log")
    if answers := engine_line():
        typer.echo(f"engine      {answers}")
    for line in weights_lines(directory, state.get("real_weights") or ()):
        typer.echo(f"weights     {line}")
    for workspace in await _workspaces(directory):
        typer.echo(_workspace_line(workspace))


def engine_line() -> str:
    """Which engine answers here, and what it computes on; "" where none is installed."""
    if importlib.util.find_spec("kaito_presets") is None:
        return ""
    from importlib.metadata import version

    from kaito_presets.engines.device import mistralrs_device

    device = mistralrs_device()
    memory = memory_gib()
    room = f", {memory:.1f} GiB of memory" if memory is not None else ""
    return f"mistralrs {version('mistralrs')} on {device}{room}" if device else ""


def weights_lines(directory: LocalDirectory, real: Sequence[str]) -> list[str]:
    """Which models are answered for by others, and what has been downloaded."""
    if importlib.util.find_spec("kaito_presets") is None:
        return []
    from kaito_presets.weights.plan import gigabytes
    from kaito_presets.weights.shared import held

    lines = [
        f"real ones for {', '.join(real)}, and for every other model"
        if real
        else "tiny-phi-3 stands in for the Phi-3 presets; every other model has its own"
    ]
    found = held(directory.downloads)
    if found:
        lines.append(
            f"downloaded to {directory.downloads.resolve()}; what is deleted there is downloaded again"
        )
    return lines + [f"{name.replace('--', '/', 1)}: {gigabytes(size)}" for name, size in found]


async def _workspaces(directory: LocalDirectory) -> list[dict[str, Any]]:
    from kaito.api.resources import WORKSPACES
    from kaito.cli.connect import connect

    connection, client = connect(directory.kubeconfig, CONTEXT, LoopClock())
    try:
        return await client.list(WORKSPACES)
    except (ApiError, TransportError) as error:
        raise CliError(f"The API server does not answer: {error}. Look at {directory.logs}.") from None
    finally:
        await connection.close()


def _workspace_line(workspace: dict[str, Any]) -> str:
    meta, state = workspace["metadata"], workspace.get("status", {})
    endpoint = state.get("endpoint", "no endpoint yet")
    return f"workspace   {meta['namespace']}/{meta['name']}: {state.get('reason', 'new')}, {endpoint}"
