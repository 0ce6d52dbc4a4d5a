"""Event recorders: client-go's `tools/record` and `tools/events`."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

_CORE = "client-go record "
_SERIES = "client-go events "
_NO_SERIES = (
    "The recorder writes core/v1 events, whose count says how often something happened; series of "
    "events.k8s.io/v1 are another way to say the same, and kubectl shows both alike."
)

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        _CORE + "TestEventSpamFilter: burst",
        "Events of one object pass up to a burst, and then one at a time as the bucket fills.",
    ),
    Behaviour(
        _CORE + "TestEventSpamFilter: custom key", "What the spam filter counts together can be chosen."
    ),
    Behaviour(_CORE + "TestWriteEventError: refused", "An event that the server refuses is tried once."),
    Behaviour(
        _CORE + "TestWriteEventError: cannot be sent", "An event that cannot be encoded is tried once."
    ),
    Behaviour(
        _CORE + "TestWriteEventError: unreachable", "Without an answer an event is tried twelve times."
    ),
    Behaviour(_CORE + "TestWriteEventError: success ends it", "The first success ends the tries."),
    Behaviour(
        _CORE + "TestUpdateExpiredEvent", "A repeated event that is gone from the server is made anew."
    ),
    Behaviour(_CORE + "TestCancelEvent", "The end of the recorder interrupts the wait for the next try."),
    Behaviour(
        _CORE + "TestLotsOfEvents", "Of a thousand events that fail four times each, every one is written."
    ),
    Behaviour(_CORE + "TestMultiSinkCache", "Two recorders count for themselves; neither loses events."),
    Behaviour(_CORE + "TestBroadcasterShutdown", "After the end no task is left and events go nowhere."),
    Behaviour(_CORE + "TestNonRacyShutdown", "Events recorded before the end are written, once each."),
    Behaviour(
        _CORE + "TestEventfNoNamespace",
        "Events of objects without a namespace live in the one named default.",
    ),
    Behaviour(
        _CORE + "TestGenerateEventName",
        "Names are the object's and the time, or random where that would be no valid name.",
    ),
    Behaviour(_SERIES + "TestEventSeriesf", "A second like event makes a series.", _NO_SERIES),
    Behaviour(_SERIES + "TestFinishSeries", "A series that has been quiet is finished.", _NO_SERIES),
    Behaviour(_SERIES + "TestRefreshExistingEventSeries", "A running series is refreshed.", _NO_SERIES),
    Behaviour(_SERIES + "TestRecordEventToSink", "A series is created, patched or made anew.", _NO_SERIES),
)
