"""Every metric family that our programs show, with its labels: for tests of what is built on them.

The operator's are those of a manager put together in this process as `kaito operator` does it; nothing runs. A test in
the monitoring lane compares them with what a running operator shows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from kaito.catalog import load_catalog
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.leader import LeaderElectionOptions
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.transport import BufferedResponse, Request
from kaito.runtime.webhook import WebhookServer
from kaito_presets.server.metrics import Metrics
from kaito_presets.server.names import ModelNames

SCRAPE_LABELS = frozenset({"namespace", "pod", "job", "instance"})
"""What Prometheus adds to every series, as a ServiceMonitor or PodMonitor configures it."""
SERVER_LABELS = SCRAPE_LABELS | {"workspace"}
"""The same for inference servers."""


@dataclass(frozen=True)
class Family:
    """One family; `labels` without those that scraping adds and without `le`."""

    name: str
    type: str
    labels: frozenset[str]

    @property
    def series(self) -> frozenset[str]:
        """Names of its series."""
        match self.type:
            case "counter":
                return frozenset({f"{self.name}_total"})
            case "histogram":
                return frozenset({f"{self.name}_{part}" for part in ("bucket", "sum", "count")})
            case _:
                return frozenset({self.name})


@cache
def operator_families() -> tuple[Family, ...]:
    """Of `kaito operator` and `kaito provisioner` together."""
    return asyncio.run(_operator_families())


async def _operator_families() -> tuple[Family, ...]:
    async def nobody(request: Request) -> BufferedResponse:
        return BufferedResponse(404)

    clock = LoopClock()
    client = Client(
        MemoryTransport(nobody, clock), clock=clock, user_agent="families", field_manager="families"
    )
    options = ManagerOptions(leader_election=LeaderElectionOptions(name="families", namespace="default"))
    manager = Manager(client, clock=clock, options=options)
    workspace.setup(manager, catalog=load_catalog())
    adapter.setup(manager, AdapterOptions(image_map={}))
    machine.setup(manager, InstantCloud(client, clock))
    server = WebhookServer(clock=clock)
    server.add("/validate-families", lambda request: None, mutating=False)
    server.add_to(manager)
    return _families(manager.metrics.registry)


@cache
def server_families() -> tuple[Family, ...]:
    """Of `kaito-serve`."""
    metrics = Metrics(ModelNames("preset", None, None, ()), "engine", "1")
    declared = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    labels = {each._name: frozenset(each._labelnames) for each in declared}
    found = _families(metrics.registry)
    return tuple(Family(each.name, each.type, labels.get(each.name, each.labels)) for each in found)


def _families(registry: CollectorRegistry) -> tuple[Family, ...]:
    return tuple(Family(each.name, each.type, _labels(each)) for each in registry.collect())


def _labels(metric: Metric) -> frozenset[str]:
    declared = getattr(metric, "_labelnames", None)
    if declared is None:
        declared = {label for sample in metric.samples for label in sample.labels}
    return frozenset(declared) - {"le"}
