"""The metric families of everything that KAITO runs in a cluster, as they are before anything has happened.

    python -m hack.families           writes docs/metrics.md
    python -m hack.families --check   says whether it is stale, with exit status 1

Dashboards, alerts and their tests take the names from here: from the registry that a running operator shows.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from prometheus_client.core import Metric

from kaito.catalog import load_catalog
from kaito.cli.build_info import BuildInfo
from kaito.cli.operator.checks import check_operator
from kaito.controllers import adapter, machine, workspace
from kaito.controllers.adapter import AdapterOptions
from kaito.controllers.workspace import NodeProvisioner, own_catalog
from kaito.provisioner import aks
from kaito.provisioner.aks.config import SignIn
from kaito.provisioner.instant import InstantCloud
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.leader import LeaderElectionOptions
from kaito.runtime.manager import Manager, ManagerOptions
from kaito.runtime.memory_transport import MemoryTransport
from kaito.runtime.resources import NODES
from kaito.runtime.transport import BufferedResponse, Request
from kaito.runtime.webhook import WebhookServer

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
MADE_BY = "<!-- Written by `make docs` from the code. Change the texts there, not this page. -->"
INTRODUCTION = """\
# Metrics

`kaito operator` and `kaito provisioner` serve these at `:8080/metrics`, beside those of every controller built on
`kaito.runtime` ([runtime/metrics.md](runtime/metrics.md): queues, reconciles, requests, caches, leader election,
webhooks). What pods with models serve is in the dashboards' own notes. No label holds a name or a text that a user
wrote: presets and machine sizes are those of the catalogue and reasons those of the [runbook](runbook.md); everything
else is `other`.

Gauges that count objects are kept by the replica that leads; the others show 0. So take the sum over pods. The
catalogue has no prices: `kaito_workspace_instance_type_nodes` times your price of each size is what nodes cost.

Names and values of `kaito_workspace_count` and `kaito_workspace_preset_count` are those of the Go KAITO, with two
differences in what they mean: a Workspace that only starts is `pending` and no `error`, and one on its way out is
`deleting` from the first moment. `kaito_workspace_pvc_*` do not exist: they would need a label for each Workspace.
"""


def families() -> dict[str, Metric]:
    """All of them by the name that the exposition's TYPE line has (a counter's without `_total`)."""
    return asyncio.run(_families())


async def _families() -> dict[str, Metric]:
    async def nobody(request: Request) -> BufferedResponse:
        return BufferedResponse(404)

    clock = LoopClock()
    options = ManagerOptions(
        leader_election=LeaderElectionOptions(name="kaito-operator", namespace="kaito-system")
    )
    client = Client(MemoryTransport(nobody, clock), clock=clock)
    manager = Manager(client, clock=clock, options=options)
    check_operator(manager, NodeProvisioner.MACHINE, "kaito-system")
    manager.metrics.add(BuildInfo())
    workspace.setup(manager, catalog=own_catalog.follow(manager, load_catalog(), "kaito-system"))
    adapter.setup(manager, AdapterOptions(image_map={}))
    machine.setup(manager, InstantCloud(client, clock))
    config = aks.AksConfig(
        location="eastus", resource_group="g", cluster="c", subscription_id="s", sign_in=SignIn.NONE
    )
    azure = aks.build(config, clock, manager.cache.informer(NODES).lister)
    for source in azure.metrics:
        manager.metrics.add(source)
    server = WebhookServer(clock=clock)
    for path in ("/validate-workspace", "/validate-adapter"):
        server.add(path, lambda request: None, mutating=False)
    server.add_to(manager)
    found = {family.name: family for family in manager.metrics.registry.collect()}
    await azure.close()
    return found


def series(family: Metric) -> list[str]:
    """Names of the time series of a family, as queries write them."""
    if family.type == "counter":
        return [f"{family.name}_total"]
    if family.type == "histogram":
        return [f"{family.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")]
    return [family.name]


def labels(family: Metric) -> list[str]:
    """Names of a family's labels, without the one that histograms have for their buckets."""
    names = getattr(family, "_labelnames", None) or (family.samples[0].labels if family.samples else ())
    return [name for name in names if name != "le"]


def page() -> str:
    """docs/metrics.md."""
    parts = [INTRODUCTION, MADE_BY, "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
    for name, family in sorted(families().items()):
        if name.startswith("kaito_"):
            shown = f"{name}_total" if family.type == "counter" else name
            names = ", ".join(f"`{label}`" for label in labels(family)) or "none"
            parts.append(f"| `{shown}` | {family.type} | {names} | {family.documentation} |")
    return "\n".join(parts) + "\n"


def main() -> int:
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        print(f"{PAGE.name} is stale: run `make docs`", file=sys.stderr)
        return 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
