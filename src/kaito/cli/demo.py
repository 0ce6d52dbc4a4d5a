"""`kaito demo`: the main job, for real, on one machine.

Starts the local mode, applies the first example with kubectl, shows the table as it changes, asks `/chat`, does the
same with an adapter, and then hands over to the user. Nothing here is specific to the demo: every step is a command
that the user could type, and it is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from kaito.cli.chat import converse, service_of
from kaito.cli.errors import CliError
from kaito.cli.example_files import examples_directory
from kaito.cli.inference import InferenceService
from kaito.cli.kubectl import Kubectl
from kaito.cli.local.cluster import LocalCluster
from kaito.cli.local.commands import (
    STAND_IN_NOTICE,
    print_environment,
    print_progress,
    start,
    stop_on_signals,
)
from kaito.cli.local.images import parse_image_map, require_presets
from kaito.cli.local.options import LocalOptions
from kaito.cli.local.state import CONTEXT, LocalDirectory
from kaito.cli.terminal import LineReader
from kaito.runtime.clock import Clock, LoopClock

PLACEHOLDER_IMAGE = "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"
"""What the adapter example holds until a user writes an image of their own."""

QUESTION = "What is the capital of France?"
READY_TIMEOUT_SECONDS = 180.0


@dataclass(frozen=True)
class Step:
    """One Workspace of the demo."""

    manifest: str
    workspace: str
    title: str


PLAIN = Step("inference/kaito_workspace_phi_3.yaml", "workspace-phi-3-mini", "A Workspace from a preset")
ADAPTED = Step(
    "inference/kaito_workspace_phi_3_with_adapters.yaml",
    "workspace-phi-3-mini-adapter",
    "The same model family with a LoRA adapter",
)


async def run_demo(root: Path) -> None:
    """Runs the demo to its end, or until Ctrl-C."""
    require_presets()
    from kaito_presets.demo import adapter_oci_path

    clock = LoopClock()
    begun = clock.now()
    stop = stop_on_signals()
    directory = LocalDirectory(root)
    images = parse_image_map([f"{PLACEHOLDER_IMAGE}=oci:{adapter_oci_path()}"])
    cluster = LocalCluster(directory, clock, LocalOptions(images=images))
    typer.echo(f"Starting a Kubernetes for this machine alone; everything it keeps is in {root}/")
    await start(cluster, stop, print_progress)
    try:
        typer.echo(f"\n{STAND_IN_NOTICE}")
        await _until_stopped(_show(Demo(directory, clock, begun)), cluster, stop)
    finally:
        await cluster.stop()
        typer.echo("Everything that the demo started has ended.")


async def _until_stopped(story: asyncio.Task[None], cluster: LocalCluster, stop: asyncio.Event) -> None:
    """Lets the story run until it ends, the user stops it, or a process of the cluster fails."""
    watcher = asyncio.create_task(cluster.wait(stop), name="watch-processes")
    await asyncio.wait({story, watcher}, return_when=asyncio.FIRST_COMPLETED)
    for task in (story, watcher):
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    for task in (watcher, story):
        if not task.cancelled():
            task.result()


def _show(demo: Demo) -> asyncio.Task[None]:
    return asyncio.create_task(demo.tell(), name="demo")


class Demo:
    """The steps, against a running local mode."""

    def __init__(self, directory: LocalDirectory, clock: Clock, begun: float) -> None:
        self._directory = directory
        self._clock = clock
        self._begun = begun
        self._kubectl = Kubectl(directory.kubeconfig, cache=directory.root / "kubectl-cache")

    async def tell(self) -> None:
        plain = await self._step(PLAIN)
        typer.echo(f"\nFirst answer {self._clock.now() - self._begun:.0f} s after the start.")
        typer.echo(f"\nThe adapter example still holds the placeholder {PLACEHOLDER_IMAGE};")
        typer.echo("in this demo it stands for an adapter of ours that speaks like a pirate.")
        adapted = await self._step(ADAPTED)
        typer.echo(f"\nSame question, without the adapter:  {plain}")
        typer.echo(f"               with the adapter:     {adapted}")
        if sys.stdin.isatty():
            await self._hand_over()

    async def _step(self, step: Step) -> str:
        """Applies one example, shows its way to ready, asks it; the answer."""
        manifest = examples_directory() / step.manifest
        typer.echo(f"\n--- {step.title}")
        typer.echo(f"$ kubectl apply -f examples/{step.manifest}")
        typer.echo((await self._kubectl.shown("apply", "-f", str(manifest))).rstrip())
        typer.echo(f"$ kubectl get workspace {step.workspace} --watch")
        await self._watch_until_ready(step.workspace)
        typer.echo(f"$ kubectl get svc {step.workspace}")
        typer.echo((await self._kubectl.run("get", "svc", step.workspace)).rstrip())
        return await self._ask(step.workspace)

    async def _ask(self, workspace: str) -> str:
        """`POST /chat` at the Service's cluster IP, from a pod, as in a real cluster."""
        cluster_ip = await self._kubectl.run("get", "svc", workspace, "-o", "jsonpath={.spec.clusterIPs[0]}")
        question = json.dumps({"prompt": QUESTION})
        request = [
            "curl",
            "-sS",
            "-X",
            "POST",
            f"http://{cluster_ip}/chat",
            "-H",
            "Content-Type: application/json",
        ]
        run = [
            "run",
            "-i",
            "--rm",
            "--restart=Never",
            "curl",
            "--image=curlimages/curl",
            "--",
            *request,
            "-d",
            question,
        ]
        typer.echo(f"$ kubectl {shlex.join(run)}")
        told = (await self._kubectl.run(*run)).strip()
        typer.echo(told)
        async with self._service(workspace) as service:
            typer.echo(f"    (served as {await service.model()})")
        answer, _end = json.JSONDecoder().raw_decode(told[told.index("{") :])
        return str(answer["Result"])

    def _service(self, workspace: str) -> contextlib.AbstractAsyncContextManager[InferenceService]:
        return service_of(
            workspace, namespace="default", kubeconfig=self._directory.kubeconfig, context=CONTEXT
        )

    async def _watch_until_ready(self, workspace: str) -> None:
        """Prints the table's rows as kubectl reports them, until every column that counts is True."""
        try:
            async with self._clock.timeout(READY_TIMEOUT_SECONDS):
                async for row in self._kubectl.lines("get", "workspace", workspace, "--watch"):
                    typer.echo(row)
                    if row.split()[2:5] == ["True", "True", "True"]:
                        return
        except TimeoutError:
            told = await self._kubectl.run("describe", "workspace", workspace)
            raise CliError(f"{workspace} was not ready in {READY_TIMEOUT_SECONDS:.0f} s:\n{told}") from None
        raise CliError(f"kubectl stopped watching {workspace}.")

    async def _hand_over(self) -> None:
        typer.echo("\nIt stays up. In a second window:")
        print_environment(self._directory)
        typer.echo("  kubectl get workspace,machine,node,deployment,pod -o wide")
        typer.echo(f"  kubectl describe workspace {ADAPTED.workspace}")
        typer.echo("\nOr ask the plain model here (Ctrl-C ends the demo):")
        async with self._service(PLAIN.workspace) as service:
            await converse(service, LineReader())
