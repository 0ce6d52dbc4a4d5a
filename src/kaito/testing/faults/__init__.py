"""Faults for programs that use a Kubernetes API: one language of rules, two ways to bring them about.

    faults.script(Match(verb="list", resource="widgets"), Answer(429, retry_after=1), Answer(503))
    faults.add(Match(verb="watch", user_agent="my-operator/*"), CutWatch(after_events=3))
    faults.add(Match(verb="create", resource="configmaps"), LoseAnswer())
    chaos = faults.stand(Chaos(seed=7, budget=40))

In memory and virtual time they sit in a `FaultyTransport`; over sockets in a `FaultProxy`, which any program in any
language can be pointed at by its kubeconfig. `faults.injected` tells what happened.
"""

from kaito.testing.faults.actions import (
    Action,
    Answer,
    ChangedResponse,
    Delay,
    Forward,
    LateAnswer,
    LoseAnswer,
    NoAnswer,
    Pass,
    Refuse,
    Slow,
    Truncate,
)
from kaito.testing.faults.calls import ApiCall, Match
from kaito.testing.faults.chaos import DEFAULT_MENU, Chaos
from kaito.testing.faults.proxy import FaultProxy
from kaito.testing.faults.rules import Faults, Injected, Rule
from kaito.testing.faults.transport import FaultyTransport
from kaito.testing.faults.watches import (
    CutWatch,
    DelayEvents,
    DropWatch,
    HalfOpenWatch,
    HoldEvents,
    NoBookmarks,
    WatchAction,
    WatchError,
)

__all__ = [
    "DEFAULT_MENU",
    "Action",
    "Answer",
    "ApiCall",
    "ChangedResponse",
    "Chaos",
    "CutWatch",
    "Delay",
    "DelayEvents",
    "DropWatch",
    "FaultProxy",
    "Faults",
    "FaultyTransport",
    "Forward",
    "HalfOpenWatch",
    "HoldEvents",
    "Injected",
    "LateAnswer",
    "LoseAnswer",
    "Match",
    "NoAnswer",
    "NoBookmarks",
    "Pass",
    "Refuse",
    "Rule",
    "Slow",
    "Truncate",
    "WatchAction",
    "WatchError",
]
