"""Faults at random, from a seed, that always end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from kaito.testing.faults.actions import Action, Answer, LateAnswer, LoseAnswer, Refuse, Slow, Truncate
from kaito.testing.faults.calls import ApiCall, Match
from kaito.testing.faults.rules import Actions, Rule
from kaito.testing.faults.watches import CutWatch, DropWatch, WatchError

_WRITES: Final = Match(verb="create|update|patch|delete")
_READS: Final = Match(verb="get|list")
_WATCHES: Final = Match(verb="watch")
_ALL: Final = Match(verb="get|list|watch|create|update|patch|delete|deletecollection")

Menu = Sequence[tuple[Match, Action]]

DEFAULT_MENU: Final[Menu] = (
    (_ALL, Answer(429, retry_after=1)),
    (_ALL, Answer(500)),
    (_ALL, Answer(503, retry_after=1)),
    (_ALL, Refuse()),
    (_WRITES, LoseAnswer()),
    (_WRITES, LateAnswer(0.3)),
    (Match(verb="update|patch"), Answer(409)),
    (_READS, Truncate()),
    (_READS, LateAnswer(0.3)),
    (_READS, Slow(size=4096, pause=0.01)),
    (Match(verb="list"), Answer(410)),
    (_WATCHES, Answer(410)),
    (_WATCHES, DropWatch()),
    (_WATCHES, DropWatch(after_events=2)),
    (_WATCHES, CutWatch()),
    (_WATCHES, CutWatch(after_events=3)),
    (_WATCHES, WatchError(410, after_events=1)),
    (_WATCHES, WatchError(500, after_events=2)),
)
"""What a correct operator must live with, all of it within seconds. `HalfOpenWatch` is not among it: it takes a client
its whole patience to notice one, which only virtual time makes short."""


class Chaos(Rule):
    """Meets a request that fits `match` with probability `rate`, with something of `menu` that can happen to it.

    After `budget` faults it is spent: everything heals, and a right operator ends in the right state. The same `seed`
    gives the same draws for the same requests in the same order; in real time that order may differ from run to run.
    """

    def __init__(
        self,
        seed: int,
        *,
        budget: int = 50,
        rate: float = 0.25,
        match: Match = Match(),  # noqa: B008 # frozen
        menu: Menu = DEFAULT_MENU,
    ) -> None:
        super().__init__(match, [], times=budget, skip=0, at_least=1)
        self.seed = seed
        self._rate = rate
        self._menu = menu
        self._random = random.Random(seed)

    def _choose(self, call: ApiCall) -> Actions | None:
        possible = [action for match, action in self._menu if match.fits(call) and action.applies(call)]
        if not possible or self._random.random() >= self._rate:
            return None
        return [self._random.choice(possible)]

    def __str__(self) -> str:
        return f"chaos of seed {self.seed} for {self.match}: met {self.uses} requests, expected at least one"
