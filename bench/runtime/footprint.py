"""What an operator costs before it does anything: its import, and its memory while it idles.

    python -m bench.runtime.footprint [--quick]

Seconds and MiB of the import beyond those of a bare interpreter. Then the smallest operator of each kind (one
controller or handler of ConfigMaps, metrics where they are usual) against a real kube-apiserver, some seconds after it is
in sync. No limits: what users see first.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from pathlib import Path

from bench.runtime.common import ROOT, Row, alternate, arguments, finish, go, memory, ours, peers, run_json
from bench.runtime.control_plane import control_plane

IDLE_SECONDS = 2
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


async def idle(kubeconfig: str) -> Row:
    """Our smallest operator."""
    from kaito.runtime import Client, Connection, Controller, LoopClock, Manager, ManagerOptions, ObjectKey
    from kaito.runtime.resources import CONFIGMAPS

    async def reconcile(key: ObjectKey) -> None:
        del key

    clock = LoopClock()
    connection = Connection.from_kubeconfig(kubeconfig)
    manager = Manager(
        Client(connection.transport, clock=clock),
        clock=clock,
        options=ManagerOptions(metrics_address="127.0.0.1:0"),
    )
    manager.add(Controller("idle", reconcile, primary=CONFIGMAPS))
    running = asyncio.create_task(manager.run())
    await manager.cache.wait_synced()
    await asyncio.sleep(IDLE_SECONDS)
    row = {"idle_mib": memory(), "peak_mib": memory("VmHWM")}
    running.cancel()
    await asyncio.wait([running])
    await connection.close()
    return row


def imported(python: str | Path, statement: str) -> Row:
    return run_json([python, "-c", IMPORT.format(statement=statement)])


def main() -> None:
    if sys.argv[1:2] == ["--idle"]:
        print(json.dumps(asyncio.run(idle(sys.argv[2]))))
        return
    chosen = arguments(__doc__).parse_args()
    others = peers() / "venv/bin/python"
    with control_plane() as plane:
        script = ROOT / "bench/runtime/python_peers.py"
        contenders = {
            "import kaito.runtime": partial(imported, sys.executable, "import kaito.runtime"),
            "import kopf": partial(imported, others, "import kopf"),
            "import kubernetes_asyncio": partial(imported, others, "import kubernetes_asyncio.client"),
            "kaito operator": partial(ours, "footprint", "--idle", plane.kubeconfig),
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
