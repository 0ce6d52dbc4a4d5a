"""A small cluster in the test's own event loop: API server over HTTPS, manager, kubelet with one Ready node."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito.embedded.kubelet import ImageEntry, ImageTable, Kubelet
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import NotFound
from kaito.runtime.resources import NODES, PODS, SERVICES
from support.apiserver import kubectl_binaries

TOKEN = "kubelet-token"
NODE = "node-1"
Object = dict[str, Any]


@dataclass
class Cluster:
    """What a test works with."""

    client: Client
    clock: Clock
    kubeconfig: Path
    directory: Path
    kubelet: Kubelet | None = None
    program: str = ""
    """The kubectl to use; that of PATH if empty."""

    async def until(self, check: Any, *, what: str, limit: float = 30.0) -> Any:
        """Wait for `await check()` to be true."""
        try:
            async with self.clock.timeout(limit):
                while True:
                    found = await check()
                    if found:
                        return found
                    await self.clock.sleep(0.02)
        except TimeoutError:
            pods = await self.client.list(PODS)
            raise AssertionError(
                f"{what} did not come true; pods: {[pod.get('status') for pod in pods]}"
            ) from None

    async def pod(self, name: str) -> Object:
        return await self.client.get(PODS, name, "default")

    async def run_pod(self, name: str, containers: list[Object], **spec: Any) -> Object:
        """Create a pod that is already bound to the node."""
        labels = spec.pop("labels", {"app": name})
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"nodeName": spec.pop("nodeName", NODE), "containers": containers, **spec},
        }
        return await self.client.create(PODS, body)

    async def remove(self, name: str, grace_period: int | None = None) -> None:
        await self.client.delete(PODS, name, "default", grace_period=grace_period)
        await self.gone(name)

    async def node_ready(self, name: str = NODE) -> None:
        async def check() -> bool:
            status = (await self.client.get(NODES, name)).get("status", {})
            return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))

        await self.until(check, what=f"node {name} is Ready")

    async def phase(self, name: str, phase: str) -> Object:
        async def check() -> Object | None:
            pod = await self.pod(name)
            return pod if pod["status"].get("phase") == phase else None

        found: Object = await self.until(check, what=f"pod {name} is {phase}")
        return found

    async def ready(self, name: str) -> Object:
        async def check() -> Object | None:
            pod = await self.pod(name)
            conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", ())}
            return pod if conditions.get("Ready") == "True" else None

        found: Object = await self.until(check, what=f"pod {name} is Ready")
        return found

    async def gone(self, name: str) -> None:
        async def check() -> bool:
            try:
                await self.pod(name)
            except NotFound:
                return True
            return False

        await self.until(check, what=f"pod {name} is gone")

    async def waiting(self, name: str, reason: str) -> Object:
        async def check() -> Object | None:
            pod = await self.pod(name)
            status = pod["status"]
            everyone = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
            reasons = [s["state"].get("waiting", {}).get("reason") for s in everyone]
            return pod if reason in reasons else None

        found: Object = await self.until(check, what=f"pod {name} waits because of {reason}")
        return found

    async def service(self, name: str, ports: list[Object], selector: Object, **spec: Any) -> Object:
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": selector, "ports": ports, **spec},
        }
        return await self.client.create(SERVICES, body)

    async def kubectl(
        self, *words: str, stdin: bytes | None = None, limit: float = 60.0
    ) -> tuple[int, str, str]:
        """Run kubectl; exit code, standard output and standard error."""
        program = self.program or str(kubectl_binaries()[0])
        process = await asyncio.create_subprocess_exec(
            program,
            *words,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "KUBECONFIG": str(self.kubeconfig)},
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with self.clock.timeout(limit):
                out, err = await process.communicate(stdin)
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
            raise AssertionError(f"kubectl {words} did not end: {out!r} {err!r}") from None
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


def python_images(directory: Path) -> ImageTable:
    """`test/python` runs this Python, `test/any` any program, `test/model` has `directory`/weights in /opt/weights."""
    return ImageTable.default(
        ImageEntry(
            "docker.io/test/model",
            {"python": (sys.executable,)},
            env={"ENGINE": "small"},
            contents={"/opt/weights": str(directory / "weights")},
            stand_in="tiny",
        ),
        ImageEntry("docker.io/test/python", {"python": (sys.executable,)}, default_command="python"),
        ImageEntry("docker.io/test/any", {"*": ()}),
    )


def node(name: str, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kaito.sh/instant-cloud": "true", **labels}},
    }


def python(name: str, code: str, **more: Any) -> Object:
    """A container that runs a Python script."""
    return {"name": name, "image": "test/python:1", "command": ["python", "-c", code], **more}


def shell(name: str, script: str, **more: Any) -> Object:
    """A container that runs a shell script."""
    return {"name": name, "image": "test/any", "command": ["sh", "-c", script], **more}


ECHO = """
import http.server, json, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self):
        if self.path == '/redirect':
            self.send_response(302); self.send_header('Location', '/elsewhere')
            self.send_header('Content-Length', '0'); self.end_headers(); return
        if self.path == '/big':
            self.send_response(200); self.send_header('Content-Length', '20000000'); self.end_headers()
            for n in range(200): self.wfile.write(bytes([n]) * 100000)
            return
        if self.path.startswith('/stream'):
            self.send_response(200); self.send_header('Transfer-Encoding', 'chunked'); self.end_headers()
            for n in range(3):
                data = b'data: %d\\n\\n' % n
                self.wfile.write(b'%x\\r\\n%s\\r\\n' % (len(data), data)); self.wfile.flush()
                gate = os.environ['KAITO_MOUNT_ROOT'] + '/tmp/gate%d' % n
                while not os.path.exists(gate): time.sleep(0.01)
            self.wfile.write(b'0\\r\\n\\r\\n'); return
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        headers = {k.lower(): v for k, v in self.headers.items()}
        data = json.dumps({'method': self.command, 'path': self.path, 'body': body.decode('latin-1')[:1000],
            'length': len(body), 'pod': os.environ['HOSTNAME'], 'headers': headers}).encode()
        self.send_response(200); self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data))); self.end_headers()
        if self.command != 'HEAD': self.wfile.write(data)
    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer
    def log_message(self, *args): pass
address = (os.environ['KAITO_BIND_HOST'], int(os.environ['KAITO_PORT']))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""
TMP = [{"name": "tmp", "emptyDir": {}}]


async def echo_server(cluster: Cluster, name: str = "echo") -> Object:
    """A pod that is Ready and answers on port `http` (5000) with what it was asked, as JSON."""
    container = python(
        "main",
        ECHO,
        ports=[{"name": "http", "containerPort": 5000}],
        readinessProbe={"tcpSocket": {"port": "http"}, "periodSeconds": 1},
        volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],
    )
    await cluster.run_pod(
        name, [container], volumes=TMP, terminationGracePeriodSeconds=0, labels={"app": "echo"}
    )
    return await cluster.ready(name)
