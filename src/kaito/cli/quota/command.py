"""`kaito quota`: asks Azure, and the cluster where one is named, and prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import typer
from rich.console import Console

from kaito.api.conditions import find_condition, is_false, is_true
from kaito.catalog import load_catalog
from kaito.cli.azure import Region, region
from kaito.cli.connect import connect
from kaito.cli.quota.report import Report, Wish, make_report
from kaito.cli.quota.table import as_json, show
from kaito.controllers.machine import SHAPES, ClaimShape
from kaito.controllers.machine.shapes import InvalidClaim
from kaito.provisioner.aks.ledger import read_usages
from kaito.provisioner.aks.skus import read_sizes
from kaito.provisioner.errors import InstancePending, OperationInProgress
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.errors import NotFound

CAPACITY_TYPE: Final = "karpenter.sh/capacity-type"
WIDTH: Final = 140
"""Characters of a line where the output is no terminal."""
STARTED: Final = frozenset({InstancePending.reason, OperationInProgress.reason})
"""Reasons of a claim whose machine has been asked for."""


async def run_quota(
    location: str | None, kubeconfig: Path | None, context: str | None, *, json: bool
) -> None:
    """Prints the quotas of a region. Raises CliError where something cannot be asked."""
    clock = LoopClock()
    async with region(location, clock) as azure:
        wishes = await _cluster_wishes(kubeconfig, context, clock)
        report = await ask(azure, wishes, clock)
    if json:
        typer.echo(orjson.dumps(as_json(report), option=orjson.OPT_INDENT_2).decode())
    else:
        console = Console()
        show(report, console if console.is_terminal else Console(width=WIDTH))


async def ask(azure: Region, wishes: Iterable[Wish], clock: Clock) -> Report:
    """The report of a region, as it is now."""
    sizes = read_sizes(await azure.resource_skus(), azure.location)
    pools = await azure.list_pools()
    figures = read_usages(await azure.usages(), clock.now())
    return make_report(azure.location, azure.quota_page, figures, sizes, pools, wishes, load_catalog())


async def _cluster_wishes(kubeconfig: Path | None, context: str | None, clock: Clock) -> list[Wish]:
    """The claims of the cluster that is named; without a name none is asked."""
    if kubeconfig is None and context is None:
        return []
    connection, client = connect(kubeconfig, context, clock)
    try:
        return [wish async for wish in _claims(client)]
    finally:
        await connection.close()


async def _claims(client: Client) -> Any:
    for shape in SHAPES:
        try:
            found = await client.list(shape.resource)
        except NotFound:  # this kind is not installed
            continue
        for claim in found:
            for wish in wishes_of(shape, claim):
                yield wish


def wishes_of(shape: ClaimShape, claim: Mapping[str, Any]) -> Iterator[Wish]:
    """The machine that a claim still waits for, if it does: that of the first size that it names."""
    conditions = (claim.get("status") or {}).get("conditions") or ()
    done = is_true(conditions, shape.launched) or is_false(conditions, shape.launched)
    if done or claim["metadata"].get("deletionTimestamp"):
        return
    try:
        spec = shape.claim_spec(claim)
    except InvalidClaim:
        return
    launched = find_condition(conditions, shape.launched) or {}
    capacity = spec.requirements.get(CAPACITY_TYPE) or ("on-demand",)
    yield Wish(spec.name, spec.instance_types[0], capacity[0] == "spot", launched.get("reason") in STARTED)
