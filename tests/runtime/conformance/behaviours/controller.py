"""Controllers, handlers, sources and caches: controller-runtime's `pkg/{controller,handler,source,cache}`."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

_C = "controller-runtime controller "
_H = "controller-runtime handler "
_P = "controller-runtime predicate "
_S = "controller-runtime source "
_CACHE = "controller-runtime cache "

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        _C + "should recover panic by default", "A bug in a reconcile is an error, a count, and a later try."
    ),
    Behaviour(
        _C + "should recover panic if RecoverPanic is true",
        "The same, when it is asked for in so many words.",
    ),
    Behaviour(
        _C + "should not recover panic if RecoverPanic is false",
        "A bug ends the controller, and with it the manager, where that is asked for.",
    ),
    Behaviour(
        _C + "should time out if ReconciliationTimeout is set",
        "A reconcile over its time is cancelled and counted; another's timeout is not counted as its own.",
    ),
    Behaviour(
        _C + "should return an error if there is an error waiting for the informers",
        "A controller whose caches cannot be filled fails, and names them.",
    ),
    Behaviour(_C + "should error when cache sync timeout occurs", "It does so after exactly its timeout."),
    Behaviour(
        _C + "should not error when controller start context is cancelled during Sources WaitForSync",
        "Cancelling a controller that waits for its caches is no error.",
    ),
    Behaviour(
        _C + "should error when GetInformer blocks forever",
        "A source that never begins does not hold the controller beyond its timeout.",
    ),
    Behaviour(
        _C + "should return an error if there is an error starting sources",
        "A source that fails to start fails the controller.",
        "A source starts by registering a handler in the same event loop, which cannot fail; what can is its list.",
    ),
    Behaviour(
        _C + "should check for correct TypedSyncingSource if custom types are used",
        "Sources over custom request types are typed.",
        "About Go's generics.",
    ),
    Behaviour(
        _C + "should not call Reconcile until all event handlers have processed initial objects",
        "No reconcile begins before every initial object of every source has passed its handler.",
    ),
    Behaviour(_C + "should return an error if it gets started more than once", "A second start is an error."),
    Behaviour(
        _C + "should only start sources once under concurrency",
        "Warm-up and start at the same time register each handler once.",
    ),
    Behaviour(
        _C + "should requeue a Request if there is an error and continue processing items",
        "A failed key is tried again after the limiter's delay; other keys go on meanwhile.",
    ),
    Behaviour(
        _C + "should not requeue a Request if there is a terminal error",
        "A terminal error is counted and not tried again.",
    ),
    Behaviour(
        _C + "should perform error behavior if error is not nil, regardless of RequeueAfter",
        "Of an error and a result returned together the error counts.",
        "A reconcile either raises or returns.",
    ),
    Behaviour(
        _C + "should not reset backoff until there's a non-error result",
        "Failures add up until a reconcile succeeds, and then count from nothing.",
    ),
    Behaviour(
        _C + "should requeue a Request with rate limiting if the Result sets Requeue:true",
        "A requeue without a time waits for the limiter and keeps its history.",
    ),
    Behaviour(
        _C + "should requeue a Request after a duration if the Result sets RequeueAfter",
        "A requeue with a time comes at that time exactly, and wipes the history.",
    ),
    Behaviour(
        _C + "should use the priority of the result, else the request's",
        "A requeued key has the priority that the result names, else the one it had.",
    ),
    Behaviour(_C + "should return if the queue is shutdown", "Workers end with their queue."),
    Behaviour(
        _C + "should run one task per MaxConcurrentReconciles", "As many reconciles at a time as workers."
    ),
    Behaviour(_C + "should get updated on success", "Successes are counted."),
    Behaviour(_C + "should get updated on reconcile errors", "Errors are counted."),
    Behaviour(_C + "should get updated when reconcile returns with requeue", "Requeues are counted."),
    Behaviour(
        _C + "should get updated when reconcile returns with requeueAfter", "Timed requeues are counted."
    ),
    Behaviour(
        _C + "should add a reconcile time to the reconcile time histogram",
        "Every reconcile is one observation, in controller-runtime's buckets.",
    ),
    Behaviour(
        _C + "should have the reconcileID in the context", "The running reconcile's id can be read in it."
    ),
    Behaviour(
        _C + "Warmup: starts sources before the lease is acquired",
        "With warm-up a replica that does not lead has its queue filled; without, which is the default, it has not.",
    ),
    Behaviour(
        _C + "Warmup: does not start sources again in Start",
        "The controller starts from its warm queue and tells no handler twice.",
    ),
    Behaviour(
        _C + "Warmup: returns an error on sync timeout",
        "A warm-up whose caches do not fill fails the manager.",
    ),
    Behaviour(
        _C + "Warmup: controllers added after start are warmed up",
        "A controller added while the manager waits for the lease is warmed up at once.",
    ),
    Behaviour(_C + "New: should return an error if Name is not specified", "A controller needs a name."),
    Behaviour(
        _C + "New: should return an error if Reconciler is not specified",
        "A controller needs a reconcile function.",
        "It is a required argument: the language says so.",
    ),
    Behaviour(
        _C + "New: should return an error if two controllers are registered with the same name",
        "Names are unique in a manager; other managers may use them again.",
    ),
    Behaviour(
        _C + "New: inherits the manager's defaults",
        "What a controller does not say is the manager's value, by kind if there is one; what it says wins.",
    ),
    Behaviour(_C + "New: should not leak goroutines when stopped", "Nothing runs on after a stop."),
    Behaviour(_H + "EnqueueRequestForObject", "An object brings its own key; names need no namespace."),
    Behaviour(
        _H + "EnqueueRequestForOwner",
        "Group and kind of the owner are compared, the version is not; a cluster-scoped owner has no namespace.",
    ),
    Behaviour(
        _H + "EnqueueRequestForOwner: only controller owner, or every owner",
        "Only the controller is told, unless every owner was asked for.",
    ),
    Behaviour(
        _H + "EnqueueRequestForOwner and MapFunc: old and new on update",
        "An update brings the keys of the old and of the new object, each once.",
    ),
    Behaviour(
        _H + "Lower priority for the initial list",
        "Objects of the initial list, and updates that bring the version that was there, wait behind real changes.",
    ),
    Behaviour(
        _P + "ResourceVersionChanged, GenerationChanged, LabelChanged, AnnotationChanged",
        "Each passes the updates that change what it is named after, and every creation and deletion.",
    ),
    Behaviour(_P + "And, Or, Not", "Predicates compose."),
    Behaviour(_P + "LabelSelector", "Objects that match a selector pass."),
    Behaviour(_P + "Funcs", "A type of event without a function of its own passes."),
    Behaviour(
        _S + "Kind: create, update, delete, tombstone",
        "Each change reaches the handler; a deletion that was missed is marked so.",
    ),
    Behaviour(
        _S + "Kind: retries a missing CRD until the timeout",
        "A resource that does not exist yet is asked for again; when it comes in time the controller starts.",
    ),
    Behaviour(
        _S + "Channel: events before start and pending ones",
        "Keys enqueued from outside before the start, or while workers are busy, are not lost.",
    ),
    Behaviour(
        _S + "Channel: closed channel",
        "Closing the channel ends the source.",
        "There is no channel to close.",
    ),
    Behaviour(_CACHE + "lazy get", "An informer asked for while the cache runs starts at once and fills."),
    Behaviour(_CACHE + "by namespace, by label", "Reads can be limited to a namespace and to labels."),
    Behaviour(
        _CACHE + "multi-namespace: error for a namespace that is not watched",
        "Several namespaces can be read as one; reading a namespace that is not among them is an error.",
    ),
    Behaviour(
        _CACHE + "Limit and Continue",
        "Lists from the cache may be limited and cannot be continued.",
        "Reads from memory return everything; a slice is the caller's.",
    ),
    Behaviour(_CACHE + "index by field", "Objects are found by the values of a field."),
    Behaviour(
        _CACHE + "deep copy on and off",
        "Objects read from the cache may be changed without changing the cache.",
    ),
    Behaviour(_CACHE + "informer can be removed and made anew", "A removed informer can be asked for again."),
    Behaviour(
        _CACHE + "fails on missing informer",
        "Reads of what nobody follows can be made an error instead of a new informer.",
        "Reading never makes an informer: a lister is got from one.",
    ),
    Behaviour(_CACHE + "transforms by GVK", "What is kept of an object can be made smaller, by resource."),
)
