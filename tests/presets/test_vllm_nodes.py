"""Several nodes that serve one model: who is who, and that all parts start anew when one of them did."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket

import pytest

from kaito_presets.engines.vllm.arguments import Node
from kaito_presets.engines.vllm.nodes import GONE, BadPlace, Watch, Word, node_of, peers
from kaito_presets.engines.vllm.part import ask, belong, listening, respond

MEETING = "ws-0.ws-headless.default.svc.cluster.local:29500"


def test_the_number_comes_from_the_pods_index_else_from_its_name() -> None:
    assert node_of(1, None, {}, "any") == Node()
    host, port = "ws-0.ws-headless.default.svc.cluster.local", 29500
    assert node_of(3, MEETING, {"POD_INDEX": "2"}, "ws-1") == Node(2, 3, (host, port))
    assert node_of(3, MEETING, {}, "ws-1") == Node(1, 3, (host, port))


@pytest.mark.parametrize(
    ("meeting", "host", "sentence"),
    [
        (None, "ws-0", "write HOST:PORT, where 3 nodes meet"),
        ("ws-0", "ws-0", "write HOST:PORT"),
        ("ws-0:http", "ws-0", "write HOST:PORT"),
        (
            MEETING,
            "laptop",
            "set POD_INDEX to this node's number, from 0 to 2; the host's name laptop ends in none",
        ),
        (MEETING, "ws-3", "this is node 3, and they are counted from 0 to 2"),
    ],
)
def test_a_place_that_cannot_be_found_out_is_told(meeting: str | None, host: str, sentence: str) -> None:
    with pytest.raises(BadPlace, match=sentence):
        node_of(3, meeting, {}, host)


def test_the_first_watches_all_and_they_watch_the_first() -> None:
    assert peers(Node()) == []
    first = ("ws-0.ws-headless.default.svc.cluster.local", 29500)
    assert peers(Node(0, 3, first)) == [
        (1, "ws-1.ws-headless.default.svc.cluster.local"),
        (2, "ws-2.ws-headless.default.svc.cluster.local"),
    ]
    assert peers(Node(2, 3, first)) == [(0, "ws-0.ws-headless.default.svc.cluster.local")]
    assert peers(Node(0, 2, ("my-0-ws-0", 1))) == [(1, "my-0-ws-1")]
    with pytest.raises(BadPlace, match="must end in -0"):
        peers(Node(0, 2, ("10.0.0.1", 29500)))


def test_a_part_joins_the_first_and_leaves_when_that_was_started_again() -> None:
    part = Watch(1, "b1")
    assert part.heard(0, None, 0) == ""  # the first is not there yet: that may take any time
    assert part.heard(0, None, 10_000) == ""
    assert part.heard(0, Word("a1", "a1"), 10_001) == ""
    assert part.word == Word("b1", "a1")
    assert part.heard(0, None, 10_002) == ""
    assert part.heard(0, Word("a1", "a1"), 10_003) == ""
    assert "was started again" in part.heard(0, Word("a2", "a2"), 10_004)


def test_a_part_that_is_gone_is_not_waited_for_for_ever() -> None:
    for rank, word in ((0, Word("b1", "a1")), (1, Word("a1", "a1"))):
        watch = Watch(rank, "a1" if rank == 0 else "b1")
        assert watch.heard(1 - rank, word, 100) == ""
        assert watch.heard(1 - rank, None, 100 + GONE) == ""
        assert "has not answered for 60 s" in watch.heard(1 - rank, None, 101 + GONE)


def test_the_first_leaves_when_a_part_that_had_joined_was_started_again() -> None:
    first = Watch(0, "a1")
    assert first.heard(1, Word("b1", "a0"), 0) == ""  # still of an earlier start
    assert first.heard(1, Word("b2", ""), 1) == ""
    assert first.heard(1, Word("b2", "a1"), 2) == ""
    assert first.heard(1, Word("b3", ""), 3) == ""  # it has not joined yet
    assert "Part 1 of the model was started again" in first.heard(1, Word("b3", "a1"), 4)


@pytest.mark.parametrize("seed", range(30))
def test_after_any_failures_all_parts_come_to_rest_in_one_start(seed: int) -> None:
    """Parts fail at random times and ask in random order; once none fails any more, none starts again for ever."""
    choose = random.Random(seed)
    names = itertools.count()
    parts = [Watch(rank, f"start-{next(names)}") for rank in range(4)]

    def again(rank: int) -> None:
        parts[rank] = Watch(rank, f"start-{next(names)}")

    def one_asks(now: float) -> bool:
        rank = choose.randrange(4)
        for peer in range(1, 4) if rank == 0 else [0]:
            if parts[rank].heard(peer, parts[peer].word, now):
                again(rank)
                return True
        return False

    for now in range(200):
        if choose.random() < 0.1:
            again(choose.randrange(4))
        one_asks(now)
    restarts = [one_asks(now) for now in range(200, 600)]
    assert not any(restarts[200:])
    assert {part.start for part in parts} == {parts[0].own}


def test_probes_are_answered_by_what_belongs_to_a_model() -> None:
    part = Watch(1, "b1")
    assert respond(part, ("GET", "/healthz"), True)[0].startswith("503")
    part.heard(0, Word("a1", "a1"), 0)
    assert respond(part, ("GET", "/healthz"), True) == ("200 OK", {"status": "Healthy"})
    assert respond(part, ("GET", "/health?x=1"), False)[0].startswith("503")
    assert respond(part, ("GET", "/part"), False) == ("200 OK", {"own": "b1", "start": "a1"})
    assert respond(part, ("POST", "/chat"), True)[0].startswith("404")
    assert respond(part, ("",), True)[0].startswith("404")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.mark.asyncio
async def test_two_parts_find_one_another_and_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaito_presets.engines.vllm.part.PERIOD", 0.01)
    asks, probe = (free_port(), free_port()), free_port()
    addresses = [f"http://127.0.0.1:{port}" for port in asks]
    first, part = Watch(0, "a1"), Watch(1, "b1")
    leader = asyncio.create_task(belong(first, [(1, addresses[1])], "127.0.0.1", asks[0], None, lambda: True))
    worker = asyncio.create_task(belong(part, [(0, addresses[0])], "127.0.0.1", asks[1], probe, lambda: True))
    while part.start != "a1":  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", probe)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    await writer.wait_closed()
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    async with listening(Watch(0, "a2"), "127.0.0.1", asks[0], lambda: True):  # the first was started again
        assert await asyncio.to_thread(ask, addresses[0]) == Word("a2", "a2")
        assert "was started again" in await worker
    assert await asyncio.to_thread(ask, addresses[0]) is None
