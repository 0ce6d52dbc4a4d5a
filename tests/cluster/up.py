"""Brings the cluster up and runs a command with its KUBECONFIG: `python -m cluster.enter python -m cluster.up bash`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence

from cluster.node import Node
from cluster.places import Places
from kaito.runtime.clock import LoopClock


def main(command: Sequence[str]) -> int:
    node = Node(Places.here(), LoopClock())
    asyncio.run(node.start())
    try:
        return subprocess.run(command, env={**os.environ, **node.environment}).returncode
    finally:
        node.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [os.environ.get("SHELL", "/bin/sh")]))
