"""A pipe that ends child processes with their parent, however the parent ends.

The parent keeps the only writing end and never writes. Each child inherits the reading end; when the parent is gone,
`kill -9` included, the kernel closes the pipe, the child reads end-of-file and stops. It works the same on Linux and
macOS, without process groups, prctl or a watchdog that could die first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

FD_VARIABLE = "KAITO_LIFELINE_FD"
"""Environment variable that tells a child the number of the inherited reading end."""

GRACE_SECONDS = 8.0
"""How long a child may take to stop by itself after the pipe has closed."""


class Lifeline:
    """The parent's side: hand `read_fd` to children with `pass_fds`; close() ends them."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()
        os.set_inheritable(self.read_fd, True)

    def environment(self) -> dict[str, str]:
        """What a child's environment needs so that it finds the pipe."""
        return {FD_VARIABLE: str(self.read_fd)}

    def close(self) -> None:
        """Closes the writing end: every child sees end-of-file. Idempotent."""
        for fd in (self._write_fd, self.read_fd):
            if fd >= 0:
                os.close(fd)
        self.read_fd = self._write_fd = -1


def end_with_parent() -> bool:
    """The child's side: SIGTERM to this process when the parent's end closes, a hard exit GRACE_SECONDS later.

    A daemon thread does the blocking read, so that a busy event loop cannot miss the end. Returns False, having done
    nothing, when the process was not started with a lifeline; True means that a parent waits for `report_ready`.
    """
    text = os.environ.pop(FD_VARIABLE, "")
    if not text:
        return False
    fd = int(text)
    os.set_inheritable(fd, False)

    def wait() -> None:
        while os.read(fd, 1):  # the parent never writes: this returns b"" at end-of-file only
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
    return True


def report_ready(**facts: object) -> None:
    """Tells the parent, with one JSON line on standard output, that this process serves; output ends there."""
    sys.stdout.write(json.dumps({"ready": True, **facts}) + "\n")
    sys.stdout.flush()
