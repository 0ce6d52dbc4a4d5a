"""The one place where an absolute in-container path becomes a path on this machine.

In a container `/mnt/adapter` is `/mnt/adapter`. Where containers run as plain processes, the process gets a
directory with its volumes at their mount paths in `KAITO_MOUNT_ROOT`, and every such path lies below it. Manifests
are the same in both worlds because nothing else looks at that variable.
"""

from __future__ import annotations

import os
from pathlib import Path


def resolve(path: str | os.PathLike[str]) -> Path:
    """`path` below `KAITO_MOUNT_ROOT` (default: empty) when it is absolute; a relative path is left alone.

    As `/..` is `/` in a container, `..` never leads above that directory.

    >>> os.environ["KAITO_MOUNT_ROOT"] = "/tmp/root"
    >>> str(resolve("/mnt/adapter"))
    '/tmp/root/mnt/adapter'
    """
    given = Path(path)
    root = os.environ.get("KAITO_MOUNT_ROOT", "")
    if not root or not given.is_absolute():
        return given
    return Path(root, *Path(os.path.normpath(given)).parts[1:])


def bind_host() -> str:
    """The address to listen on: `KAITO_BIND_HOST`, default every interface, as a container needs."""
    return os.environ.get("KAITO_BIND_HOST") or "0.0.0.0"


def bind_port(default: int) -> int:
    """The port to listen on: `KAITO_PORT`, else `default` (which the command line gave).

    Raises ValueError with a sentence when the variable isn't a port number.
    """
    text = os.environ.get("KAITO_PORT", "")
    if not text:
        return default
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"KAITO_PORT is {text!r}; write a port number from 0 (any free port) to 65535.")
    return int(text)


def termination_log(message: str) -> None:
    """Leaves `message` where the kubelet looks for the reason why a container ended, if there is such a file."""
    log = resolve("/dev/termination-log")
    if log.is_file():
        try:
            log.write_text(message + "\n", encoding="utf-8")
        except OSError:
            return
