"""Clients for the tests of the embedded API server: exact HTTP without sockets, and real kubectl binaries."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from kaito.embedded.apiserver.server import ApiServer
from kaito.runtime.clock import Clock, LoopClock
from kaito.runtime.transport import Request, Response

COMMAND_TIMEOUT = 30.0
"""Seconds after which a kubectl that hangs fails its test."""

WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"


def widget_definition() -> dict[str, Any]:
    """A CRD with two versions, defaults, a CEL rule, printer columns, status and scale."""
    schema = {
        "type": "object",
        "description": "A Widget shows what custom resources can do.",
        "properties": {
            "spec": {
                "type": "object",
                "description": "What is wanted.",
                "properties": {
                    "size": {"type": "integer", "description": "How big.", "default": 3, "minimum": 0},
                    "color": {"type": "string", "enum": ["red", "green", "blue"]},
                    "note": {"type": "string"},
                    "replicas": {"type": "integer"},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
                "x-kubernetes-validations": [
                    {"rule": "!has(self.note) || self.note != 'bad'", "message": "note must not be bad"}
                ],
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Note", "type": "string", "jsonPath": ".spec.note", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    subresources = {
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {
                "plural": "widgets",
                "singular": "widget",
                "kind": "Widget",
                "listKind": "WidgetList",
                "shortNames": ["wd"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": name,
                    "served": True,
                    "storage": name == "v1",
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                    "additionalPrinterColumns": columns,
                }
                for name in ("v1", "v1alpha1")
            ],
        },
    }


def widget(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


@dataclass
class Answer:
    """An HTTP answer, read."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.data)

    @property
    def reason(self) -> str:
        return str(self.json.get("reason", ""))


@dataclass
class Api:
    """A client that says exactly what it wants to say."""

    server: ApiServer
    clock: Clock
    streams: list[Response] = field(default_factory=list)

    async def send(
        self, method: str, path: str, body: Any = None, *, media: str = "application/json", **headers: str
    ) -> Answer:
        """One request; `path` may carry a query. `body` is encoded unless it is bytes."""
        response = await self.server.handle(self._request(method, path, body, media, headers))
        return Answer(response.status, dict(response.headers), await response.read())

    async def ok(self, method: str, path: str, body: Any = None, **more: str) -> Any:
        """One request that must succeed; the decoded answer."""
        answer = await self.send(method, path, body, **more)
        assert answer.status in (200, 201, 202), f"{method} {path}: {answer.status} {answer.data.decode()}"
        return answer.json

    async def get(self, path: str, **more: str) -> Any:
        return await self.ok("GET", path, **more)

    async def create(self, path: str, body: Any) -> Any:
        return await self.ok("POST", path, body)

    async def merge(self, path: str, patch: Any) -> Any:
        return await self.ok("PATCH", path, patch, media="application/merge-patch+json")

    async def apply(self, path: str, body: Any, manager: str = "tester") -> Any:
        query = f"{'&' if '?' in path else '?'}fieldManager={manager}"
        return await self.ok("PATCH", path + query, body, media="application/apply-patch+yaml")

    async def watch(self, path: str, **headers: str) -> Watch:
        response = await self.server.handle(self._request("GET", path, None, "", headers))
        self.streams.append(response)
        return Watch(response, self.clock)

    async def settle(self) -> None:
        """Lets the server's own turns (garbage collection, namespaces) run to their end."""
        for _ in range(20):
            await self.clock.sleep(0)

    async def define_widgets(self) -> None:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await self.create(path, widget_definition())

    @staticmethod
    def _request(method: str, path: str, body: Any, media: str, headers: dict[str, str]) -> Request:
        path, _, query = path.partition("?")
        pairs = [item.partition("=") for item in query.split("&") if item]
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        if body is not None:
            named.setdefault("Content-Type", media)
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        return Request(method, path, tuple((key, value) for key, _, value in pairs), named, data)

    async def close(self) -> None:
        for stream in self.streams:
            await stream.close()


class Watch:
    """The events of one watch, one at a time."""

    def __init__(self, response: Response, clock: Clock) -> None:
        self.status = response.status
        self._response = response
        self._chunks = response.chunks()
        self._clock = clock
        self._events: list[dict[str, Any]] = []

    async def next(self, within: float = 5.0) -> dict[str, Any]:
        """The next event; TimeoutError if none comes within so many seconds, StopAsyncIteration at the end."""
        while not self._events:
            async with self._clock.timeout(within):
                chunk = await anext(self._chunks)
            self._events += [orjson.loads(line) for line in chunk.splitlines()]
        return self._events.pop(0)

    async def take(self, count: int) -> list[tuple[str, str]]:
        """(type, name) of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]

    async def rest(self) -> list[dict[str, Any]]:
        """All events until the stream ends."""
        events, self._events = self._events, []
        async for chunk in self._chunks:
            events += [orjson.loads(line) for line in chunk.splitlines()]
        return events

    async def close(self) -> None:
        await self._response.close()


def kubectl_id(binary: Path) -> str:
    """What a kubectl is called in test names: the part of its path that is a version, else the folder it is in."""
    versions = [part for part in binary.parts if part[:1].isdigit() and "." in part]
    return versions[-1] if versions else binary.parent.parent.name or binary.name


def kubectl_binaries() -> list[Path]:
    """Every different kubectl there is to test with; on the real API server only those that were named for it."""
    named = [Path(each) for each in os.environ.get("KAITO_TEST_KUBECTLS", "").split(os.pathsep) if each]
    if named and os.environ.get("KAITO_TEST_BACKEND") == "real":
        directories, installed = named, None
    else:
        directories, installed = [Path(sys.executable).parent, *named], shutil.which("kubectl")
    candidates = [installed, *(str(directory / "kubectl") for directory in directories)]
    found: dict[Path, None] = {}
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            found.setdefault(Path(candidate).resolve())
    return list(found)


@dataclass
class Output:
    """What a command said."""

    code: int
    out: str
    err: str


@dataclass
class Kubectl:
    """Runs one kubectl against one server, with a home of its own so that caches do not mix."""

    binary: Path
    home: Path
    kubeconfig: Path

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "KUBECACHEDIR": str(self.home / "cache"),
            "KUBECONFIG": str(self.kubeconfig),
            **more,
        }

    async def start(self, *args: str, **env: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(self.binary),
            *args,
            env=self.environment(**env),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *args: str, stdin: Any = None, **env: str) -> Output:
        """Runs to the end whatever the exit code; `stdin` is text or an object to send as JSON."""
        process = await self.start(*args, **env)
        data = stdin.encode() if isinstance(stdin, str) else b"" if stdin is None else orjson.dumps(stdin)
        try:
            async with LoopClock().timeout(COMMAND_TIMEOUT):
                out, err = await process.communicate(data)
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
            pytest.fail(f"kubectl {' '.join(args)} hung; it said {out.decode()} {err.decode()}")
        return Output(process.returncode or 0, out.decode(), err.decode())

    async def __call__(self, *args: str, stdin: Any = None, **env: str) -> str:
        """Runs a command that must succeed; its standard output."""
        result = await self.run(*args, stdin=stdin, **env)
        assert result.code == 0, f"kubectl {' '.join(args)}: {result.out}{result.err}"
        return result.out

    async def fails(self, *args: str, stdin: Any = None) -> str:
        """Runs a command that must fail; its standard error."""
        result = await self.run(*args, stdin=stdin)
        assert result.code != 0, f"kubectl {' '.join(args)} succeeded: {result.out}"
        return result.err

    async def until(self, *args: str, says: str, within: float = COMMAND_TIMEOUT) -> str:
        """Runs a command again and again until its output contains `says`; that output."""
        clock = LoopClock()
        deadline = clock.now() + within
        while True:
            result = await self.run(*args)
            if result.code == 0 and says in result.out:
                return result.out
            told = f"kubectl {' '.join(args)} does not say {says!r}: {result.out}{result.err}"
            assert clock.now() < deadline, told
            await clock.sleep(0.2)

    async def rows(self, *args: str) -> list[list[str]]:
        """The cells of a table, header first; columns are separated by three spaces or more."""
        text = await self(*args)
        return [
            [cell.strip() for cell in line.split("   ") if cell.strip()]
            for line in text.splitlines()
            if line.strip()
        ]
