"""A Grafana on loopback that shows our dashboards, and pictures of it by a browser.

`GRAFANA_HOME` is the folder of an unpacked Grafana: `bin/grafana` and `conf/` are in it. It is started with
provisioning files that name the Prometheus as its data source and our folder as its dashboards, which is what an
installation from files does; nothing is written into its home.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from hack.dashboards.boards import BOARDS, TARGET
from hack.dashboards.model import Dashboard, placed
from kaito.runtime.clock import Clock

START_SECONDS = 120.0
PICTURE_SECONDS = 120.0
WIDTH = 1400
LINE = 38
"""Pixels of a line of Grafana's grid, the space between two included."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DATASOURCE = "kaito"
"""Uid of the data source."""

_DATASOURCES = """\
apiVersion: 1
datasources:
  - {{name: Prometheus, uid: {uid}, type: prometheus, access: proxy, url: "{url}", isDefault: true,
     jsonData: {{timeInterval: 2s}}}}
"""
_DASHBOARDS = """\
apiVersion: 1
providers:
  - {{name: kaito, folder: KAITO, type: file, options: {{path: {path}}}}}
"""


class NoGrafana(Exception):
    """There is none in GRAFANA_HOME, it does not start, or it does not take a dashboard."""


class Grafana:
    """A running one."""

    def __init__(
        self, url: str, process: asyncio.subprocess.Process, session: aiohttp.ClientSession, clock: Clock
    ) -> None:
        self.url = url
        self._process = process
        self._session = session
        self._clock = clock

    async def until_loaded(self) -> None:
        """Returns when it serves the data source and every dashboard, each with all of its panels.

        Raises:
            NoGrafana: it ends, or does not within two minutes; with what it said last.
        """
        last = "nothing"
        try:
            async with self._clock.timeout(START_SECONDS):
                while last := await self._missing():
                    await self._clock.sleep(0.25)
        except TimeoutError:
            raise NoGrafana(f"Grafana did not load everything in {START_SECONDS:.0f} s: {last}") from None

    async def _missing(self) -> str:
        """What is not there yet; empty when all is."""
        if self._process.returncode is not None:
            raise NoGrafana(f"Grafana ended with exit code {self._process.returncode}.")
        try:
            health = await self.get("/api/health")
            if health.get("database") != "ok":
                return f"/api/health says {health}"
            await self.get(f"/api/datasources/uid/{DATASOURCE}")
            for board in BOARDS:
                answer = await self.get(f"/api/dashboards/uid/{board.uid}")
                found = [panel for panel in answer["dashboard"]["panels"] if panel["type"] != "row"]
                if len(found) != len(list(board.panels)):
                    raise NoGrafana(
                        f"Grafana shows {len(found)} of {len(list(board.panels))} panels of {board.uid}."
                    )
        except (aiohttp.ClientError, OSError) as error:
            return str(error)
        return ""

    async def get(self, path: str) -> dict[str, Any]:
        """What it answers to GET. Raises aiohttp.ClientError."""
        async with self._session.get(f"{self.url}{path}", raise_for_status=True) as answer:
            tree: dict[str, Any] = await answer.json()
        return tree

    async def picture(self, board: Dashboard, target: Path, begin: float, end: float) -> Path:
        """A PNG of the whole dashboard between two moments (seconds since 1970), as a browser shows it.

        Raises:
            NoGrafana: there is no browser, or it fails; with its last words.
        """
        lines = max(top + height for _, _, top, _, height in placed(board.rows))
        path = target / f"dashboard-{board.uid.removeprefix('kaito-')}.png"
        address = f"{self.url}/d/{board.uid}?kiosk&theme=light&from={begin * 1000:.0f}&to={end * 1000:.0f}"
        await photograph(address, path, WIDTH, lines * LINE + 80, self._clock)
        return path


async def photograph(address: str, path: Path, width: int, height: int, clock: Clock) -> None:
    """What a headless browser shows of an address, as PNG. Raises NoGrafana."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise NoGrafana("There is no Chromium on this machine to take pictures with.")
    flags = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium has none for root; it only sees our own pages
    process = await asyncio.create_subprocess_exec(
        browser,
        *flags,
        f"--window-size={width},{height}",
        "--virtual-time-budget=20000",
        f"--screenshot={path}",
        address,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with clock.timeout(PICTURE_SECONDS):
            _, log = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NoGrafana(f"The browser did not finish in {PICTURE_SECONDS:.0f} s: {address}") from None
    if process.returncode != 0 or not _exists(path):
        raise NoGrafana(f"{browser} took no picture: {log.decode(errors='replace')[-500:]}")


def _exists(path: Path) -> bool:
    return path.exists()


@asynccontextmanager
async def running(home: Path, folder: Path, prometheus: str, clock: Clock) -> AsyncIterator[Grafana]:
    """Starts the Grafana in `home`; what it writes is in `folder`. Yields when it shows everything.

    Raises:
        NoGrafana: there is none in `home`, or it does not start.
    """
    program = home / "bin" / "grafana"
    if not _exists(program):
        raise NoGrafana(f"GRAFANA_HOME={home}: there is no bin/grafana in it.")
    port = _free_port()
    provision(folder, prometheus)
    process = await asyncio.create_subprocess_exec(
        program,
        "server",
        f"--homepath={home}",
        env={**os.environ, **settings(folder, port)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            grafana = Grafana(f"http://127.0.0.1:{port}", process, session, clock)
            await grafana.until_loaded()
            yield grafana
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def settings(folder: Path, port: int) -> Mapping[str, str]:
    """Grafana's own environment variables: on loopback, without a login, with all its files in `folder`."""
    return {
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_DATA": str(folder / "data"),
        "GF_PATHS_LOGS": str(folder / "logs"),
        "GF_PATHS_PLUGINS": str(folder / "plugins"),
        "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Admin",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    }


def provision(folder: Path, prometheus: str) -> None:
    """Files that name the data source and the dashboards."""
    provisioning = folder / "provisioning"
    for name in ("datasources", "dashboards", "plugins", "alerting"):
        (provisioning / name).mkdir(parents=True, exist_ok=True)
    datasources = _DATASOURCES.format(uid=DATASOURCE, url=prometheus)
    (provisioning / "datasources" / "kaito.yaml").write_text(datasources, encoding="utf-8")
    dashboards = _DASHBOARDS.format(path=json.dumps(str(TARGET)))
    (provisioning / "dashboards" / "kaito.yaml").write_text(dashboards, encoding="utf-8")


def _free_port() -> int:
    """One that nobody listens at now; Grafana cannot say which it took itself."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port
