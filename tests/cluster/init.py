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


def main(folder: str, *command: str) -> int:
    network()
    mounts(Path(folder))
    child = subprocess.Popen(command)
    # Ctrl-C goes to the whole foreground group; the command ends by it, and then this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        run(f"ip {words}")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def mounts(folder: Path) -> None:
    """What containerd, the kubelet and CNI plugins write at fixed places lands in our folder or in memory.

    Mounts of volumes must reach the containers that are there already; none leaves this namespace.
    """
    run("mount --make-rprivate /")
    run("mount --make-rshared /")
    images = Path("/var/lib/containers")
    kept = folder / "kept-images"
    upper, work = folder / "var-lib", folder / "var-lib-work"
    for path in (kept, upper, work):
        path.mkdir()
    if images.is_dir():
        run(f"mount --bind {images} {kept}")
    run(f"mount -t overlay -o lowerdir=/var/lib,upperdir={upper},workdir={work} overlay /var/lib")
    if images.is_dir():
        run(f"mount --bind {kept} {images}")
    for place in ("/run", "/var/log"):
        run(f"mount -t tmpfs tmpfs {place}")


def run(words: str) -> None:
    subprocess.run(words.split(), check=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
