"""Downloads that pods of one machine share, where pods are processes (`KAITO_WEIGHTS_CACHE`).

Each commit of a repository has a directory of its own there, which one program at a time downloads into. A pod's volume
then gets hard links to the files, so what is deleted in the one place stays in the other: pods go on when somebody
clears the directory up, and files outlive the pods. In a container there is no such directory, and the volume itself is
downloaded into.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Names the directory, an absolute path.
VARIABLE = "KAITO_WEIGHTS_CACHE"


def directory_of(cache: Path, repository: str, revision: str) -> Path:
    """Where a repository's files at that revision are kept."""
    return cache / f"{repository.replace('/', '--')}@{revision.replace('/', '--')}"


def shared_directory() -> Path | None:
    """The directory that this machine's pods share; None in a container."""
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named else None


@contextmanager
def place(output: Path, repository: str, revision: str) -> Iterator[Path]:
    """Where to download to, held by this program alone: `output` itself in a container. Raises OSError."""
    cache = shared_directory()
    if cache is None:
        yield output
        return
    directory = directory_of(cache, repository, revision)
    directory.mkdir(parents=True, exist_ok=True)
    with (cache / f"{directory.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{repository}: waits for another pod that downloads the same", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def hand_over(names: Iterable[str], directory: Path, output: Path) -> None:
    """Makes `output` have the files of `directory`. Raises OSError."""
    if directory == output:
        return
    for name in names:
        target = output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(directory / name, target)
        except FileNotFoundError:  # somebody clears the directory up just now
            raise
        except OSError:  # another file system, or one without hard links
            target.symlink_to((directory / name).absolute())


def held(cache: Path) -> list[tuple[str, int]]:
    """What a shared directory has: name and bytes of each commit's directory, sorted."""
    if not cache.is_dir():
        return []
    return sorted(
        (each.name, sum(_size(Path(folder, name)) for folder, _, names in os.walk(each) for name in names))
        for each in cache.iterdir()
        if each.is_dir()
    )


def _size(path: Path) -> int:
    """Bytes; 0 of a file that has got another name meanwhile, as files do that are complete."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
