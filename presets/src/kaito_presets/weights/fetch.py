"""Fetches the files of a plan: resumes what is unfinished, verifies every file, tells how long it will still take."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaito_presets.weights.hub import Hub, HubError, RemoteFile
from kaito_presets.weights.plan import Plan, partial_path

#: Seconds over which the speed is averaged, and between two reports.
SPEED_WINDOW = 20.0
REPORT_EVERY = 0.5
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """done and total in bytes, speed in bytes per second (0 = not known yet)."""

    file: str
    done: int
    total: int
    speed: float

    @property
    def seconds_left(self) -> float | None:
        """None while the speed isn't known."""
        return (self.total - self.done) / self.speed if self.speed > 0 else None


class _Meter:
    """Counts bytes and reports now and then."""

    def __init__(self, plan: Plan, report: Callable[[Progress], None]) -> None:
        self._total = plan.total
        self._done = 0
        self._report = report
        self._samples: deque[tuple[float, int]] = deque()
        self._fetched = 0
        self._last = 0.0

    @property
    def done(self) -> int:
        """Bytes that are there."""
        return self._done

    def skip(self, size: int) -> None:
        """Bytes that were there already (or, negative, had to be thrown away)."""
        self._done += size

    def fetched(self, file: str, size: int) -> None:
        """Bytes that came over the line."""
        self._done += size
        self._fetched += size
        now = time.monotonic()
        self._samples.append((now, self._fetched))
        while now - self._samples[0][0] > SPEED_WINDOW:
            self._samples.popleft()
        if now - self._last >= REPORT_EVERY:
            self.tell(file)
            self._last = now

    def tell(self, file: str) -> None:
        speed = 0.0
        if len(self._samples) > 1:
            (start, before), (end, after) = self._samples[0], self._samples[-1]
            speed = (after - before) / (end - start) if end > start else 0.0
        self._report(Progress(file, self._done, self._total, speed))


def download(
    plan: Plan,
    hub: Hub,
    report: Callable[[Progress], None] = lambda _: None,
    *,
    attempts: int = 5,
    first_pause: float = 0.5,
    until: int | None = None,
) -> Path:
    """Fetches what is missing and returns the directory. Blocks; raises HubError, OSError.

    attempts: tries per file in a row that bring no new byte, before giving up. first_pause: seconds before the first
    new try; doubles each time, unless the hub says how long to wait. until: bytes after which it is enough for now.

    A file gets its name only when it is complete and verified; what is unfinished stays as NAME.partial, and the
    next call goes on from there.
    """
    meter = _Meter(plan, report)
    enough = plan.total if until is None else until

    def fetch(file: RemoteFile) -> bool:
        return _fetch(plan, hub, file, meter, attempts, first_pause, enough)

    for file in plan.files:
        if meter.done >= enough and enough < plan.total:
            return plan.directory
        target = plan.directory / file.place
        if target.is_file() and target.stat().st_size == file.size:
            meter.skip(file.size)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if not fetch(file):
            return plan.directory
        if not _matches(partial_path(plan.directory, file), file):
            # Once more from the start: the unfinished file may have been another version's.
            meter.skip(-file.size)
            partial_path(plan.directory, file).unlink()
            if not fetch(file):
                return plan.directory
            if not _matches(partial_path(plan.directory, file), file):
                partial_path(plan.directory, file).unlink()
                raise HubError(
                    f"{file.path} of {plan.repository} arrived with a wrong checksum, twice. Try again later."
                )
        partial_path(plan.directory, file).replace(target)
        meter.tell(file.path)
    return plan.directory


def verify(plan: Plan) -> None:
    """Removes files that are not what the plan says, for example another version's."""
    for file in plan.files:
        path = plan.directory / file.place
        if path.is_file() and (path.stat().st_size != file.size or not _matches(path, file)):
            path.unlink()


def _fetch(
    plan: Plan, hub: Hub, file: RemoteFile, meter: _Meter, attempts: int, first_pause: float, enough: int
) -> bool:
    """Makes NAME.partial as long as the file is, over as many connections as it takes; False: stopped at `enough`."""
    partial = partial_path(plan.directory, file)
    partial.touch()
    have = partial.stat().st_size
    if have > file.size:
        partial.unlink()
        partial.touch()
        have = 0
    meter.skip(have)
    failures = 0
    while have < file.size:
        try:
            with hub.open(plan.repository, plan.revision, file.path, have) as response:
                if have and response.status != 206:  # the hub sends the whole file
                    meter.skip(-have)
                    have = 0
                with partial.open("r+b") as out:
                    out.truncate(have)
                    out.seek(have)
                    while have < file.size and (chunk := response.read(min(_CHUNK, file.size - have))):
                        out.write(chunk)
                        have += len(chunk)
                        failures = 0
                        meter.fetched(file.path, len(chunk))
                        if meter.done >= enough and have < file.size:
                            return False
            if have >= file.size:
                return True
            error = HubError(f"The hub ended the transfer of {file.path} early.", temporary=True)
        except HubError as problem:
            error = problem
        except (OSError, http.client.HTTPException) as problem:
            if isinstance(problem, OSError) and problem.errno in (28, 122):  # disk full, quota
                raise
            error = HubError(f"The connection to the hub broke: {problem}.", temporary=True)
        failures += 1
        if not error.temporary or failures >= attempts:
            raise error
        time.sleep(first_pause * 2 ** (failures - 1) if error.retry_after is None else error.retry_after)
    return True


def _matches(path: Path, file: RemoteFile) -> bool:
    """Whether the content has the checksum that the hub gave for it."""
    if file.sha256:
        digest = hashlib.sha256()
    elif file.git_sha1 and len(file.git_sha1) == 40:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    else:
        return True
    with path.open("rb") as content:
        while chunk := content.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest() == (file.sha256 or file.git_sha1)
