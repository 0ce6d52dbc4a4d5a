"""The manager: controller-runtime's `pkg/manager`, and its endpoints."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

_M = "controller-runtime manager "

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        _M + "should start caches first", "Nothing but servers and webhooks starts before caches have synced."
    ),
    Behaviour(_M + "should return an error if any Components fail to Start", "The first error ends it."),
    Behaviour(_M + "should wait for runnables to stop", "It returns when what it started has ended."),
    Behaviour(
        _M + "should return an error if runnables do not stop in time",
        "What outlives the grace period is named in an error.",
    ),
    Behaviour(_M + "should not wait with a graceful timeout of 0", "A grace of 0 waits for nothing."),
    Behaviour(_M + "should wait forever with a negative graceful timeout", "A grace below 0 has no end."),
    Behaviour(
        _M + "should return both the error of a component and of the stop", "Both are told, in one group."
    ),
    Behaviour(_M + "should not return context.Canceled", "A stop that was asked for ends without an error."),
    Behaviour(_M + "should refuse to add a runnable during stop", "Adding to what stops is an error."),
    Behaviour(_M + "should fail if started twice", "A manager is started once."),
    Behaviour(_M + "should start runnables added after start at once", "What is added late starts at once."),
    Behaviour(
        _M + "should release the lease only after runnables ended",
        "The lease is kept while anything that relies on it runs.",
    ),
    Behaviour(
        _M + "should disable the grace period when the lease is lost", "A lost lease ends everything at once."
    ),
    Behaviour(
        _M + "should never start the leader election group when stopped before leading",
        "A replica that is stopped before it leads starts nothing late.",
    ),
    Behaviour(_M + "should serve metrics and probes", "Endpoints start with it and stop with it."),
    Behaviour(_M + "should error when a port is in use", "A taken port is an error that names it."),
    Behaviour(
        _M + "should serve pprof",
        "Profiles of the running process can be fetched.",
        "Python's profilers attach from outside (py-spy) or are run by the program.",
    ),
    Behaviour(_M + "healthz and readyz", "Checks by name, excluded, verbose; reasons are withheld."),
)
