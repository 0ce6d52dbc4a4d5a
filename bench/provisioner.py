"""From claim to Ready on AKS: how close 50 claims come to what the cloud's own operations take, and what they cost.

    python -m bench.provisioner [--count 50] [--runs 3] [--out FILE] [--no-processes]

On virtual time with operations of five minutes, against a fake Azure that works in parallel, one that refuses a second
operation while one runs on the cluster, and one that counts requests as AKS documents it; machine controller, provider
and Azure SDK are the real ones (`bench.claims`). Then `kaito provisioner` and `kaito operator` as processes, on real
time (`bench.provisioner_processes`). JSON; exit status 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from bench import claims, provisioner_processes
from bench.claims import EXCLUSIVE, LIMITED, OPERATION, PARALLEL
from kaito import __version__

RATIO_LIMIT = 1.1
REFUSED_LIMIT = 1.0
CALLS_LIMIT = 4.0
CPU_LIMIT = 0.010
"""Seconds of processor time for one claim, from its creation to Ready."""

MODES = (PARALLEL, EXCLUSIVE, LIMITED)

Tree = dict[str, Any]


def limit(measure: str, measured: float, most: float) -> Tree:
    return {"measure": measure, "measured": measured, "limit": most, "met": measured <= most}


def median(runs: list[Tree], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def ours(run: Tree) -> float:
    """Processor seconds of what a provisioner's process would do."""
    return float(run["cpu"] - run["cpu of API server and fakes"])


def virtual(count: int, runs: int) -> Tree:
    claims.launch(1, PARALLEL)  # imports, caches
    return {mode: [claims.launch(count, mode) for _ in range(runs)] for mode in MODES}


def figures(found: Tree, count: int) -> Tree:
    """What is measured of each mode: medians, but the least processor time, which other work only adds to."""
    made: Tree = {}
    for mode, runs in found.items():
        made[mode] = {
            "seconds": median(runs, "seconds"),
            "ratio": round(median(runs, "seconds") / claims.shortest(count, mode), 3),
            "refused per finished operation": round(
                statistics.median(run["refused"] / run["operations finished"] for run in runs), 3
            ),
            "requests per claim beyond polling": round(median(runs, "beyond polling") / count, 2),
            "requests per claim": round(
                statistics.median(sum(run["requests to Azure"].values()) for run in runs) / count, 2
            ),
            "requests an hour once settled": max(
                sum(run["requests to Azure in an hour once settled"].values()) for run in runs
            ),
            "cpu of an hour once settled": round(
                min(run["cpu in 75 minutes once settled"] for run in runs) / 1.25, 3
            ),
            "cpu per claim": round(min(map(ours, runs)) / count, 4),
        }
    return made


def limits(made: Tree) -> list[Tree]:
    return [
        limit("parallel: time beside one operation", made[PARALLEL]["ratio"], RATIO_LIMIT),
        limit("exclusive: time beside the sum of operations", made[EXCLUSIVE]["ratio"], RATIO_LIMIT),
        limit(
            "exclusive: refused PUTs per finished operation",
            made[EXCLUSIVE]["refused per finished operation"],
            REFUSED_LIMIT,
        ),
        *(
            limit(
                f"{mode}: requests per claim beyond polling",
                made[mode]["requests per claim beyond polling"],
                CALLS_LIMIT,
            )
            for mode in (PARALLEL, EXCLUSIVE)
        ),
        *(
            limit(f"{mode}: CPU seconds per claim", made[mode]["cpu per claim"], CPU_LIMIT)
            for mode in (PARALLEL, EXCLUSIVE)
        ),
    ]


def measure(count: int, runs: int, *, processes: bool) -> Tree:
    found = virtual(count, runs)
    made = figures(found, count)
    held = limits(made)
    result: Tree = {
        "versions": {
            "kaito": __version__,
            "python": platform.python_version(),
            "azure-mgmt-containerservice": version("azure-mgmt-containerservice"),
            "azure-core": version("azure-core"),
            "platform": platform.platform(),
        },
        "count": count,
        "operation seconds": OPERATION,
        "figures": made,
    }
    if processes:
        provisioner = provisioner_processes.provisioner(count)
        operator = provisioner_processes.operator()
        result["processes"] = {"provisioner": provisioner, "operator": operator}
        held.append(
            limit("modules of Azure in an operator that does not provision", operator["azure modules"], 0)
        )
    return {**result, "limits": held, "within limits": all(each["met"] for each in held), "runs": found}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50, help="claims at once (default: 50)")
    parser.add_argument("--runs", type=int, default=3, help="of each mode (default: 3)")
    parser.add_argument("--out", type=Path, help="file for the JSON (default: standard output)")
    parser.add_argument("--no-processes", action="store_true", help="virtual time only")
    chosen = parser.parse_args()
    result = measure(chosen.count, chosen.runs, processes=not chosen.no_processes)
    text = orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if chosen.out is None:
        sys.stdout.buffer.write(text)
    else:
        chosen.out.write_bytes(text)
    return 0 if result["within limits"] else 1


if __name__ == "__main__":
    sys.exit(main())
