"""Start-up checks of custom resources, in virtual time: missing, older, newer, gone and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kaito.runtime.definitions import RETRY, DefinitionsCheck, Wanted, definition_rights, missing_fields
from kaito.runtime.resources import CRDS, Resource
from kaito.runtime.rest import RequestRecord
from kaito.runtime.testing import VirtualClock
from kaito.testing.faults import Answer, Match
from kaito.testing.memory_api import MemoryApi
from support.cluster import definition

GADGETS = Resource("check.example.com", "v1", "gadgets", "Gadget")
NAME = "gadgets.check.example.com"


def spec_schema(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}


TEXT = {"type": "string"}
WANTED = Wanted(GADGETS, "run `install gadgets`", lambda: spec_schema(size=TEXT, colour=TEXT))


def crd(**fields: Any) -> dict[str, Any]:
    return definition(GADGETS.group, **fields)


@asynccontextmanager
async def running(check: DefinitionsCheck) -> AsyncIterator[asyncio.Task[None]]:
    """The check, and what waits for it."""
    task = asyncio.create_task(check.run())
    waits = asyncio.create_task(check.wait_ready())
    try:
        yield waits
    finally:
        for each in (task, waits):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each


async def test_what_is_missing_is_waited_for(memory_api: MemoryApi, virtual_clock: VirtualClock) -> None:
    check = DefinitionsCheck(memory_api.client("operator"), virtual_clock, [WANTED])
    with pytest.raises(RuntimeError, match="not been asked"):
        check.check()
    async with running(check) as waits:
        await virtual_clock.sleep(1)
        with pytest.raises(RuntimeError, match=f"{NAME} is missing: run `install gadgets`"):
            check.check()
        await virtual_clock.sleep(3600)
        assert not waits.done()
        await memory_api.load(crd(size=TEXT, colour=TEXT))
        await virtual_clock.sleep(RETRY)
        assert waits.done()
        check.check()


async def test_definitions_older_than_the_program_are_named_field_by_field(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(crd(size=TEXT))
    check = DefinitionsCheck(memory_api.client("operator"), virtual_clock, [WANTED])
    async with running(check) as waits:
        await virtual_clock.sleep(1)
        assert waits.done(), "work goes on with what there is"
        with pytest.raises(RuntimeError, match=r"older than this program.* \.spec\.colour is lost"):
            check.check()
        await memory_api.load(crd(size=TEXT, colour=TEXT, weight=TEXT))
        await virtual_clock.sleep(RETRY)
        check.check()


async def test_a_newer_definition_is_fine_and_a_version_that_is_not_served_is_named(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(definition(GADGETS.group, versions=("v2",)))
    check = DefinitionsCheck(memory_api.client("operator"), virtual_clock, [WANTED])
    async with running(check) as waits:
        await virtual_clock.sleep(1)
        assert not waits.done()
        with pytest.raises(RuntimeError, match="serves v2, not v1: run `install gadgets`"):
            check.check()
        await memory_api.load(definition(GADGETS.group, versions=("v2", "v1"), size=TEXT, colour=TEXT))
        await virtual_clock.sleep(RETRY)
        check.check()


async def test_nothing_is_asked_while_nothing_hints_at_a_fault(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(crd(size=TEXT, colour=TEXT))
    asked: list[RequestRecord] = []
    client = memory_api.client("operator")
    client.observer = asked.append
    check = DefinitionsCheck(client, virtual_clock, [WANTED])
    async with running(check):
        await virtual_clock.sleep(86400)
        assert len(asked) == 1
        await memory_api.direct_client().delete(CRDS, NAME)
        for code, path in (("404", "/api/v1/pods/x"), ("200", GADGETS.path())):
            check.observe(RequestRecord("GET", path, code, "operator", 0.0))
        await virtual_clock.sleep(60)
        assert len(asked) == 1
        check.observe(RequestRecord("GET", GADGETS.path(), "404", "operator", 0.0))
        await virtual_clock.sleep(0)
        with pytest.raises(RuntimeError, match="is missing"):
            check.check()
        await memory_api.load(crd(size=TEXT, colour=TEXT))
        await virtual_clock.sleep(RETRY)
        check.check()


async def test_hints_in_a_row_lead_to_one_look_at_a_time(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(crd(size=TEXT, colour=TEXT))
    asked: list[RequestRecord] = []
    client = memory_api.client("operator")
    client.observer = asked.append
    check = DefinitionsCheck(client, virtual_clock, [WANTED])
    async with running(check):
        for _ in range(100):
            check.suspect()
            await virtual_clock.sleep(0.1)
        assert len(asked) <= 1 + 10 / RETRY


async def test_a_server_that_is_away_or_does_not_let_us_look(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(crd(size=TEXT))
    definitions = Match(verb="get", resource=CRDS.plural)
    memory_api.faults.script(definitions, Answer(503), Answer(500), Answer(403))
    check = DefinitionsCheck(memory_api.client("operator"), virtual_clock, [WANTED])
    async with running(check) as waits:
        await virtual_clock.sleep(1)
        with pytest.raises(RuntimeError, match="the API server does not answer"):
            check.check()
        await virtual_clock.sleep(2 * RETRY)
        assert waits.done(), "without the right to look, being served is enough"
        check.check()


async def test_without_the_right_to_look_absence_is_seen_all_the_same(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    memory_api.faults.add(Match(verb="get", resource=CRDS.plural), Answer(403), times=None)
    check = DefinitionsCheck(memory_api.client("operator"), virtual_clock, [WANTED])
    async with running(check) as waits:
        await virtual_clock.sleep(1)
        with pytest.raises(RuntimeError, match=f"{NAME} is not served as check.example.com/v1"):
            check.check()
        await memory_api.load(crd(size=TEXT))
        await virtual_clock.sleep(RETRY)
        assert waits.done()


def test_which_fields_a_schema_would_drop() -> None:
    wanted = {
        "properties": {
            "kept": {"properties": {"any": TEXT}},
            "list": {"items": {"properties": {"a": TEXT, "b": TEXT}}},
            "map": {"additionalProperties": {"properties": {"c": TEXT}}},
            "gone": TEXT,
        }
    }
    served = {
        "properties": {
            "kept": {"x-kubernetes-preserve-unknown-fields": True},
            "list": {"items": {"properties": {"a": TEXT}}},
            "map": {"additionalProperties": {"properties": {}}},
            "other": TEXT,
        }
    }
    assert list(missing_fields(wanted, served)) == [".list[].b", ".map{}.c", ".gone"]
    assert list(missing_fields(wanted, wanted)) == []


def test_the_right_to_look_is_limited_to_names() -> None:
    (right,) = definition_rights([GADGETS])
    assert (right.verbs, right.names) == (("get",), (NAME,))
    assert definition_rights([]) == ()


async def test_nothing_starts_while_a_field_is_missing_without_which_an_object_means_something_else(
    memory_api: MemoryApi, virtual_clock: VirtualClock
) -> None:
    await memory_api.load(crd(size=TEXT))
    strict = Wanted(GADGETS, WANTED.remedy, WANTED.schema, strict=True)
    check = DefinitionsCheck(memory_api.client("operator"), virtual_clock, [strict])
    async with running(check) as waits:
        await virtual_clock.sleep(60)
        assert not waits.done()
        with pytest.raises(RuntimeError, match=r"\.spec\.colour is lost: run `install gadgets`"):
            check.check()
        await memory_api.load(crd(size=TEXT, colour=TEXT))
        await virtual_clock.sleep(RETRY)
        assert waits.done()
