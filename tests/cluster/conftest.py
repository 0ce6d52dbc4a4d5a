"""The cluster of the session, and what is kept of it when a test fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from cluster.enter import FOLDER
from cluster.kubectl import Kubectl
from cluster.node import Node
from cluster.places import Places
from kaito.runtime.clock import LoopClock

# Outside of the namespaces there is no cluster to test: `make test-e2e` goes in, `make test` stays out.
collect_ignore_glob = [] if FOLDER in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def kubectl() -> Iterator[Kubectl]:
    """kubectl on a cluster of one node, which lasts for the session."""
    places = Places.here()
    node = Node(places, LoopClock())
    asyncio.run(node.start())
    yield Kubectl(places, node.environment)
    node.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test leaves the cluster's state beside the logs, while there is a cluster."""
    report = yield
    kubectl = getattr(item, "funcargs", {}).get("kubectl")
    if report.failed and isinstance(kubectl, Kubectl):
        folder = kubectl.keep_state(item.name)
        report.sections.append(("State of the cluster", f"{folder}\n{_events(folder)}"))
    return report


def _events(folder: Path) -> str:
    return "\n".join((folder / "events.txt").read_text().splitlines()[-20:])
