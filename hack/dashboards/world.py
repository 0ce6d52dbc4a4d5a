"""A cluster of one machine with everything in it that the dashboards show, for tests of them and for their pictures.

As in `kaito local up` there are an API server, a node whose pods are processes, and the operator, here two of them with
leader election, and beside them a provisioner of agent pools (`azure_world`). Workspaces get ready, fail, have an
adapter that is refused, and go away; users ask the models.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from hack.dashboards.azure_world import claim, provisioner
from hack.dashboards.gpu_server import gpu_server
from hack.dashboards.prometheus import Credentials, Target
from kaito.api.labels import BYPASS_RESOURCE_CHECKS_ANNOTATION, WORKSPACE_LABEL
from kaito.api.resources import NODECLAIMS, WORKSPACES
from kaito.cli.inference import InferenceService, find_service
from kaito.cli.local.cluster import STAND_IN
from kaito.cli.local.first_objects import install
from kaito.cli.local.images import image_map_options, parse_image_map
from kaito.cli.local.options import LocalOptions
from kaito.cli.local.state import CONTEXT
from kaito.cli.local.supervisor import ManagedProcess, ProcessSpec, Supervisor
from kaito.controllers.workspace import own_catalog
from kaito.embedded.processes.names import KUBELET_TOKEN_VARIABLE
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.connection import Connection
from kaito.runtime.errors import NotFound
from kaito.runtime.files import write_private
from kaito.runtime.resources import CONFIGMAPS, NODES, PODS
from kaito_presets.demo import adapter_oci_path

PIRATE = "registry.example.com/adapters/pirate:1"
"""An adapter that is there."""
MISSING = "registry.example.com/adapters/missing:1"
"""One that is not."""
OPERATORS = ("kaito-operator-0", "kaito-operator-1")
SYSTEM = "kaito-system"
PORT = 5000
"""Of inference servers, in their pods."""
QUESTIONS = ("What is the capital of France?", "What is the capital of Italy?", "Hello.")


def workspace(name: str, *, adapter: str = "") -> dict[str, Any]:
    """A Workspace that serves the small demo model, with an adapter's image."""
    inference: dict[str, Any] = {"preset": {"name": "phi-3-mini-128k-instruct"}}
    if adapter:
        inference["adapters"] = [{"source": {"name": "voice", "image": adapter}, "strength": "1.0"}]
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name, "namespace": "default"},
        "resource": {
            "instanceType": "Standard_NC4as_T4_v3",
            "labelSelector": {"matchLabels": {"apps": name}},
        },
        "inference": inference,
    }


def mistaken(name: str) -> dict[str, Any]:
    """One whose machine size no cloud has."""
    tree = workspace(name)
    return {**tree, "resource": {**tree["resource"], "instanceType": "Standard_NC999"}}


def unchecked(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with the annotation that lets any machine size pass."""
    metadata = {**tree["metadata"], "annotations": {BYPASS_RESOURCE_CHECKS_ANNOTATION: "true"}}
    return {**tree, "metadata": metadata}


@dataclass
class World:
    """A running cluster."""

    client: Client
    connection: Connection
    clock: Clock
    credentials: Credentials
    operators: Sequence[Target]
    provisioner: Target
    gpu_server: Target
    node: asyncio.subprocess.Process

    @property
    def programs(self) -> list[Target]:
        """All of KAITO's that are no models."""
        return [*self.operators, self.provisioner]

    async def create(self, tree: Mapping[str, Any]) -> None:
        await self.client.create(WORKSPACES, tree)

    async def add_to_catalogue(self, name: str, text: str) -> None:
        """A ConfigMap with models of the user's own."""
        place = (
            self.connection.namespace
        )  # the operators run outside the cluster, so the context tells theirs
        metadata = {"name": name, "namespace": place, "labels": {own_catalog.LABEL: "true"}}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"models.yaml": text}}
        await self.client.create(CONFIGMAPS, body)

    async def claim_from_azure(self, name: str, *, seconds: float = 60) -> None:
        """A claim of its own; returns when its machine is being made. Raises TimeoutError."""
        await self.client.create(NODECLAIMS, claim(name))
        async with self.clock.timeout(seconds):
            while "LaunchInProgress" not in str(await self.client.get(NODECLAIMS, name)):
                await self.clock.sleep(0.2)

    async def delete(self, name: str) -> None:
        await self.client.delete(WORKSPACES, name, "default")

    async def until_gone(self, name: str, *, seconds: float = 120) -> None:
        """Waits until there is no such Workspace. Raises TimeoutError."""
        async with self.clock.timeout(seconds):
            with suppress(NotFound):
                while True:
                    await self._status(name)
                    await self.clock.sleep(0.2)

    @contextmanager
    def kubelets_paused(self) -> Iterator[None]:
        """New nodes do not join meanwhile, as where a machine boots; pods that run go on."""
        self.node.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.node.send_signal(signal.SIGCONT)

    async def lose_node(self, name: str) -> None:
        """The node of a Workspace goes away, as an evicted machine does."""
        (node,) = (await self._status(name))["workerNodes"]
        await self.client.delete(NODES, node)

    async def until(self, name: str, reason: str, *, seconds: float = 120) -> None:
        """Waits until the Workspace's status has that reason.

        Raises:
            TimeoutError: it has another one all that time.
        """
        async with self.clock.timeout(seconds):
            while (await self._status(name)).get("reason") != reason:
                await self.clock.sleep(0.2)

    async def _status(self, name: str) -> dict[str, Any]:
        tree = await self.client.get(WORKSPACES, name, "default")
        status: dict[str, Any] = tree.get("status") or {}
        return status

    async def servers(self) -> list[Target]:
        """The inference servers, as a PodMonitor finds them; asked through the API server, which knows their ports."""
        found = [self.gpu_server]
        for pod in await self.client.list(PODS, namespace="default", label_selector=WORKSPACE_LABEL):
            name, workspace = pod["metadata"]["name"], pod["metadata"]["labels"][WORKSPACE_LABEL]
            labels = {
                "namespace": "default",
                "pod": name,
                "workspace": workspace,
                "job": "default/kaito-inference",
            }
            path = f"/api/v1/namespaces/default/pods/{name}:{PORT}/proxy/metrics"
            address = urlsplit(self.connection.url).netloc
            found.append(Target(address, labels, path, through_api=True))
        return found

    async def ask(self, name: str, question: str) -> None:
        """One request for an answer, as `kaito chat` sends it."""
        await (await self._service(name)).chat(question)

    async def ask_for_no_such_model(self, name: str) -> None:
        """A request with a client's error in it."""
        asked = {"model": "no-such-model", "messages": [{"role": "user", "content": "Hello."}]}
        service = await self._service(name)
        headers = (("Content-Type", "application/json"),)
        answer = await service.send("POST", "/v1/chat/completions", headers=headers, body=orjson.dumps(asked))
        await answer.read()

    async def _service(self, name: str) -> InferenceService:
        return await find_service(self.client, self.connection.transport, name, "default", "dashboards")


@asynccontextmanager
async def running(folder: Path, clock: Clock) -> AsyncIterator[World]:
    """Starts everything; what it writes is in `folder`, which exists.

    Raises:
        CliError: a part did not start.
    """
    kubeconfig = folder / "kubeconfig"
    images = image_map_options(parse_image_map([f"{PIRATE}=oci:{adapter_oci_path()}"]))
    token = {KUBELET_TOKEN_VARIABLE: secrets.token_urlsafe(32)}
    supervisor = Supervisor(clock)

    async def start(name: str, arguments: list[str], environment: Mapping[str, str]) -> ManagedProcess:
        spec = ProcessSpec(
            name, ["-m", *arguments, f"--kubeconfig={kubeconfig}"], folder / f"{name}.log", environment
        )
        return await supervisor.start(spec)

    async def operator(name: str) -> Target:
        started = await start(name, ["kaito.cli", "operator", *_operator_flags(), *images], {})
        labels = {"namespace": SYSTEM, "pod": name, "job": "kaito-operator-metrics"}
        return Target(f"127.0.0.1:{started.facts['metrics_port']}", labels)

    async with AsyncExitStack() as stack:
        stack.push_async_callback(supervisor.stop)
        await start("api-server", ["kaito.embedded.processes.apiserver"], token)
        await install(kubeconfig, clock, LocalOptions())
        connection = Connection.from_kubeconfig(kubeconfig, CONTEXT, clock=clock)
        stack.push_async_callback(connection.close)
        client = Client(
            connection.transport, clock=clock, user_agent="dashboards", field_manager="dashboards"
        )
        node, operators = await asyncio.gather(
            start("node", ["kaito.cli.local.node", *_node_flags(folder), *images], token),
            asyncio.gather(*map(operator, OPERATORS)),
        )
        azure = await stack.enter_async_context(provisioner(client, SYSTEM))
        gpu = await stack.enter_async_context(gpu_server())
        yield World(client, connection, clock, _credentials(kubeconfig), operators, azure, gpu, node.process)


def _credentials(kubeconfig: Path) -> Credentials:
    """What the kubeconfig holds, as files for others."""
    tree = json.loads(kubeconfig.read_text(encoding="utf-8"))
    found = Credentials(kubeconfig.with_name("authority.pem"), kubeconfig.with_name("token"))
    found.authority.write_bytes(b64decode(tree["clusters"][0]["cluster"]["certificate-authority-data"]))
    write_private(found.token, tree["users"][0]["user"]["token"].encode())
    return found


def _node_flags(folder: Path) -> list[str]:
    return [f"--state={folder / 'pods'}", f"--downloads={folder / 'downloads'}"]


def _operator_flags() -> list[str]:
    return [
        f"--context={CONTEXT}",
        "--leader-elect",
        "--cloud-provider=instant",
        "--claim-kinds=machine",
        "--webhook-register",
        "--webhook-bind-address=127.0.0.1:0",
        f"--stand-in-weights={STAND_IN}",
        "--metrics-bind-address=127.0.0.1:0",
        "--health-probe-bind-address=0",
    ]
