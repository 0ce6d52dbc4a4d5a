"""Sends scenarios to a server, as raw requests over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from yarl import URL

from differential.scenarios import PATHS, REPOSITORY, Scenario, Step, fill
from kaito.runtime.clock import Clock, LoopClock

AGENT: Final = "differential/1"
_TRIES: Final = 100
_PAUSE: Final = 0.1
"""Seconds between two tries of a step that waits for a status."""

AT_ONCE: Final = 4
"""Scenarios under way at a time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came. `body` is JSON, text, or the list of a watch's events."""

    status: int
    content_type: str
    body: Any
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exchange:
    """A step, the request line it became and the answer to it."""

    step: Step
    request: str
    answer: Answer
    known: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and what to show it."""

    url: str
    token: str
    context: ssl.SSLContext | None

    @staticmethod
    def of_kubeconfig(path: Path) -> Address:
        """The server of a kubeconfig with a token and the authority's certificate inside (or none to check)."""
        config = yaml.safe_load(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        url = cluster["server"]
        if url.startswith("http://"):
            return Address(url, user.get("token", ""), None)
        context = ssl.create_default_context()
        if "certificate-authority-data" in cluster:
            context.load_verify_locations(
                cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
            )
        elif "certificate-authority" in cluster:
            context.load_verify_locations(cluster["certificate-authority"])
        else:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return Address(url, user.get("token", ""), context)


class Player:
    """Plays scenarios on one server. Use as an async context manager."""

    def __init__(self, address: Address, clock: Clock | None = None) -> None:
        self._address = address
        self._clock = clock or LoopClock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Player:
        address = self._address
        headers = {"User-Agent": AGENT}
        if address.token:
            headers["Authorization"] = f"Bearer {address.token}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=address.context or False, limit=0),
            headers=headers,
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()
        await self._clock.sleep(0)

    async def play_all(self, scenarios: Sequence[Scenario]) -> dict[str, list[Exchange]]:
        """All scenarios: first those that want to be alone, one by one, then the others beside one another."""
        played: dict[str, list[Exchange]] = {}
        for scenario in scenarios:
            if scenario.alone:
                played[scenario.name] = await self.play(scenario)
        free = asyncio.Semaphore(AT_ONCE)

        async def one(scenario: Scenario) -> None:
            async with free:
                played[scenario.name] = await self.play(scenario)

        async with asyncio.TaskGroup() as group:
            for scenario in scenarios:
                if not scenario.alone:
                    group.create_task(one(scenario))
        return {scenario.name: played[scenario.name] for scenario in scenarios}

    async def play(self, scenario: Scenario) -> list[Exchange]:
        """Every answer of one scenario, in the order of its steps."""
        known: dict[str, Any] = {"ns": scenario.namespace}
        known |= {name: fill(path, known) for name, path in PATHS.items()}
        await self._make_namespace(scenario.namespace)
        fixed = frozenset(known)
        streams: dict[str, tuple[Step, str, asyncio.Task[Answer]]] = {}
        exchanges: list[Exchange] = []
        try:
            for step in scenario.steps:
                request = fill(step.do, known)
                if step.collect:
                    begun, request, task = streams.pop(step.collect)
                    exchange = Exchange(begun, request, await task)
                elif step.open:
                    ready = asyncio.Event()
                    task = asyncio.create_task(self._request(step, known, ready))
                    streams[step.open] = step, request, task
                    await ready.wait()
                    continue
                else:
                    exchange = Exchange(step, request, await self._settled(step, known))
                for name, path in step.keep.items():
                    known[name] = _at(exchange.answer.body, path)
                kept = {name: value for name, value in known.items() if name not in fixed}
                exchanges.append(Exchange(exchange.step, request, exchange.answer, kept))
        finally:
            for _, _, task in streams.values():
                task.cancel()
        return exchanges

    async def _make_namespace(self, name: str) -> None:
        """A namespace whose pods get no token volume: only a server whose tokens mean something adds one."""
        json_type, merge = {"Content-Type": "application/json"}, {"Content-Type": PATHS["merge"]}
        await self._send("POST", "/api/v1/namespaces", _namespace(name), json_type)
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        for _ in range(_TRIES):
            answer = await self._send("PATCH", account, b'{"automountServiceAccountToken": false}', merge)
            if answer.status == 200:
                return
            await self._clock.sleep(_PAUSE)
        raise RuntimeError(f"the namespace {name} never got its default ServiceAccount")

    async def _settled(self, step: Step, known: Mapping[str, Any]) -> Answer:
        """The answer, after the status that the step waits for has come (or its tries are used up)."""
        for _ in range(_TRIES):
            answer = await self._request(step, known)
            if step.until in (0, answer.status):
                break
            await self._clock.sleep(_PAUSE)
        return answer

    async def _request(
        self, step: Step, known: Mapping[str, Any], ready: asyncio.Event | None = None
    ) -> Answer:
        data, content_type = _payload(step, known)
        headers = {"Accept": fill(step.accept, known)}
        if content_type:
            headers["Content-Type"] = content_type
        target = fill(step.target, known)
        return await self._send(
            step.method, target, data, headers, watch=step.watch or bool(ready), ready=ready
        )

    async def _send(
        self,
        method: str,
        target: str,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        watch: bool = False,
        ready: asyncio.Event | None = None,
    ) -> Answer:
        assert self._session is not None
        url = URL(self._address.url + target, encoded=True)
        skip = () if "Content-Type" in headers else ("Content-Type",)
        async with self._session.request(
            method, url, data=data, headers=headers, skip_auto_headers=skip
        ) as response:
            if ready is not None:
                ready.set()
            content = await response.read()
            kind = response.headers.get("Content-Type", "")
            warnings = tuple(response.headers.getall("Warning", ()))
            return Answer(response.status, kind, _decoded(content, watch=watch), warnings)


def _namespace(name: str) -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).encode()


def _payload(step: Step, known: Mapping[str, Any]) -> tuple[bytes | None, str]:
    given = None if step.type is None else fill(step.type, known)
    if step.base64 is not None:
        return base64.b64decode(step.base64), given or "application/vnd.kubernetes.protobuf"
    if step.file is not None:
        return (REPOSITORY / step.file).read_bytes(), given or "application/yaml"
    if step.yaml is not None:
        return str(fill(step.yaml, known)).encode(), "application/yaml" if given is None else given
    if step.raw is not None:
        return str(fill(step.raw, known)).encode(), "application/json" if given is None else given
    if step.body is not None:
        return json.dumps(fill(step.body, known)).encode(), "application/json" if given is None else given
    return None, given or ""


def _decoded(content: bytes, *, watch: bool) -> Any:
    if watch and content.lstrip()[:1] == b"{":
        events = [json.loads(line) for line in content.splitlines() if line.strip()]
        if all("type" in event and "object" in event for event in events):
            return events
        return events[0] if len(events) == 1 else events
    if watch and not content:
        return []
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def _at(body: Any, path: str) -> Any:
    """The value at a dotted path of names and indices, "" where there is none."""
    for part in path.split("."):
        if isinstance(body, list) and part.lstrip("-").isdigit() and -len(body) <= int(part) < len(body):
            body = body[int(part)]
        elif isinstance(body, dict) and part in body:
            body = body[part]
        else:
            return ""
    return body
