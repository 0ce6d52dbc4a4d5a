"""Structured logs: fields, reconcile context, no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from kaito.runtime.logs import (
    ReconcileContext,
    configure_logging,
    current_reconcile,
    describe,
    get_logger,
    reconcile_id,
)
from kaito.runtime.resources import ObjectKey

log = get_logger("tests.logs")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_the_fields(stream: io.StringIO) -> None:
    configure_logging("json", stream=stream)
    log.info("claim created", claim="ws1", count=2, key=ObjectKey("n", "a"), nodes=["x"])
    log.debug("not shown")
    (line,) = lines(stream)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "tests.logs",
        "msg": "claim created",
        "claim": "ws1",
        "count": 2,
        "key": "n/a",
        "nodes": ["x"],
    }


def test_formatters_of_others_show_the_fields_too(
    stream: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    handler = logging.StreamHandler(stream)
    logging.getLogger().handlers[:] = [handler, caplog.handler]
    log.error("claim failed", error=ValueError("sent Bearer abcdefgh1234"), claim="a b", token="t")
    (record,) = caplog.records
    assert record.msg == "claim failed", "the constant, to look for"
    text = 'claim failed  claim="a b"  token=***  error="sent Bearer ***"'
    assert record.getMessage() == text
    assert stream.getvalue() == f"{text}\n"


def test_a_reconcile_names_itself(stream: io.StringIO) -> None:
    configure_logging("json", stream=stream)
    assert reconcile_id() == ""
    token = current_reconcile.set(ReconcileContext("workspace", ObjectKey("n", "a"), "1234"))
    try:
        assert reconcile_id() == "1234"
        log.info("inside")
        logging.getLogger("library").warning("also %s", "inside")
    finally:
        current_reconcile.reset(token)
    log.info("outside")
    inside, library, outside = lines(stream)
    expected = {"controller": "workspace", "namespace": "n", "name": "a", "reconcileID": "1234"}
    assert expected.items() <= inside.items()
    assert expected.items() <= library.items()
    assert library["msg"] == "also inside"
    assert "controller" not in outside


@pytest.mark.parametrize("format", ["json", "human"])
def test_secrets_are_not_written(stream: io.StringIO, format: Any) -> None:
    configure_logging(format, stream=stream)
    log.info(
        "request with Authorization: Bearer abcdefghijklmnop",
        token="hunter2hunter2",
        kubelet_token="hunter2hunter2",
        headers={"Authorization": "Basic aHVudGVyMjpodW50ZXIy"},
        imagePullSecret="my-registry",
    )
    try:
        raise ValueError("got Bearer abcdefghijklmnop back")
    except ValueError as error:
        log.panic("failed", error=error)
    text = stream.getvalue()
    assert "hunter2" not in text
    assert "abcdefghijklmnop" not in text
    assert "aHVudGVyMjpodW50ZXIy" not in text
    assert "my-registry" in text, "the name of a Secret is none"


def test_human_lines_are_for_people(stream: io.StringIO) -> None:
    configure_logging("human", level="debug", stream=stream)
    log.debug("node joined", node="n1", why="because it could")
    assert stream.getvalue().split(" ", 1)[1] == 'DEBUG   node joined  node=n1  why="because it could"\n'


def test_errors_carry_their_text_and_bugs_their_traceback(stream: io.StringIO) -> None:
    configure_logging("json", stream=stream)
    log.error("failed", error=TimeoutError())
    try:
        raise KeyError("spec")
    except KeyError as error:
        log.panic("bug", error=error)
    failed, bug = lines(stream)
    assert failed["error"] == "TimeoutError"
    assert "stacktrace" not in failed
    assert "KeyError: 'spec'" in bug["stacktrace"]


def test_groups_name_their_members() -> None:
    assert describe(ExceptionGroup("x", [ValueError("a"), OSError("b")])) == "a; b"
