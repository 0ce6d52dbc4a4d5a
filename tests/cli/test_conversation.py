"""`kaito chat`: what is sent of a conversation, and what is said when a server cannot answer it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from kaito.api.resources import WORKSPACES
from kaito.cli.chat import converse
from kaito.cli.errors import CliError
from kaito.cli.inference import InferenceService, find_service
from kaito.cli.terminal import LineReader
from kaito.runtime.client import Client
from kaito.runtime.clock import LoopClock
from kaito.runtime.transport import Request, Response


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    async def read(self) -> bytes:
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body

    async def close(self) -> None:
        return


class Server:
    """An inference server that takes at most `room` messages; remembers what it was sent."""

    def __init__(self, *, room: int = 100, models: bytes | None = None, **facts: object) -> None:
        self.room = room
        self.models = models or orjson.dumps({"data": [{"id": "m", **facts}]})
        self.asked: list[list[str]] = []

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        del timeout, stream
        if request.path.endswith("/v1/models"):
            return Answer(200, self.models)
        messages = [each["content"] for each in orjson.loads(request.body or b"")["messages"]]
        self.asked.append(messages)
        if len(messages) > self.room:
            return Answer(400, b'{"error": {"message": "too long"}}')
        piece = orjson.dumps({"choices": [{"delta": {"content": f"re {messages[-1]}"}}]})
        return Answer(200, b"data: " + piece + b"\n\ndata: [DONE]\n\n")

    async def close(self) -> None:
        return

    def service(self) -> InferenceService:
        return InferenceService(self, "default", "ws", "test")


@pytest.fixture
def lines() -> Iterator[LineReader]:
    read, write = os.pipe()
    os.write(write, b"one\ntwo\n\nthree\n")
    os.close(write)
    yield LineReader(read)
    os.close(read)


async def test_earlier_turns_are_sent_along(lines: LineReader, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server()
    await converse(server.service(), lines, prompt_text="")
    assert server.asked[-1] == ["one", "re one", "two", "re two", "three"]
    assert capsys.readouterr().out == "re one\nre two\nre three\n\n"


async def test_a_conversation_that_no_longer_fits_goes_on_without_its_past(
    lines: LineReader, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(room=3)
    await converse(server.service(), lines, prompt_text="")
    assert server.asked[2:] == [["one", "re one", "two", "re two", "three"], ["three"]]
    told = capsys.readouterr().out
    assert "too long" in told
    assert "without what was said before" in told
    assert "re three" in told


async def test_stand_in_weights_get_each_question_by_itself(lines: LineReader) -> None:
    server = Server(stand_in_weights="tiny-phi-3")
    await converse(server.service(), lines, prompt_text="")
    assert server.asked == [["one"], ["two"], ["three"]]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": []}', b"[1]", b'{"data": [{}]}'])
async def test_a_server_without_the_openai_api_is_named_as_such(body: bytes) -> None:
    with pytest.raises(CliError, match="does not speak the OpenAI API"):
        await Server(models=body).service().model()


class Workspaces:
    """An API server that holds one Workspace with this status; its server answers with `models`."""

    def __init__(self, status: dict[str, Any], models: Answer) -> None:
        self.models = models
        self.body = orjson.dumps({"metadata": {"name": "ws", "namespace": "default"}, "status": status})

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        del timeout, stream
        if request.path.endswith("/proxy/v1/models"):
            return self.models
        assert request.path == WORKSPACES.path("default", "ws")
        return Answer(200, self.body)

    async def close(self) -> None:
        return


async def test_a_workspace_that_cannot_serve_says_why() -> None:
    condition = {
        "type": "WorkspaceReady",
        "status": "False",
        "reason": "TuningNotImplemented",
        "message": "x",
    }
    transport = Workspaces({"conditions": [condition]}, Answer(503, b"no endpoints"))
    client = Client(transport, clock=LoopClock(), user_agent="test")
    with pytest.raises(CliError, match="TuningNotImplemented: x"):
        await find_service(client, transport, "ws", "default", "test")


async def test_a_workspace_that_is_served_as_before_answers_with_a_note() -> None:
    condition = {"type": "InferenceReady", "status": "False", "reason": "AdapterNotFound", "message": "x"}
    transport = Workspaces({"conditions": [condition]}, Answer(200, b'{"data": [{"id": "m"}]}'))
    client = Client(transport, clock=LoopClock(), user_agent="test")
    service = await find_service(client, transport, "ws", "default", "test")
    assert "AdapterNotFound: x" in service.note
    assert await service.model() == "m"
