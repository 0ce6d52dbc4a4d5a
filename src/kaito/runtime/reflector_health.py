"""How well a reflector follows its collection: since when it fails, and why, as readiness and the logs tell it."""

from __future__ import annotations

from typing import Final

from kaito.runtime.errors import TransportError

SETTLED: Final = 10.0
"""Seconds that a watch stays open before earlier failures are over, even if nothing has come."""


class ReflectorHealth:
    """All times are clock readings; None: not so far.

    last_error: of the last failure, until something has come since. last_byte: when anything came from the server.
    failing_since: when the failures began of which `last_error` is the last.
    """

    def __init__(self) -> None:
        self.last_error: Exception | None = None
        self.last_byte: float | None = None
        self.failing_since: float | None = None
        self._opened_at: float | None = None
        self._silent_since: float | None = None
        self._silence: TransportError | None = None  # watches open, and nothing comes on any of them

    def opened(self, now: float) -> None:
        """A watch was answered."""
        self.last_error = self._silence
        self._opened_at = now

    def came_to_life(self) -> None:
        """Something came."""
        self.last_error = self._silence = None
        self.failing_since = self._silent_since = None

    def closed(self) -> None:
        """The server ended a watch, as it does."""
        self._silent_since = self._silence = None

    def fell_silent(self, now: float, *, bookmarks: bool) -> TransportError | None:
        """A watch brought nothing for too long. The error, where that means that the cache is not kept.

        Once may be the connection's fault. Again, where bookmarks must come, is the server's.
        """
        if self._silent_since is None or not bookmarks:
            self._silent_since = self.last_byte
            return None
        silence = now - self._silent_since
        self._silence = TransportError(f"watches open, but nothing came on them for {silence:.0f} s")
        self.last_error = self._silence
        self.failing_since = self._silent_since
        return self._silence

    def failed(self, now: float, error: Exception) -> None:
        self.last_error = error
        if self._opened_at is not None and now - self._opened_at >= SETTLED:
            self.failing_since = None
        self._opened_at = None
        if self.failing_since is None:
            self.failing_since = now
