"""The lane with a Grafana, up to what a Grafana does: files are provisioned, and asked for over HTTP.

A small program stands in for Grafana. It reads the provisioning files as Grafana documents them and serves what they
name; it draws nothing.
"""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path

import pytest

from hack.dashboards import grafana
from hack.dashboards.boards import BOARDS
from hack.dashboards.grafana import BROWSERS, NoGrafana, photograph
from kaito.runtime.clock import LoopClock

pytestmark = pytest.mark.processes

STAND_IN = """\
#!{python}
import json, os, pathlib, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
import yaml

assert sys.argv[1] == "server" and sys.argv[2].startswith("--homepath="), sys.argv
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
provisioning = pathlib.Path(os.environ["GF_PATHS_PROVISIONING"])
served = {{"/api/health": {{"database": "ok"}}}}
for file in (provisioning / "datasources").glob("*.yaml"):
    for source in yaml.safe_load(file.read_text())["datasources"]:
        served["/api/datasources/uid/" + source["uid"]] = source
for file in (provisioning / "dashboards").glob("*.yaml"):
    for provider in yaml.safe_load(file.read_text())["providers"]:
        for path in pathlib.Path(provider["options"]["path"]).glob("*.json"):
            board = json.loads(path.read_text())
            board["panels"] = board["panels"][{dropped}:]
            served["/api/dashboards/uid/" + board["uid"]] = {{"dashboard": board}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        body = json.dumps(served[path]).encode() if path in served else b"<h1>not here</h1>"
        self.send_response(200 if path in served else 404)
        self.send_header("Content-Type", "application/json" if path in served else "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


address = os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"])
HTTPServer(address, Handler).serve_forever()
"""


def stand_in(home: Path, *, dropped: int = 0) -> Path:
    """A home with the program; it leaves out the first panels of every dashboard."""
    program = home / "bin" / "grafana"
    program.parent.mkdir(parents=True)
    program.write_text(STAND_IN.format(python=sys.executable, dropped=dropped))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return home


async def test_data_source_and_dashboards_are_provisioned(tmp_path: Path) -> None:
    home = stand_in(tmp_path / "home")
    async with grafana.running(home, tmp_path / "work", "http://127.0.0.1:9", LoopClock()) as shows:
        source = await shows.get("/api/datasources/uid/kaito")
        assert (source["type"], source["url"], source["isDefault"]) == (
            "prometheus",
            "http://127.0.0.1:9",
            True,
        )
        for board in BOARDS:
            answer = await shows.get(f"/api/dashboards/uid/{board.uid}")
            assert answer["dashboard"]["title"] == board.title
    assert sorted(path.name for path in home.rglob("*")) == ["bin", "grafana"]


async def test_a_dashboard_that_is_not_taken_whole_is_an_error(tmp_path: Path) -> None:
    home = stand_in(tmp_path / "home", dropped=3)
    with pytest.raises(NoGrafana, match=r"^Grafana shows \d+ of \d+ panels of kaito-operator\.$"):
        async with grafana.running(home, tmp_path / "work", "http://127.0.0.1:9", LoopClock()):
            raise AssertionError("it came up")


async def test_a_home_without_a_grafana_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoGrafana, match=r"there is no bin/grafana in it"):
        async with grafana.running(tmp_path, tmp_path / "work", "http://127.0.0.1:9", LoopClock()):
            raise AssertionError("it came up")


async def test_a_grafana_that_ends_at_once_is_not_waited_for(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "grafana"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(NoGrafana, match="ended with exit code 3"):
        async with grafana.running(tmp_path, tmp_path / "work", "http://127.0.0.1:9", LoopClock()):
            raise AssertionError("it came up")


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "page.html"
    path.write_text("<body style='background: rgb(200, 30, 60)'>")
    return path.as_uri()


@pytest.mark.monitoring
@pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="there is no Chromium here to take pictures with"
)
async def test_the_browser_takes_pictures(tmp_path: Path, page: str) -> None:
    picture = tmp_path / "page.png"
    await photograph(page, picture, 320, 200, LoopClock())
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert (width, height) == (320, 200)
