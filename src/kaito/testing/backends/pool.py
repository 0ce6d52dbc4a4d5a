"""Which backend runs, and for how long."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kaito.runtime.clock import Clock, LoopClock
from kaito.testing.backends.base import API, Backend, BackendError

if TYPE_CHECKING:
    from kaito.testing.backends.real import RealBackend

VARIABLE: Final = "KAITO_TEST_BACKEND"
NAMES: Final = ("embedded", "real")
_API_ONLY: Final = frozenset({API})


def chosen_name() -> str:
    """What KAITO_TEST_BACKEND says, `embedded` where it says nothing.

    Raises:
        BackendError: there is no such backend.
    """
    return _checked(os.environ.get(VARIABLE) or "embedded")


def _checked(name: str) -> str:
    if name not in NAMES:
        raise BackendError(f"{VARIABLE}={name}: there is no such backend; write {' or '.join(NAMES)}")
    return name


@asynccontextmanager
async def start(
    name: str | None = None,
    needs: frozenset[str] = _API_ONLY,
    *,
    directory: Path | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Backend]:
    """A backend with what is needed, until the block ends.

    Its files are in `directory` and stay there, or in a temporary one that goes with it. `name` None takes
    `chosen_name()`.

    Raises:
        BackendError: there is no such backend, it lacks something, or it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="kaito-backend-") as temporary:
        pool = Pool(directory or Path(temporary), name, clock)
        try:
            async with pool.lend(needs) as backend:
                yield backend
        finally:
            pool.close()


class Pool:
    """Lends the chosen backend, one borrower at a time. Close it when done.

    An embedded backend is new for every borrower and runs in its event loop. The real one is started by the first
    borrower and shared, whatever loop they are in; programs that the next one does not need are stopped.
    """

    def __init__(self, directory: Path, name: str | None = None, clock: Clock | None = None) -> None:
        self.name = chosen_name() if name is None else _checked(name)
        self._directory = directory
        self._clock = clock or LoopClock()
        self._real: RealBackend | None = None
        self._lent = 0

    @asynccontextmanager
    async def lend(self, needs: frozenset[str]) -> AsyncIterator[Backend]:
        """A backend that has what is needed.

        Raises:
            BackendError: it lacks something, or it did not start.
        """
        if self.name == "real":
            yield await self._shared(needs)
            return
        from kaito.testing.backends.embedded import EmbeddedBackend

        self._lent += 1
        directory = self._directory / f"embedded-{self._lent}"
        directory.mkdir(parents=True)
        backend = EmbeddedBackend(directory, self._clock)
        try:
            await backend.start(needs)
            yield backend
        finally:
            await backend.stop()

    def last_words(self) -> str:
        """The ends of the logs of what still runs."""
        return "" if self._real is None else self._real.last_words()

    def close(self) -> None:
        """Ends what is shared."""
        if self._real is not None:
            self._real.close()
            self._real = None

    async def _shared(self, needs: frozenset[str]) -> Backend:
        if self._real is None:
            from kaito.testing.backends.real import RealBackend

            self._real = RealBackend(self._directory / "real", self._clock)
        await self._real.start(needs)
        return self._real
