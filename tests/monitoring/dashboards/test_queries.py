"""Every query of every panel, on a real Prometheus that scraped a running operator and running models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hack import families
from hack.dashboards import prometheus, story, world
from hack.dashboards.boards import BOARDS
from hack.dashboards.prometheus import Prometheus
from hack.dashboards.promql import filled_in
from hack.dashboards.world import World
from kaito.runtime.clock import LoopClock
from support.families import server_families

pytestmark = [pytest.mark.monitoring, pytest.mark.processes]

PATIENCE_SECONDS = 20


@pytest.fixture
async def seen(tmp_path: Path) -> AsyncIterator[tuple[World, Prometheus]]:
    """A world in which everything has happened, and the Prometheus that watched."""
    clock = LoopClock()
    async with (
        world.running(tmp_path, clock) as running,
        prometheus.running(tmp_path / "prometheus", clock, running.credentials) as watching,
    ):
        await story.tell(running, watching)
        yield running, watching


async def test_every_panel_shows_something(seen: tuple[World, Prometheus]) -> None:
    running, watching = seen
    left = {
        (board.uid, panel.title, filled_in(query.expr))
        for board in BOARDS
        for panel in board.panels
        for query in panel.queries
    }
    for _ in range(PATIENCE_SECONDS):  # what has just happened is scraped a second later
        left = {each for each in left if not await shows(watching, each[2])}
        if not left:
            break
        await story.ask(running, rounds=1)
    assert not left, "\n".join(f"{uid}, {title}: {expr}" for uid, title, expr in sorted(left))
    await the_registries_are_complete(running)


async def shows(watching: Prometheus, expr: str) -> bool:
    return any(series.finite for series in await watching.query(expr))


async def the_registries_are_complete(running: World) -> None:
    """What dashboards are checked against without a Prometheus is what programs show."""
    listed = set(await asyncio.to_thread(families.families)) | {family.name for family in server_families()}
    async with aiohttp.ClientSession() as session:
        for target in running.programs:
            async with session.get(f"http://{target.address}/metrics") as answer:
                text = await answer.text()
            shown = {family.name for family in text_string_to_metric_families(text)}
            assert {name for name in shown if name.startswith("kaito_")} - listed == set()
