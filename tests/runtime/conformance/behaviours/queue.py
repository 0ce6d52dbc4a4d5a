"""The work queue: client-go's `util/workqueue` and controller-runtime's priority queue."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

_CG = "client-go workqueue "
_CR = "controller-runtime priorityqueue "

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        _CG + "TestBasic",
        "With many producers and consumers and either kind of shutdown every key is handed out once, and keys "
        "added after the shutdown never.",
    ),
    Behaviour(
        _CG + "TestAddWhileProcessing",
        "A key that is added again each time while it is held is handed out again each time.",
    ),
    Behaviour(_CG + "TestLen", "Adding a key that is queued does not make the queue longer."),
    Behaviour(_CG + "TestReinsert", "A key added while held is available only after done, and then once."),
    Behaviour(_CG + "TestCollapse", "Two equal adds are one hand-out."),
    Behaviour(
        _CG + "TestCollapse: Touch",
        "A hook of the underlying queue is told of an add that changed nothing.",
        "The hook lets others put their own order under client-go's queue; this queue has priorities of its own.",
    ),
    Behaviour(_CG + "TestCollapseWhileProcessing", "Several adds while a key is held are one more hand-out."),
    Behaviour(
        _CG + "TestQueueDrainageUsingShutDownWithDrain",
        "Draining ends when the last held key is given back, not before.",
    ),
    Behaviour(_CG + "TestNoQueueDrainageUsingShutDown", "A plain shutdown returns with keys held."),
    Behaviour(_CG + "TestForceQueueShutdownUsingShutDown", "A plain shutdown ends a drain under way."),
    Behaviour(
        _CG + "TestQueueDrainageUsingShutDownWithDrainWithDirtyItem",
        "Draining also hands out, and waits for, keys that were added again while held.",
    ),
    Behaviour(_CG + "TestGarbageCollection", "The queue keeps no reference to a finished key."),
    Behaviour(
        _CG + "TestSimpleQueue", "A delayed key is absent before its time and there at its time, once."
    ),
    Behaviour(
        _CG + "TestDeduping", "Of two delays of one key the earlier counts, in either order, and only once."
    ),
    Behaviour(_CG + "TestAddTwoFireEarly", "A shorter delay added later comes first."),
    Behaviour(_CG + "TestCopyShifting", "Keys delayed in reverse order come out by time."),
    Behaviour(
        _CG + "TestItemExponentialFailureRateLimiter",
        "Delays double per failure of a key, up to the cap, and start again when it is forgotten.",
    ),
    Behaviour(
        _CG + "TestItemExponentialFailureRateLimiterOverFlow",
        "After thousands of failures the delay is the cap, never an overflow.",
    ),
    Behaviour(
        _CG + "TestItemFastSlowRateLimiter", "So many fast tries, slow ones after that; forget resets."
    ),
    Behaviour(_CG + "TestMaxOfRateLimiter", "The longest of several limiters' delays; forget reaches all."),
    Behaviour(_CG + "TestWithMaxWaitRateLimiter", "A limiter's delays can be cut off."),
    Behaviour(
        _CG + "TestRateLimitingQueue",
        "A rate-limited add waits for the limiter's delay; forget drops the history.",
    ),
    Behaviour(
        _CG + "TestMetrics",
        "Adds, depth, time in the queue, time held, unfinished work and the longest runner follow the clock; a key "
        "added while held counts as two adds.",
    ),
    Behaviour(
        _CG + "TestMetricShutdown",
        "The ticker that refreshes the gauge of unfinished work ends with the queue.",
        "There is no ticker: ages are worked out when somebody scrapes.",
    ),
    Behaviour(
        _CG + "TestParallelizeUntil",
        "Pieces of work are spread over workers in chunks until cancelled.",
        "A helper for goroutines; asyncio.TaskGroup is the language's own.",
    ),
    Behaviour(
        _CR + "doesn't return an item that is currently locked",
        "A held key is not handed out a second time, and keeps no other key waiting.",
    ),
    Behaviour(
        _CR + "returns an item as soon as it is unlocked", "A worker that waits gets the key with its done."
    ),
    Behaviour(_CR + "de-duplicates items", "One entry and one counted add, however often a key is added."),
    Behaviour(_CR + "enqueues a locked item", "An add is accepted while the key is held."),
    Behaviour(_CR + "retains the highest priority", "The highest priority of several adds counts."),
    Behaviour(_CR + "will not decrease the priority", "A later add of lower priority changes nothing."),
    Behaviour(
        _CR + "gets pushed to the front if the priority increases",
        "Raising a priority moves a key ahead, and the depth metric with it.",
    ),
    Behaviour(
        _CR + "retains the lowest after duration", "The shortest of several delays counts, as one add."
    ),
    Behaviour(
        _CR + "TestGetFromPriorityQueueIsUnblockedOnShutdown", "A shutdown wakes every waiting worker."
    ),
    Behaviour(
        _CR + "TestPriorityQueueDoesNotDeadlockOnShutdownWhileHandingOutItems",
        "A shutdown while keys are being handed out leaves nobody waiting.",
    ),
    Behaviour(
        _CR + "returns many items",
        "Under many keys with random priorities and delays and many consumers no key is lost or doubled.",
    ),
    Behaviour(
        _CR + "metrics: item added with after then without",
        "The depth counts a key once, from when it is ready, under the priority that it has then.",
    ),
    Behaviour(
        _CR + "follows FIFO order when item priority changes",
        "Within one priority keys come in the order in which they reached it.",
    ),
    Behaviour(
        _CR + "TestHighPriorityItemsAreReturnedBeforeLowPriorityItemMultipleTimes",
        "Priority beats age, again and again.",
    ),
    Behaviour(
        _CR + "TestHighPriorityItemThatBecameReadyIsReturnedBeforeLowPriorityItem",
        "A key of high priority whose time has just come is ahead of an older one of low priority.",
    ),
    Behaviour(
        _CR + "TestItemIsOnlyReturnedAfterAfterHasPassed", "A delayed key is not handed out a moment early."
    ),
    Behaviour(
        _CR + "TestItemIsReturnedAsSoonAsPossible",
        "A worker that waits gets a delayed key at its time, also when a nearer one is added meanwhile.",
    ),
    Behaviour(
        _CR + "TestMultipleItemsWithAfterAreReturnedInOrder", "Keys of several delays come each at its time."
    ),
    Behaviour(
        _CR + "TestWhenAddingMultipleItemsWithRatelimitTrueTheyDontAffectEachOther",
        "Each key has its own delay from the limiter.",
    ),
    Behaviour(
        _CR + "TestFuzzPriorityQueue",
        "Never one key to two holders; the order of hand-outs is that of a short model.",
    ),
)
