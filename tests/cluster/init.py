"""The first process inside the namespaces: sets up their network and mounts, runs a command, buries the orphans.

Run with `python -I -S`, by path: it needs nothing but the standard library. When it ends, the kernel ends all others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

NODE_ADDRESS = "10.210.0.1"
BRIDGE = "kaito0"


def main(command: list[str]) -> int:
    network()
    mounts()
    # Ctrl-C goes to the whole foreground group; the command ends by it, and then this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, preexec_fn=_default_signals)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def network() -> None:
    """A loopback and a bridge with the node's address. There is no way out: the default route ends at the bridge."""
    for words in (
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"address add {NODE_ADDRESS}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"route add default via {NODE_ADDRESS}",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def mounts() -> None:
    """Mounts of volumes must reach the containers that are there already; none leaves this namespace."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
