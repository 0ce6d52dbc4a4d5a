"""Draws the pictures of the dashboards in docs/images.

    python -m hack.dashboards.pictures [--minutes 6] [--target docs/images]

Runs a world (`world`), lets things happen in it for some minutes, and asks its Prometheus what the panels ask. Where
GRAFANA_HOME names a Grafana, that one takes the pictures, in a browser; elsewhere `draw` does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hack.dashboards import draw, grafana, prometheus, story, world
from hack.dashboards.boards import BOARDS, ROOT
from hack.dashboards.model import Dashboard, Panel
from hack.dashboards.prometheus import Prometheus
from hack.dashboards.promql import filled_in
from kaito.cli.errors import CliError
from kaito.runtime.clock import Clock, LoopClock

TARGET = ROOT / "docs" / "images"
SCRAPE_SECONDS = 2
POINTS = 120
"""Points of a line."""
SHOWN: Mapping[str, int] = {
    "kaito-operator": 3,
    "kaito-workspaces": 4,
    "kaito-provisioning": 4,
    "kaito-inference": 3,
}
"""How many of a dashboard's rows are drawn: the first ones."""


async def take(target: Path, folder: Path, minutes: float, clock: Clock) -> list[Path]:
    """Runs everything and writes the pictures; the files.

    Raises:
        CliError, NoPrometheus, grafana.NoGrafana: something is missing or does not start.
    """
    home = os.environ.get("GRAFANA_HOME")
    async with (
        world.running(folder, clock) as running,
        prometheus.running(
            folder / "prometheus", clock, running.credentials, scrape_seconds=SCRAPE_SECONDS
        ) as watching,
    ):
        await watching.scrape(running.programs)
        begin = clock.wall().timestamp()
        await story.tell_for(running, watching, minutes * 60)
        end = clock.wall().timestamp()
        if home:
            async with grafana.running(Path(home), folder / "grafana", watching.url, clock) as shows:
                return [await shows.picture(board, target, begin, end) for board in BOARDS]
        return [await _drawn(board, target, watching, begin, end) for board in BOARDS]


async def _drawn(board: Dashboard, target: Path, watching: Prometheus, begin: float, end: float) -> Path:
    rows = board.rows[: SHOWN[board.uid]]
    answers = {panel.title: await _lines(panel, watching, begin, end) for row in rows for panel in row.panels}
    path = target / f"dashboard-{board.uid.removeprefix('kaito-')}.svg"
    _write(path, draw.dashboard(board, rows, answers, begin, end))
    return path


async def _lines(panel: Panel, watching: Prometheus, begin: float, end: float) -> list[draw.Line]:
    step = max((end - begin) / POINTS, SCRAPE_SECONDS)
    values = {"__rate_interval": f"{8 * SCRAPE_SECONDS}s", "__range": f"{int(end - begin)}s", "price": "1"}
    answers = []
    for query in panel.queries:
        expr = filled_in(query.expr, values)
        if panel.kind == "table":
            answers.append(await watching.query(expr))
        else:
            answers.append(await watching.query_range(expr, begin, end, step))
    return draw.lines_of(panel, answers)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=6, help="how long things happen (default: %(default)s)"
    )
    parser.add_argument(
        "--target", type=Path, default=TARGET, help="folder of the pictures (default: docs/images)"
    )
    arguments = parser.parse_args()

    async def run() -> list[Path]:
        with tempfile.TemporaryDirectory(prefix="kaito-pictures-") as folder:
            return await take(arguments.target, Path(folder), arguments.minutes, LoopClock())

    try:
        for path in asyncio.run(run()):
            print(f"{path.stat().st_size / 1000:6.0f} kB  {path}")
    except (CliError, prometheus.NoPrometheus, grafana.NoGrafana) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
