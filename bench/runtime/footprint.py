"""What an operator costs before it does anything: its import, and its memory while it idles.

    python -m bench.runtime.footprint [--quick]

Seconds and MiB of the import beyond those of a bare interpreter. Then the smallest operator of each kind (one
controller or handler of ConfigMaps, metrics where they are usual) against a real kube-apiserver, some seconds after it
is in sync. No limits: what users see first.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from bench.runtime.common import ROOT, Row, alternate, arguments, finish, go, ours, peers, run_json
from bench.runtime.control_plane import control_plane

IDLE_SECONDS = 2
OUR_NAMES = "from kaito.runtime import Client, Connection, Controller, LoopClock, Manager, Result"
"""What the smallest operator imports: the package loads its parts as their names are asked for."""
IMPORT = """
import json, sys, time
def rss():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) / 1024
before, modules, started = rss(), len(sys.modules), time.perf_counter()
{statement}
seconds = time.perf_counter() - started
print(json.dumps({{"seconds": seconds, "mib": rss() - before, "modules": len(sys.modules) - modules}}))
"""


def imported(python: str | Path, statement: str) -> Row:
    return run_json([python, "-c", IMPORT.format(statement=statement)])


def main() -> None:
    chosen = arguments(__doc__).parse_args()
    others = peers() / "venv/bin/python"
    with control_plane() as plane:
        script = ROOT / "bench/runtime/python_peers.py"
        contenders = {
            "import kaito.runtime": partial(imported, sys.executable, OUR_NAMES),
            "import kopf": partial(imported, others, "import kopf"),
            "import kubernetes_asyncio": partial(imported, others, "import kubernetes_asyncio.client"),
            "kaito operator": partial(ours, "minimal", plane.kubeconfig, str(IDLE_SECONDS)),
            "kopf operator": partial(
                run_json, [others, script, "kopf-idle", plane.kubeconfig, str(IDLE_SECONDS)]
            ),
            "go operator": partial(
                go, "idle", f"--kubeconfig={plane.kubeconfig}", f"--seconds={IDLE_SECONDS}"
            ),
        }
        results = alternate(chosen.runs or (1 if chosen.quick else 5), contenders)
        notes = {"kube_apiserver": plane.version()}
    finish("footprint", results, [], notes)


if __name__ == "__main__":
    main()
