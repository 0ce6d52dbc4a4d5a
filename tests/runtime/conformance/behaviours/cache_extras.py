"""What no reference system's tests assert, and a cache in one event loop over HTTP/1.1 needs all the same."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        "kaito bookmark-less server",
        "Where no bookmarks come a silent watch is given up 5 s after the time at which the server should end it.",
    ),
    Behaviour(
        "kaito half-open connection",
        "A peer that is gone without a word is noticed, and the watch goes on at its version.",
    ),
    Behaviour(
        "kaito bookmarks are remembered",
        "Once a server has sent a bookmark for a resource, 75 s of silence end every watch of it, "
        "after reconnects and for other informers too.",
    ),
    Behaviour(
        "kaito kernel watches connections",
        "Sockets probe idle peers, and limit how long data stays unacknowledged.",
    ),
    Behaviour(
        "kaito token rotated in mid-watch", "A watch goes on when the token it began with is replaced."
    ),
    Behaviour(
        "kaito events of any size", "Events and list items beyond 4 MiB are read; the cap is an option."
    ),
    Behaviour(
        "kaito loop stall",
        "While 50,000 objects are listed, swapped, told and freed, others get their turns.",
    ),
    Behaviour(
        "kaito frozen objects",
        "What is hidden from the collector is freed all the same, and cycles are found.",
    ),
    Behaviour("kaito no task left", "An informer that has stopped leaves no task and no connection behind."),
    Behaviour(
        "kaito virtual clock through the whole manager",
        "Managers, controllers and caches run in virtual time.",
    ),
)
