"""Which request meets which fault, and what was injected.

`Faults` holds rules in the order in which they were added. A request meets the first rule that fits it and is not used
up, and no other. All of it may be called from any thread: the server side of a test often runs in one of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from kaito.runtime.clock import Clock
from kaito.runtime.transport import Response
from kaito.testing.faults.actions import Action, Forward, Pass, Refuse
from kaito.testing.faults.calls import ApiCall, Match
from kaito.testing.faults.tracking import OpenStreams

Actions = Sequence[Action]


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault that happened: to which request, when (`at`, seconds of the faults' clock), and what it was."""

    at: float
    call: ApiCall
    actions: tuple[Action, ...]

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.actions))} for {self.call}"


class Rule:
    """What is to happen to the requests that fit `match`: made by `Faults`, kept to be looked at and removed.

    `steps` are the actions for the first such request, the second, and so on. With `times` None the last step goes on
    for as long as the rule stands.
    """

    def __init__(
        self, match: Match, steps: Sequence[Actions], *, times: int | None, skip: int, at_least: int
    ) -> None:
        self.match = match
        self.at_least = at_least
        self._steps = steps
        self._times = times
        self._skip = skip
        self._uses = 0
        self._standing = True

    @property
    def uses(self) -> int:
        """Requests that this rule has met."""
        return self._uses

    @property
    def spent(self) -> bool:
        """Whether it will do nothing any more: used up, or removed."""
        return not self._standing or (self._times is not None and self._uses >= self._times)

    def remove(self) -> None:
        """Heal: later requests are not met by this rule. Streams that it already broke stay as they are."""
        self._standing = False

    def take(self, call: ApiCall) -> Actions | None:
        """The actions for this request, which is then counted; None when the rule is not about it."""
        if self.spent or not self.match.fits(call):
            return None
        actions = self._choose(call)
        if actions is None or not all(action.applies(call) for action in actions):
            return None
        if self._skip > 0:
            self._skip -= 1
            return None
        self._uses += 1
        return actions

    def _choose(self, call: ApiCall) -> Actions | None:
        return self._steps[min(self._uses, len(self._steps) - 1)]

    def __str__(self) -> str:
        faults = "; ".join(", ".join(map(str, actions)) for actions in self._steps)
        return f"{faults} for {self.match}: met {self._uses} requests, expected at least {self.at_least}"


class Faults:
    """The rules of one test, and the record of what they did.

    Give it to a `FaultyTransport` (in memory, virtual time) or a `FaultProxy` (over sockets), or take it from the
    fixture `kube_api` or `memory_api`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._injected: list[Injected] = []
        self._streams = OpenStreams()

    @property
    def injected(self) -> tuple[Injected, ...]:
        """What has happened so far, in order. A `Pass` is no fault and does not show."""
        with self._lock:
            return tuple(self._injected)

    def add(
        self,
        match: Match,
        *actions: Action,
        times: int | None = 1,
        skip: int = 0,
        at_least: int | None = None,
    ) -> Rule:
        """Let `actions` happen, together, to requests that fit `match`.

        `times`: to how many of them; None: to all, until the rule is removed. `skip`: so many pass first. `at_least`:
        how many must have been met when the test ends (default: all `times`, or one); 0 allows a rule nobody met.
        """
        if not actions:
            raise ValueError("a rule without actions does nothing; name at least one, e.g. Answer(503)")
        least = (1 if times is None else times) if at_least is None else at_least
        return self.stand(Rule(match, [actions], times=times, skip=skip, at_least=least))

    def script(self, match: Match, *steps: Action) -> Rule:
        """Let the first request that fits meet the first step, the second the second, …, all later ones none.

        `Pass()` is a request that goes well. The test fails when not all steps were met.
        """
        if not steps:
            raise ValueError("a script without steps does nothing; name at least one, e.g. Answer(429)")
        taken = [(step,) for step in steps]
        return self.stand(Rule(match, taken, times=len(taken), skip=0, at_least=len(taken)))

    def partition(self, match: Match) -> Rule:
        """Cut the clients that `match` tells off: open answers break, connections are refused, until removed.

        Raises:
            ValueError: `match` fits everybody; name a user agent, or restart the API server instead.
        """
        if match == Match():
            raise ValueError('name who is cut off, e.g. Match(user_agent="contender-a*")')
        rule = self.add(match, Refuse(), times=None, at_least=0)
        self.cut(match)
        return rule

    def cut(self, match: Match = Match()) -> int:  # noqa: B008 # frozen
        """Break the connections of all answers that are being streamed to fitting requests; returns how many."""
        return self._streams.cut(match.fits)

    def stand(self, rule: Rule) -> Rule:
        """Add a rule made elsewhere, behind all others."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Remove all rules."""
        for rule in self._rules:
            rule.remove()

    def assert_all_used(self) -> None:
        """Raise AssertionError for rules that met fewer requests than they should have: such a test tests nothing."""
        unused = [str(rule) for rule in self._rules if rule.uses < rule.at_least]
        assert not unused, "faults that were not injected:\n" + "\n".join(f"  {line}" for line in unused)

    def take(self, call: ApiCall) -> tuple[Action, ...]:
        """The actions for a request; () when nothing is to happen. Counts and records."""
        with self._lock:
            for rule in self._rules:
                actions = rule.take(call)
                if actions is not None:
                    break
            else:
                return ()
            faults = tuple(action for action in actions if not isinstance(action, Pass))
            if faults:
                self._injected.append(Injected(self._clock.now(), call, faults))
            return faults

    async def respond(self, call: ApiCall, actions: Actions, forward: Forward) -> Response:
        """The answer to a request under the actions that `take` gave for it."""
        for action in reversed(actions):
            forward = _bound(action, call, forward, self._clock)
        return self._streams.track(call, await forward())


def _bound(action: Action, call: ApiCall, forward: Forward, clock: Clock) -> Forward:
    return lambda: action.respond(call, forward, clock)
