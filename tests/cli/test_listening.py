"""Addresses that `kaito operator` and `kaito proxy` cannot listen on, and what the proxy passes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from kaito.cli.inference import InferenceService
from kaito.cli.proxy import InferenceProxy
from kaito.runtime.transport import Request, Response

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
}


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def operate(tmp_path: Path, *arguments: str) -> str:
    """What `kaito operator` says before it gives up."""
    (tmp_path / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    done = subprocess.run(
        [sys.executable, "-m", "kaito.cli", "operator", "--context=c", "--kubeconfig=kubeconfig", *arguments],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.processes
def test_an_operator_whose_port_is_taken_names_the_flag(tmp_path: Path, taken_port: int) -> None:
    told = operate(
        tmp_path, f"--metrics-bind-address=127.0.0.1:{taken_port}", "--health-probe-bind-address=0"
    )
    assert str(taken_port) in told
    assert "in use" in told
    assert "--metrics-bind-address" in told


@pytest.mark.processes
def test_an_address_that_is_none_names_the_flag(tmp_path: Path) -> None:
    told = operate(tmp_path, "--health-probe-bind-address=here")
    assert "'here' is not HOST:PORT" in told
    assert "--health-probe-bind-address" in told


class Ok:
    status = 200

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    async def read(self) -> bytes:
        return b"ok"

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"ok"

    async def close(self) -> None:
        return


class Recorder:
    """A transport that remembers the paths it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[tuple[str, str], ...]]] = []

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        del timeout, stream
        self.asked.append((request.path, tuple(request.query)))
        return Ok()

    async def close(self) -> None:
        return


async def test_the_proxy_passes_paths_on_as_they_came() -> None:
    transport = Recorder()
    proxy = InferenceProxy(InferenceService(transport, "default", "ws", "test"))
    await proxy.start()
    try:
        url = URL(f"http://127.0.0.1:{proxy.port}/v1/models/a%2Fb%20c?x=%26", encoded=True)
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.read() == b"ok"
    finally:
        await proxy.stop()
    ((path, query),) = transport.asked
    assert path.endswith("/proxy/v1/models/a%2Fb%20c")
    assert query == (("x", "&"),)
