"""What this machine must have before the cluster is brought up, said all at once."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PACKAGES: Final[Mapping[str, str]] = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "docker-registry": "docker-registry",
    "buildah": "buildah",
    "curl": "curl",
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
"""Program to the Debian package that has it."""
CNI_PLUGINS: Final = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins puts them."""
_NEEDED_PLUGINS: Final = ("bridge", "host-local", "loopback", "portmap")


class Missing(Exception):
    """The cluster cannot run here; the sentences say why and what to do."""


def check() -> None:
    """Raises `Missing` where something lacks."""
    if sys.platform != "linux":
        raise Missing(f"The one-node cluster needs Linux (this is {sys.platform}): use a virtual machine.")
    if os.geteuid() != 0:
        raise Missing(
            "The one-node cluster needs root, for namespaces, mounts and cgroups of its own: sudo make test-e2e."
        )
    packages = {package for program, package in PACKAGES.items() if shutil.which(program) is None}
    if not all((CNI_PLUGINS / name).is_file() for name in _NEEDED_PLUGINS):
        packages.add("containernetworking-plugins")
    if packages:
        names = " ".join(sorted(packages))
        raise Missing(
            f"Debian packages are missing: {names}. As root: hack/debian-packages.sh {names}\n"
            "(Services that they bring need not run; on another system install what has these programs.)"
        )


if __name__ == "__main__":
    try:
        check()
    except Missing as problem:
        sys.exit(str(problem))
