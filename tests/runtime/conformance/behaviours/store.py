"""From the reflector into the store: client-go's queues of deltas, stores and indexers.

There is no queue here: reflector, store and handlers run in one event loop, so a change is applied and told at once.
What the tests of the queues say about order, tombstones and `HasSynced` holds all the same.
"""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

NO_QUEUE = "Nothing stands between reflector and store: changes are applied as they come, so there is nothing to pop."

BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("client-go RealFIFO addUpdate", "Every event reaches the handlers, in order, none merged."),
    Behaviour(
        "client-go RealFIFO ReplaceMakesDeletions",
        "What a new list lacks is told as deleted, with the newest state known, marked as possibly stale.",
    ),
    Behaviour(
        "client-go RealFIFO ReplaceMakesDeletionsForObjectsOnlyInQueue",
        "So is an object whose addition a handler has not been told of yet.",
    ),
    Behaviour(
        "client-go RealFIFO UpdateResyncRace",
        "A resync never tells an older state after a newer one, and nothing of objects that are gone.",
    ),
    Behaviour(
        "client-go RealFIFO HasSyncedCorrectOnDeletion",
        "A handler has synced when all of its initial list has been told, deletions that came meanwhile apart.",
    ),
    Behaviour(
        "client-go RealFIFO HasSynced",
        "Nothing received: not synced; an empty list: synced at once; a list of two: after both were told.",
    ),
    Behaviour(
        "client-go RealFIFO PopShouldUnblockWhenClosed", "Closing wakes who waits for an item.", NO_QUEUE
    ),
    Behaviour("client-go RealFIFO PopMultipleDeltaInBatch", "Batches end at a repeated key.", NO_QUEUE),
    Behaviour("client-go RealFIFO PopBrokenItemsInBatch", "Batches end at an item without a key.", NO_QUEUE),
    Behaviour(
        "client-go RealFIFO ReplaceAtomic", "A list is swapped in as a whole: readers never see half of it."
    ),
    Behaviour("client-go RealFIFO ResyncAtomic", "A resync is one item of the queue.", NO_QUEUE),
    Behaviour(
        "client-go informer TestReplaceEvents",
        "A list swapped in difference by difference and one filed anew are told alike.",
    ),
    Behaviour(
        "client-go informer TestProcessDeltasInBatch",
        "A change that cannot be stored is not told, and the others are.",
    ),
    Behaviour("client-go store TestResetWatch", "A relist moves the store's version to the list's."),
    Behaviour(
        "client-go store TestStoreResourceVersion",
        "The store's version follows events, bookmarks and lists, whatever a transform makes of the objects.",
    ),
    Behaviour(
        "client-go informer TestTransformingInformer",
        "Store and handlers get what the transform made, once for each version received.",
    ),
    Behaviour(
        "client-go ThreadSafeStore indexes",
        "Values under which nothing is left disappear from an index; objects may have several values.",
    ),
    Behaviour(
        "client-go index TestIndex",
        "Objects are found by each of their values; an unknown index is an error, a failing function is not fatal.",
    ),
    Behaviour("client-go TestMutationDetector", "What a reader does to an answer does not reach the store."),
    Behaviour(
        "client-go MutationCache",
        "An overlay shows own writes before the watch does.",
        "There is no overlay: a controller waits until its caches show what it wrote, so no second truth can differ.",
    ),
)
