"""pytest plugin for people who write operators; installed, it is there (extra `kaito[testing]`).

Fixtures:

- `virtual_clock`: the test runs in an event loop whose time jumps. `--loop-seeds N` runs each such test N times: once
  in asyncio's own order, then with the order of tasks shuffled by the seeds 1 to N-1, which stand in the test's name.
- `kube_api`: a Kubernetes API over HTTPS with a namespace of the test's own and faults on demand, for async tests,
  ordinary ones, and programs they start. `--kube-backend real` takes a real kube-apiserver.
- `memory_api`: the same in memory and virtual time.

Markers: `kube_crds(source, …)` loads custom resources, `needs(what, …)` asks for more than an API server.

pytest loads this module in every session, so everything heavy is imported by the fixture that needs it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from kaito.runtime.connection import Connection
    from kaito.runtime.testing import VirtualClock
    from kaito.testing.backends import Pool
    from kaito.testing.faults import Faults
    from kaito.testing.kube_api import KubeApi, KubeApiSession
    from kaito.testing.memory_api import MemoryApi

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:
    # Never set up: `_require_asyncio` comes first.
    async_fixture = pytest.fixture  # type: ignore[assignment]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

NEEDED_ASYNCIO: Final = (1, 4)
"""The first pytest-asyncio whose hook chooses the loop per test."""

_faults: Final = pytest.StashKey["Faults"]()
_failed: Final = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kaito", "Kubernetes operators (kaito)")
    group.addoption(
        "--loop-seeds",
        type=int,
        default=1,
        metavar="N",
        help="run each virtual-time test N times: in asyncio's order, then with the order of tasks shuffled by the "
        "seeds 1 to N-1 (default: 1)",
    )
    group.addoption(
        "--kube-backend",
        choices=("embedded", "real"),
        default=None,
        help="what answers behind `kube_api` (default: $KAITO_TEST_BACKEND, else embedded)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "kube_crds(*sources): custom resources for `kube_api` and `memory_api`: kaito.runtime.crd.CustomResource, "
        "manifest, or path of a file or folder, relative to the test's",
    )
    config.addinivalue_line(
        "markers", "needs(*what): what the backend must offer: api, workloads, ready-pods, processes"
    )
    config.pluginmanager.register(_OtherLoops(), "kaito-other-loops")


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory] | None:
    """Chosen from the test's fixtures, so nothing else has to be declared."""
    if "virtual_clock" not in getattr(item, "fixturenames", ()):
        return None
    from kaito.runtime.testing import VirtualEventLoop

    shuffled = {f"seed={seed}": partial(VirtualEventLoop, seed) for seed in range(1, _loop_seeds(config))}
    return {"unshuffled": VirtualEventLoop, **shuffled}


class _OtherLoops:
    """The loop of all other tests, where nobody else chooses one: what asyncio's policy makes."""

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_asyncio_loop_factories(
        self, config: pytest.Config, item: pytest.Item
    ) -> Mapping[str, LoopFactory]:
        return {"default": asyncio.new_event_loop}


def _loop_seeds(config: pytest.Config) -> int:
    wanted: int = config.getoption("--loop-seeds")
    if wanted < 1:
        raise pytest.UsageError(
            f"--loop-seeds {wanted}: write how often to run each virtual-time test, at least 1"
        )
    return wanted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what was injected, and is not blamed for unused faults as well."""
    report = yield
    faults = item.stash.get(_faults, None)
    if faults is not None and report.failed:
        item.stash[_failed] = True
        happened = "\n".join(map(str, faults.injected)) or "none"
        report.sections.append(("Injected faults", happened))
    return report


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> VirtualClock:
    """A clock at t=0.0 whose time jumps whenever the test waits."""
    _require_asyncio(request, "virtual_clock")
    from kaito.runtime.testing import VirtualClock

    return VirtualClock()


@pytest.fixture
def kube_api(request: pytest.FixtureRequest) -> Iterator[KubeApi]:
    """A Kubernetes API for this test; see `kaito.testing.kube_api.KubeApi`."""
    if "virtual_clock" in request.fixturenames:
        pytest.fail(
            "kube_api is reached over sockets, which virtual time cannot wait for: take memory_api beside "
            "virtual_clock, or leave virtual_clock out",
            pytrace=False,
        )
    connections = None
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        _require_asyncio(request, "kube_api in an async test")
        connections = request.getfixturevalue("_kube_connections")
    session: KubeApiSession = request.getfixturevalue("_kube_session")
    api, stack = session.open(request.node.name, _needs(request), _definitions(request))
    api.connections = connections
    request.node.stash[_faults] = api.faults
    try:
        yield api
    finally:
        session.end(stack)
    _check_used(request, api.faults)


@async_fixture
async def memory_api(request: pytest.FixtureRequest, virtual_clock: VirtualClock) -> AsyncIterator[MemoryApi]:
    """A Kubernetes API in memory and virtual time; see `kaito.testing.memory_api.MemoryApi`."""
    from kaito.testing.memory_api import MemoryApi

    api = MemoryApi(virtual_clock)
    await api.load(*_definitions(request))
    request.node.stash[_faults] = api.faults
    try:
        yield api
    finally:
        await api.close()
    _check_used(request, api.faults)


@pytest.fixture(scope="session")
def kube_backends(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The session's backends: what `kube_api` borrows from, for fixtures that want a bare `Backend`."""
    from kaito.testing.backends import Pool

    pool = Pool(tmp_path_factory.mktemp("kube-backends"), request.config.getoption("--kube-backend"))
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def _kube_session(kube_backends: Pool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiSession]:
    from kaito.testing.kube_api import KubeApiSession

    session = KubeApiSession(tmp_path_factory.mktemp("kube-api"), kube_backends)
    yield session
    session.close()


@async_fixture
async def _kube_connections() -> AsyncIterator[list[Connection]]:
    """Closed in the event loop that used them."""
    connections: list[Connection] = []
    yield connections
    for connection in connections:
        await connection.close()


def _check_used(request: pytest.FixtureRequest, faults: Faults) -> None:
    if not request.node.stash.get(_failed, False):
        faults.assert_all_used()


def _needs(request: pytest.FixtureRequest) -> frozenset[str]:
    return frozenset({"api"}).union(*(mark.args for mark in request.node.iter_markers("needs")))


def _definitions(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    marks = list(request.node.iter_markers("kube_crds"))
    if not marks:
        return []
    from kaito.runtime.crd import manifests

    folder = request.node.path.parent
    try:
        return [found for mark in marks for source in mark.args for found in manifests(source, folder)]
    except ValueError as error:
        pytest.fail(f"kube_crds: {error}. Relative paths start at the folder of the test.", pytrace=False)


def _require_asyncio(request: pytest.FixtureRequest, what: str) -> None:
    """Fail with a sentence where pytest-asyncio is missing, too old, or switched off."""
    remedy = "install the extra kaito[testing]"
    try:
        version = metadata.version("pytest-asyncio")
    except metadata.PackageNotFoundError:
        pytest.fail(f"{what} needs pytest-asyncio, which is not installed: {remedy}", pytrace=False)
    if tuple(int(part) for part in version.split(".")[:2]) < NEEDED_ASYNCIO:
        least = ".".join(map(str, NEEDED_ASYNCIO))
        pytest.fail(
            f"{what} needs pytest-asyncio {least} or later and found {version}: {remedy}", pytrace=False
        )
    if not request.config.pluginmanager.hasplugin("asyncio"):
        pytest.fail(
            f"{what} needs pytest-asyncio, which is switched off here (-p no:asyncio?)", pytrace=False
        )
