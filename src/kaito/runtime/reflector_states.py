"""What a reflector can be doing, what it may ask for, and what may happen to it: data only.

`kaito.runtime.reflector_rules` says what follows from what; `kaito.runtime.reflector` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import TypeAlias

from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.wire import MAX_EVENT_BYTES, MalformedStream

PAGE_SIZE = 500
"""Objects per LIST page (client-go)."""

WATCH_TIMEOUT = 300.0
"""Least number of seconds after which the server ends a watch; at most twice as many (client-go)."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after failures. The defaults are client-go's, the calm period is kube-rs's."""

    base: float = 0.8
    """Seconds after the first failure. Default 0.8."""
    cap: float = 30.0
    """Most seconds, before jitter. Default 30."""
    factor: float = 2.0
    """How much longer each further wait is. Default 2."""
    jitter: float = 1.0
    """Each wait is multiplied by 1 + jitter * [0, 1), drawn anew. Default 1."""
    calm: float = 120.0
    """Seconds without a failure after which the next one counts as the first. Default 120."""

    def seconds(self, failures: int) -> float:
        """The wait, without jitter, after so many earlier failures."""
        return min(self.cap, self.base * self.factor ** min(failures, 64))


@dataclass(frozen=True, slots=True)
class ReflectorOptions:
    """How a collection is fetched and followed."""

    page_size: int | None = None
    """Objects per LIST page. None: 500, and no pages where the server can answer from its watch cache."""
    watch_list: bool = True
    """Ask for the initial list as a stream, and fall back to LIST where the server refuses. Default on."""
    backoff: Backoff = field(default_factory=Backoff)
    """Waits after failures."""
    min_watch_timeout: float = WATCH_TIMEOUT
    """Seconds after which the server is asked to end a watch: drawn between this and twice as much. Less than
    the default of 300 counts as 300."""
    internal_error_window: float = 0.0
    """Seconds during which an error 500 in a watch is answered by watching again at once; the window opens anew
    after a minute without. Default 0: never, a 500 makes it list again after a wait."""
    max_event_bytes: int = MAX_EVENT_BYTES
    """Largest object accepted, in bytes of JSON; a larger one is an error that is reported and retried with a
    growing wait. Default 64 MiB."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What survives from one request to the next."""

    options: ReflectorOptions = field(default_factory=ReflectorOptions)
    resource_version: str = ""
    unavailable: bool = False  # the server said Expired or "too large": ask for the newest state instead
    paginated: bool = False  # a LIST at version 0 came back in pages: there is no watch cache to spare
    bookmarks: bool = False  # bookmarks have been seen for this resource
    failures: int = 0
    last_failure: float = -inf
    first_internal: float = -inf  # when the present window of internal errors opened
    last_internal: float = -inf


# States


@dataclass(frozen=True, slots=True)
class Listing:
    """Fetching pages. `token` continues a list whose version is `list_version`."""

    memory: Memory
    resource_version: str
    limit: int
    token: str = ""
    list_version: str = ""


@dataclass(frozen=True, slots=True)
class StreamingList:
    """Receiving the initial list as watch events."""

    memory: Memory
    opened_at: float | None = None
    events: int = 0


@dataclass(frozen=True, slots=True)
class Watching:
    """Receiving changes since `memory.resource_version`."""

    memory: Memory
    opened_at: float | None = None
    events: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Backing off before `then`; at least `at_least` seconds because the server said so."""

    seconds: float
    then: Listing | StreamingList | Watching
    at_least: float = 0.0

    @property
    def memory(self) -> Memory:
        return self.then.memory


State: TypeAlias = Listing | StreamingList | Watching | Waiting


# Requests


@dataclass(frozen=True, slots=True)
class ListRequest:
    """GET with these parameters; `first` starts a new list."""

    query: tuple[tuple[str, str], ...]
    first: bool


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """GET with watch=1, these parameters and a drawn timeoutSeconds; `initial` starts a new list."""

    query: tuple[tuple[str, str], ...]
    initial: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Sleep for `seconds * (1 + jitter * random)`, at least `at_least`."""

    seconds: float
    at_least: float


NextRequest: TypeAlias = ListRequest | WatchRequest | Wait


# Events (`at` is in clock seconds)


@dataclass(frozen=True, slots=True)
class Listed:
    """A LIST page arrived; its items are in the scratch area."""

    at: float
    resource_version: str
    continue_token: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A watch was accepted. `bookmarks`: this server is known to send them for this resource."""

    at: float
    bookmarks: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """`count` objects were added, modified or deleted; the last of them has this version."""

    at: float
    resource_version: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Marked:
    """A bookmark; `initial_end` ends a streaming list."""

    at: float
    resource_version: str
    initial_end: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The server ended the watch normally."""

    at: float


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing came for longer than `silence_limit`."""

    at: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The request or the stream failed; also an ERROR event in the stream."""

    at: float
    error: ApiError | TransportError | MalformedStream


@dataclass(frozen=True, slots=True)
class Waited:
    """The back-off is over."""

    at: float


Event: TypeAlias = Listed | Opened | Changed | Marked | Closed | Silent | Failed | Waited


class Action(Enum):
    """What the event means for the sink."""

    NONE = 0
    COLLECT = 1  # the objects belong to the list being received
    COMMIT = 2  # the list is complete: swap it in at memory.resource_version
    RESTART = 3  # the same, although it is older than what is held: the server's history began anew
    APPLY = 4  # the objects change the store
    BOOKMARK = 5  # only memory.resource_version has moved
    REOPEN = 6  # this stream is of no use: close it and ask again


@dataclass
class ReflectorStats:
    """Counts since the start."""

    lists: int = 0
    """LIST requests, one for each page."""
    watches: int = 0
    """WATCH requests, streaming lists included."""
    events: int = 0
    """Objects added, modified or deleted by watch events."""
    failures: int = 0
    """Failed requests and broken streams."""
    skipped: int = 0
    """Objects and events that could not be understood and were left out."""
    silences: int = 0
    """Watches given up because nothing came any more."""
