"""Several nodes that serve one model: who is who, and that all start anew when one of them does.

Every part runs a piece of the model and waits for the others at each token. When one ends, the rest can't go on, and
nothing tells them: they would wait for minutes. So each part tells the others on a port of its own who it is, and since
when the first part runs. A part that sees that it belongs to a start that is over ends, and its pod starts it again.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from kaito_presets.engines.vllm.arguments import Node

#: The port beside the meeting point on which parts ask one another.
ASK = 1
#: Seconds between two questions.
PERIOD = 2.0
#: Seconds without an answer after which a part that was there counts as gone.
GONE = 60.0
_FIRST = re.compile(r"^(?P<name>.+?)-0(?P<rest>\..+)?$")
_NUMBER = re.compile(r"-(\d+)$")


class BadPlace(ValueError):
    """It can't be found out which part of a model this is. str() is a sentence."""


def node_of(count: int, rendezvous: str | None, environment: Mapping[str, str], host: str) -> Node:
    """This machine's place: POD_INDEX, or the number at the end of the host's name. Raises BadPlace."""
    if count == 1:
        return Node()
    name, colon, port = (rendezvous or "").rpartition(":")
    if not colon or not name or not port.isdecimal():
        raise BadPlace(f"--rendezvous={rendezvous}: write HOST:PORT, where {count} nodes meet.")
    number = environment.get("POD_INDEX") or (found[1] if (found := _NUMBER.search(host)) else "")
    if not number.isdecimal():
        raise BadPlace(
            f"--nodes={count}: set POD_INDEX to this node's number, from 0 to {count - 1}; "
            f"the host's name {host} ends in none."
        )
    if int(number) >= count:
        raise BadPlace(f"--nodes={count}: this is node {number}, and they are counted from 0 to {count - 1}.")
    return Node(int(number), count, (name, int(port)))


def peers(node: Node) -> list[tuple[int, str]]:
    """(number, host) of the others that this part watches: the first watches all, the rest only the first.

    Raises BadPlace when the name of the meeting point is not that of a StatefulSet's first pod.
    """
    if node.meeting is None:
        return []
    host = node.meeting[0]
    if node.rank > 0:
        return [(0, host)]
    found = _FIRST.match(host)
    if found is None:
        raise BadPlace(f"--rendezvous={host}: the first node's name must end in -0 before its domain.")
    return [(i, f"{found['name']}-{i}{found['rest'] or ''}") for i in range(1, node.count)]


@dataclass(frozen=True, slots=True)
class Word:
    """What a part says of itself: `own` is new at each of its starts, `start` is the first part's `own` that it belongs
    to ("" while it has not heard it)."""

    own: str
    start: str


@dataclass(slots=True)
class Watch:
    """Decides whether this part still belongs to a model that works, from what others say and the time in seconds."""

    rank: int
    own: str
    start: str = ""
    _known: dict[int, str] = field(default_factory=dict)
    _heard: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rank == 0:
            self.start = self.own

    @property
    def word(self) -> Word:
        """What this part says of itself."""
        return Word(self.own, self.start)

    def heard(self, peer: int, word: Word | None, now: float) -> str:
        """Takes an answer (None: there was none). Returns why this part has to end, as a sentence; "" to go on."""
        if word is None:
            since = self._heard.get(peer)
            if since is not None and now - since > GONE:
                return (
                    f"Part {peer} of the model has not answered for {GONE:.0f} s: "
                    "this part starts again, to wait for it."
                )
            return ""
        if self.rank > 0:
            if self.start and word.own != self.start:
                return "The first part of the model was started again: this part starts again, to join it."
            self.start = word.own
            self._heard[peer] = now
        elif word.start == self.start:  # others still belong to an earlier start, and are about to end
            known = self._known.setdefault(peer, word.own)
            if word.own != known:
                return f"Part {peer} of the model was started again: all parts start again, to be one model."
            self._heard[peer] = now
        return ""


def host_name() -> str:
    """This machine's name: a pod's is that of the pod."""
    return socket.gethostname()
