"""Whether the cluster has the custom resources that this program works with, in a form that it can work with.

What a CustomResourceDefinition does not name is dropped by the API server without an error: with definitions older than
the program, statuses lose fields. So the served schemas are compared with those that the program was made with: at the
start, while something is missing, and again when the server warned of a field that it does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, Forbidden, NotFound, TransportError
from kaito.runtime.groups import Group
from kaito.runtime.logs import get_logger
from kaito.runtime.resources import CRDS, Resource
from kaito.runtime.rest import RequestRecord
from kaito.runtime.rights import Right

RETRY: Final = 5.0
"""Seconds between two looks while something is missing."""
_SHOWN: Final = 8
"""Fields of one definition that are named in a sentence."""
_PRESERVED: Final = "x-kubernetes-preserve-unknown-fields"

Schema = Mapping[str, Any]
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A custom resource that the program works with."""

    resource: Resource
    remedy: str
    """How it gets into a cluster, or up to date: a command."""
    schema: Callable[[], Schema] | None = None
    """Makes its openAPIV3Schema as the program knows it, when it is compared; it is not kept, because it is large.
    None: that it is served is enough."""
    strict: bool = False
    """Whether nothing starts before the schema has every field: where half of an object does something else."""


def definition_rights(resources: Iterable[Resource]) -> tuple[Right, ...]:
    """What it takes to look at the definitions of some resources."""
    names = tuple(each.name for each in resources)
    why = "At the start the definitions are compared with those that this version was made with."
    return (Right.of(CRDS, "get", why=why, names=names),) if names else ()


class DefinitionsCheck:
    """A runnable, and a check for /readyz. Whatever waits for its readiness starts when all is served."""

    name = "crds"
    group = Group.SERVERS

    def __init__(
        self,
        client: Client,
        clock: Clock,
        wanted: Sequence[Wanted],
        on_recovery: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_recovery` is called when what was wrong is right: what was written meanwhile may lack fields."""
        self._client = client
        self._clock = clock
        self._wanted = wanted
        self._on_recovery = on_recovery
        self._collections = frozenset(each.resource.path() for each in wanted)
        self._suspected = asyncio.Event()
        self._served = asyncio.Event()
        self.problems: dict[str, str] = {"API server": "has not been asked yet"}
        """By definition: what is wrong with it, and what to do. Empty: all is well."""

    def check(self) -> None:
        """Raises RuntimeError, which names what is missing."""
        if self.problems:
            raise RuntimeError("; ".join(self.problems.values()))

    def suspect(self) -> None:
        """Something hints at a definition that is not as it was: look again."""
        self._suspected.set()

    def observe(self, record: RequestRecord) -> None:
        """For a client's observer: a collection that is not there is worth a look."""
        if record.code == "404" and record.path in self._collections:
            self._suspected.set()

    async def wait_ready(self) -> None:
        """Returns once every wanted resource was served."""
        await self._served.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._suspected.clear()
            try:
                absent, outdated = await self._look()
            except (ApiError, TransportError) as error:
                self._tell({"API server": f"the API server does not answer: {error}"})
            else:
                self._tell({**absent, **outdated})
                if not absent:
                    self._served.set()
            await self._clock.sleep(RETRY)
            if not self.problems:
                await self._suspected.wait()

    async def _look(self) -> tuple[dict[str, str], dict[str, str]]:
        """What is not served as it must be, and what is served but lacks fields."""
        absent: dict[str, str] = {}
        outdated: dict[str, str] = {}
        for wanted in self._wanted:
            name = wanted.resource.name
            try:
                definition = await self._client.get(CRDS, name)
            except NotFound:
                absent[name] = f"the CustomResourceDefinition {name} is missing: {wanted.remedy}"
                continue
            except Forbidden:
                if not await self._discovered(wanted.resource):
                    absent[name] = f"{name} is not served as {wanted.resource.api_version}: {wanted.remedy}"
                continue
            served = _served_versions(definition)
            schema = served.get(wanted.resource.version)
            if schema is None:
                has = ", ".join(served) or "no version"
                absent[name] = (
                    f"the CustomResourceDefinition {name} serves {has}, not {wanted.resource.version}: {wanted.remedy}"
                )
            elif wanted.schema and (lacking := list(missing_fields(wanted.schema(), schema))):
                (absent if wanted.strict else outdated)[name] = (
                    f"the CustomResourceDefinition {name} is older than this program, so what is written to "
                    f"{_some(lacking)} is lost: {wanted.remedy}"
                )
        return absent, outdated

    async def _discovered(self, resource: Resource) -> bool:
        """Whether it is served, for those who may not read definitions."""
        try:
            answer = await self._client.json("GET", resource.group_path)
        except NotFound:
            return False
        return any(each.get("name") == resource.plural for each in answer.get("resources") or ())

    def _tell(self, problems: dict[str, str]) -> None:
        for name, problem in problems.items():
            if self.problems.get(name) != problem:
                log.error("a start-up check fails", check=self.name, reason=problem)
        if self.problems and not problems:
            log.info("the custom resources are there", names=[each.resource.name for each in self._wanted])
        recovered = bool(self.problems) and not problems
        self.problems = problems
        if recovered:
            self._on_recovery()


def missing_fields(wanted: Schema, served: Schema, path: str = "") -> Iterator[str]:
    """Paths of fields that the served schema would drop: `.status.endpoint`, `.status.nodes[].slot`."""
    there = served.get("properties") or {}
    for name, schema in (wanted.get("properties") or {}).items():
        if name in there:
            yield from missing_fields(schema, there[name], f"{path}.{name}")
        elif not (served.get(_PRESERVED) or served.get("additionalProperties")):
            yield f"{path}.{name}"
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        inner, other = wanted.get(key), served.get(key)
        if isinstance(inner, Mapping) and isinstance(other, Mapping):
            yield from missing_fields(inner, other, f"{path}{mark}")


def _served_versions(definition: Schema) -> dict[str, Schema]:
    """Schemas of the versions that are served now; none before the definition is established."""
    conditions = (definition.get("status") or {}).get("conditions") or ()
    if not any(each.get("type") == "Established" and each.get("status") == "True" for each in conditions):
        return {}
    return {
        each["name"]: (each.get("schema") or {}).get("openAPIV3Schema") or {}
        for each in (definition.get("spec") or {}).get("versions") or ()
        if each.get("served")
    }


def _some(fields: Sequence[str]) -> str:
    more = f" and {len(fields) - _SHOWN} more fields" if len(fields) > _SHOWN else ""
    return ", ".join(fields[:_SHOWN]) + more
