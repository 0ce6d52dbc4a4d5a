"""A Prometheus of our own on loopback: started, told what to scrape, asked, ended."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from kaito.runtime.clock import Clock

_LISTENING = re.compile(rb'msg="Listening on" address=(127\.0\.0\.1:\d+)')
_START_SECONDS = 30.0
_FILES = {"direct.json": False, "through-api.json": True}
"""Files that name targets, and whether these are behind the API server."""


_CONFIGURATION = """\
global:
  scrape_interval: {seconds}s
  scrape_timeout: {seconds}s
scrape_configs:
  - job_name: direct
    file_sd_configs: [{{files: [direct.json]}}]
  - job_name: through-api
    scheme: https
    authorization: {{credentials_file: {token}}}
    tls_config: {{ca_file: {authority}}}
    file_sd_configs: [{{files: [through-api.json]}}]
"""


class NoPrometheus(Exception):
    """There is none on this machine."""


@dataclass(frozen=True)
class Target:
    """Where metrics are, and the labels that a ServiceMonitor or PodMonitor would give them."""

    address: str
    labels: Mapping[str, str]
    path: str = "/metrics"
    through_api: bool = False
    """Whether it is asked over TLS and with the credentials of the cluster's API server, which passes it on."""


@dataclass(frozen=True)
class Credentials:
    """What the API server wants: files with its certificate authority and with a token."""

    authority: Path
    token: Path


@dataclass(frozen=True)
class Series:
    """One line of an answer: labels, and (seconds since 1970, value)."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def finite(self) -> bool:
        """Whether there is any number in it."""
        return any(math.isfinite(value) for _, value in self.points)


class Prometheus:
    """A running one. `targets` may be called again at any time."""

    def __init__(self, url: str, folder: Path, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.url = url
        self._folder = folder
        self._session = session
        self._clock = clock

    async def ready(self) -> None:
        """Returns when it answers. Raises TimeoutError."""
        async with self._clock.timeout(_START_SECONDS):
            while True:
                async with self._session.get(f"{self.url}/-/ready") as answer:
                    if answer.status == 200:
                        return
                await self._clock.sleep(0.05)

    async def scrape(self, targets: Sequence[Target]) -> None:
        """Scrapes these, and no others, from now on; returns when it has scraped each once (it takes 5 s to look).

        Raises:
            TimeoutError: one of them does not answer; with the reasons.
        """
        self._name(targets)
        wanted = {(each.address, each.path) for each in targets}
        states: dict[tuple[str, str], str] = {}
        try:
            async with self._clock.timeout(_START_SECONDS):
                while (states := await self._states()).keys() != wanted or any(states.values()):
                    await self._clock.sleep(0.2)
        except TimeoutError:
            raise TimeoutError(f"Not scraped in {_START_SECONDS:.0f} s: {states or wanted}") from None

    async def _states(self) -> dict[tuple[str, str], str]:
        """(address, path) of everything it scrapes, and why it could not; empty where it could."""
        found = {}
        for each in (await self._ask("targets", {}))["activeTargets"]:
            labels = each["discoveredLabels"]
            end = (labels["__address__"], labels["__metrics_path__"])
            found[end] = "" if each["health"] == "up" else each["lastError"] or "not scraped yet"
        return found

    def _name(self, targets: Sequence[Target]) -> None:
        for name, through_api in _FILES.items():
            groups = [
                {"targets": [each.address], "labels": {**each.labels, "__metrics_path__": each.path}}
                for each in targets
                if each.through_api is through_api
            ]
            part = self._folder / f"{name}.part"
            part.write_text(json.dumps(groups), encoding="utf-8")
            part.replace(self._folder / name)

    async def query(self, expr: str) -> list[Series]:
        """The answer now.

        Raises:
            ValueError: it does not understand the expression; with its words.
        """
        return _series(await self._ask("query", {"query": expr}))

    async def query_range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """The answers from `start` to `end` (seconds since 1970), every `step` seconds. Raises ValueError."""
        asked = {"query": expr, "start": f"{start}", "end": f"{end}", "step": f"{step}"}
        return _series(await self._ask("query_range", asked))

    async def _ask(self, what: str, parameters: Mapping[str, str]) -> Any:
        async with self._session.get(f"{self.url}/api/v1/{what}", params=parameters) as response:
            body = await response.json()
        if body["status"] != "success":
            raise ValueError(f"{parameters.get('query', what)}: {body['error']}")
        return body["data"]


def _series(data: Mapping[str, Any]) -> list[Series]:
    if data["resultType"] == "scalar":
        return [Series({}, [_point(data["result"])])]
    return [
        Series(each["metric"], [_point(point) for point in each.get("values") or [each["value"]]])
        for each in data["result"]
    ]


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


@asynccontextmanager
async def running(
    folder: Path, clock: Clock, credentials: Credentials, *, scrape_seconds: int = 1
) -> AsyncIterator[Prometheus]:
    """Starts one that keeps its data in `folder`.

    Raises:
        NoPrometheus: there is no program of that name, or it does not start.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise NoPrometheus(
            "There is no `prometheus` on this machine: apt-get install prometheus, or the like."
        )
    _prepare(folder, credentials, scrape_seconds)
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stderr is not None
    drained: asyncio.Task[bytes] | None = None
    try:
        address = await _address(process.stderr, clock)
        drained = asyncio.create_task(process.stderr.read(), name="prometheus-log")
        async with aiohttp.ClientSession() as session:
            found = Prometheus(f"http://{address}", folder, session, clock)
            await found.ready()
            yield found
    finally:
        process.terminate()
        await process.wait()
        if drained is not None:
            await drained


def _prepare(folder: Path, credentials: Credentials, scrape_seconds: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        (folder / name).write_text("[]", encoding="utf-8")
    configuration = _CONFIGURATION.format(
        seconds=scrape_seconds, token=credentials.token.resolve(), authority=credentials.authority.resolve()
    )
    (folder / "prometheus.yml").write_text(configuration, encoding="utf-8")


async def _address(log: asyncio.StreamReader, clock: Clock) -> str:
    seen = b""
    try:
        async with clock.timeout(_START_SECONDS):
            while line := await log.readline():
                seen = line
                if found := _LISTENING.search(line):
                    return found[1].decode()
    except TimeoutError:
        pass
    raise NoPrometheus(f"Prometheus did not start: {seen.decode().strip()}")
