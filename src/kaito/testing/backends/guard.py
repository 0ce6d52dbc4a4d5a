"""Ends a control plane's programs when the process that started them is gone: `python -I -S guard.py`.

The programs are not ours, so they cannot watch a pipe themselves. This small process does: its standard input is a pipe
whose only writing end the parent holds. A line `+PID` puts a process into its care, `-PID` takes it out again (the
parent has seen it end); when the pipe closes, however the parent ended, all that are left are killed. On Linux each
process is held by a pidfd, so that a number used anew cannot be hit.
"""

from __future__ import annotations

import os
import signal
import sys


class Ward:
    """One process in care."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd = -1
        if hasattr(os, "pidfd_open"):
            try:
                self._fd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._pid = 0  # ended already
            except OSError:
                pass  # a kernel that does not have it

    def kill(self) -> None:
        try:
            if self._fd >= 0:
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)
            elif self._pid:
                os.kill(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wards: dict[int, Ward] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            wards[pid] = Ward(pid)
        elif pid in wards:
            wards.pop(pid).release()
    for ward in wards.values():
        ward.kill()


if __name__ == "__main__":
    main()
