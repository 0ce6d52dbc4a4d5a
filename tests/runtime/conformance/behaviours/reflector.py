"""The reflector: client-go's `tools/cache/reflector.go`, and kube-rs's and kopf's ways to keep watching."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("client-go reflector TestRunUntil", "Cancelling ends the run and closes the watch."),
    Behaviour(
        "client-go reflector TestReflectorStopWatch",
        "A run cancelled before its first turn asks for nothing.",
    ),
    Behaviour(
        "client-go reflector TestCloseWatchChannelOnError", "An ERROR event closes the stream it came in."
    ),
    Behaviour(
        "client-go reflector TestReflectorHandleWatchStopped",
        "Stopping before, while or after a watch is opened ends cleanly and closes each stream once.",
    ),
    Behaviour(
        "client-go reflector TestReflectorWatchHandler",
        "Events of another kind are skipped, others are applied, and the version is the last event's.",
    ),
    Behaviour(
        "client-go reflector TestReflectorListAndWatch",
        "LIST and WATCH ask with exactly the options of their mode, paged list or streaming list.",
    ),
    Behaviour(
        "client-go reflector TestReflectorListAndWatchWithErrors",
        "Whatever fails, LIST, WATCH or the stream, the store is right in the end.",
    ),
    Behaviour(
        "client-go reflector TestReflectorListAndWatchInitConnBackoff",
        "Refused connections are tried again with doubling waits up to a cap, jittered.",
    ),
    Behaviour(
        "client-go reflector TestNewReflectorWithCustomBackoff",
        "Base, factor and cap of the waits are options.",
    ),
    Behaviour(
        "client-go reflector TestBackoffOnTooManyRequests",
        "429 at the start of a watch and in its stream: a wait each, and the watch goes on at its version.",
    ),
    Behaviour(
        "client-go reflector TestRetryInternalError",
        "Errors 500 in a watch are answered at once for as long as the window is open, not at all without one.",
    ),
    Behaviour(
        "client-go reflector TestReflectorResync",
        "A failing resync ends the watch.",
        "A resync tells handlers of what is in the store: it has no request that could fail, and nothing of the "
        "reflector takes part in it.",
    ),
    Behaviour(
        "client-go reflector TestReflectorWatchListPageSize", "A given page size is used, all pages come."
    ),
    Behaviour(
        "client-go reflector TestReflectorNotPaginatingNotConsistentReads",
        "A list at a known version has no limit, so that a watch cache can answer it.",
    ),
    Behaviour(
        "client-go reflector TestReflectorPaginatingNonConsistentReadsIfWatchCacheDisabled",
        "Pages in answer to version 0 mean that there is no watch cache: later lists are paged too.",
    ),
    Behaviour(
        "client-go reflector TestReflectorResyncWithResourceVersion",
        "The first list asks for version 0, a later one for what was seen.",
    ),
    Behaviour(
        "client-go reflector TestReflectorFullListIfExpired",
        "A list at an expired version is repeated at once for the newest state.",
    ),
    Behaviour(
        "client-go reflector TestReflectorFullListIfTooLarge",
        "So is one at a version that the server has not reached, in all three dialects of saying so.",
    ),
    Behaviour(
        "client-go reflector TestWatchTimeout",
        "The server is asked to end a watch after 5 to 10 minutes; a larger minimum counts, a smaller one does not.",
    ),
    Behaviour(
        "client-go reflector TestReflectorResourceVersionUpdate", "The version follows events and bookmarks."
    ),
    Behaviour(
        "client-go reflector TestReflectorListExtract",
        "One object that is kept does not keep its page in memory.",
    ),
    Behaviour(
        "client-go reflector TestReflectorReplacesStoreOnUnsafeDelete",
        "An object that the server can no longer read ends the watch, and the new list removes it.",
    ),
    Behaviour("client-go reflector TestIsUnsupportedTableObject", "Tables are no objects and no lists."),
    Behaviour(
        "client-go reflector TestWatchList bookmark",
        "A streaming list is complete at the bookmark whose annotation says `true`, and not before.",
    ),
    Behaviour(
        "client-go reflector TestWatchList fallback",
        "Where streaming lists are refused, for whatever reason, LIST and WATCH take their place.",
    ),
    Behaviour(
        "client-go reflector TestWatchList updates and deletes",
        "Objects that change or go while the list streams are right at its end.",
    ),
    Behaviour(
        "client-go reflector TestWatchList stream life",
        "429 is waited out; a stream that ends early is begun anew, one that ends later goes on as a watch; an "
        "expired one is listed again.",
    ),
    Behaviour(
        "client-go reflector TestInitialEventsEndBookmarkTicker",
        "While the end of a streaming list is late a warning says so every 10 seconds, with the age of the last event.",
    ),
    Behaviour(
        "client-go reflector TestReflectorDataConsistencyDetector",
        "A streaming list holds what LIST answers at the same version.",
    ),
)
