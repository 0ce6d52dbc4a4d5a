"""Shared informers: client-go's `tools/cache/shared_informer.go` and `synctrack`; kube-rs's and kopf's watching."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        "client-go informer TestListenerResyncPeriods",
        "Each handler is told of everything again at its own period, and never without one.",
    ),
    Behaviour(
        "client-go informer TestListenerResyncPeriodsDelayed",
        "So is one that is registered while the informer runs.",
    ),
    Behaviour(
        "client-go informer TestResyncCheckPeriod",
        "The period at which due handlers are looked for is the least one asked for before the start.",
        "Each handler has a timer of its own, so there is no common period to which others would be bent; a period "
        "below a second is raised to one, as there.",
    ),
    Behaviour(
        "client-go informer TestSharedInformerWatchDisruption",
        "After a relist a handler without resync sees the real changes only, one with resync everything at its time.",
    ),
    Behaviour(
        "client-go informer TestSharedInformerErrorHandling",
        "A failing LIST reaches the hook for watch errors.",
    ),
    Behaviour(
        "client-go informer TestSharedInformerRemoveHandler",
        "A removed handler is told nothing more, others all.",
    ),
    Behaviour(
        "client-go informer TestSharedInformerRemoveForeignHandler",
        "The handle of another informer removes nothing.",
        "A registration is removed by its own method, so no informer is ever given another one's handle.",
    ),
    Behaviour(
        "client-go informer TestSharedInformerMultipleRegistration",
        "One handler registered twice is told twice, and each registration is removed by itself.",
    ),
    Behaviour(
        "client-go informer TestRemovingRemovedSharedInformer", "Removing what was removed does nothing."
    ),
    Behaviour(
        "client-go informer TestSharedInformerHandlerAbuse",
        "Handlers may come and go at any moment, also in the middle of a call.",
    ),
    Behaviour(
        "client-go informer TestStateSharedInformer", "An informer says whether it runs and has stopped."
    ),
    Behaviour(
        "client-go informer TestAddOnStoppedSharedInformer", "Adding to a stopped informer is an error."
    ),
    Behaviour("client-go informer TestRemoveOnStoppedSharedInformer", "Removing from one is not."),
    Behaviour(
        "client-go informer TestRemoveWhileActive", "A handler removed while it is called is called no more."
    ),
    Behaviour(
        "client-go informer TestAddWhileActive",
        "A late handler is told of all there is, and has synced once it was.",
    ),
    Behaviour(
        "client-go informer failing handler",
        "A handler that raises still becomes synced, keeps nobody from being told, and is told of what follows.",
    ),
    Behaviour(
        "client-go informer TestShutdown", "When the informer has stopped nothing of it is left running."
    ),
    Behaviour(
        "client-go informer RemoveEventHandler_AsynchronousPanic",
        "Removing returns at once, and a call that is under way, or fails, goes on to its end.",
    ),
    Behaviour(
        "client-go informer TestShutDownEventHandler_SynchronousShutdown",
        "After shutting a handler down it certainly is not running; doing so in its own call is an error.",
    ),
    Behaviour(
        "client-go informer TestShutDownEventHandler_Lifecycles",
        "That holds before the start, while running and after the stop, and never waits without end.",
    ),
    Behaviour(
        "client-go cache TestWaitFor",
        "Whoever waits for caches is woken when they have synced, or told which have not.",
    ),
    Behaviour(
        "client-go synctrack SingleFileCounting",
        "Synced is upstream synced and as many initial items told as there were.",
    ),
    Behaviour(
        "client-go synctrack Lazy",
        "A value is computed once, by the first who asks, and anew after its inputs changed.",
    ),
    Behaviour(
        "client-go synctrack AsyncLocking",
        "Asking does not block those who report progress.",
        "Both run in one event loop and neither waits, so there is no lock that one could hold against the other.",
    ),
    Behaviour(
        "kube-rs reflector_restarted_should_clear_objects", "A new list replaces what was held, in one step."
    ),
    Behaviour("kube-rs reflector_store_should_not_contain_duplicates", "One object per key, the newest."),
    Behaviour(
        "kube-rs idle_timeout", "A watch on which nothing comes is given up, and any byte puts that off."
    ),
    Behaviour(
        "kube-rs backoff_should_reset_when_timer_expires",
        "Waits begin at their base again after two minutes without a failure, and not before.",
    ),
    Behaviour(
        "kopf test_inactivity_reconnects_with_last_resource_version",
        "A watch that fell silent is resumed from the last version, without a list.",
    ),
    Behaviour("kopf test_bookmark_resets_inactivity", "A bookmark postpones the limit of silence."),
)
