"""What every bench needs: peers, fresh processes, medians, limits, and what was measured with."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("aiohttp", "msgspec", "orjson", "prometheus-client", "kubernetes-asyncio")
PATIENCE = 600.0
"""Seconds after which a measured process is given up."""

Row = dict[str, Any]
Results = dict[str, Any]


class Limit(NamedTuple):
    """One promise and how it was kept. `peer` is the yardstick's number, None where the limit is absolute."""

    measure: str
    limit: str
    measured: float
    peer: float | None
    met: bool

    def row(self) -> Row:
        ratio = None if not self.peer else round(self.measured / self.peer, 3)
        return {**self._asdict(), "measured": round(self.measured, 4), "ratio": ratio}


def at_most(measure: str, measured: float, limit: float, unit: str) -> Limit:
    """An absolute upper bound."""
    return Limit(f"{measure} ({unit})", f"<= {limit:g}", measured, None, measured <= limit)


def ratio_at_most(measure: str, measured: float, peer: float, limit: float) -> Limit:
    """No more than `limit` times the peer's number."""
    return Limit(measure, f"<= {limit:g}x", measured, peer, measured <= limit * peer)


def ratio_at_least(measure: str, measured: float, peer: float, limit: float) -> Limit:
    """No less than `limit` times the peer's number."""
    return Limit(measure, f">= {limit:g}x", measured, peer, measured >= limit * peer)


# -- processes -----------------------------------------------------------------------------------------------


@cache
def peers() -> Path:
    """The folder with `peer` and `venv`, built on first use."""
    done = subprocess.run([ROOT / "hack/bench-peers.sh"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def run_json(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Row:
    """What a process prints as its last line. Raises SystemExit with its last words where it fails."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        words = (done.stderr or done.stdout)[-3000:]
        raise SystemExit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{words}")
    row: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def go(*arguments: str, watch_list: bool = True) -> Row:
    """A subcommand of the peer in Go. Without `watch_list` it lists, as an API without streaming lists makes it do."""
    switch = {"KUBE_FEATURE_WatchListClient": "true" if watch_list else "false"}
    result: Row = run_json([peers() / "peer", *arguments], switch)["result"]
    return result


def ours(module: str, *arguments: str) -> Row:
    """A part of a bench in a fresh process of this Python."""
    return run_json([sys.executable, "-m", f"bench.runtime.{module}", *arguments])


def memory(field: str = "VmRSS") -> float:
    """Resident set in MiB, now or (VmHWM) at its peak. Without /proc: the peak, whatever is asked for."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


# -- numbers -------------------------------------------------------------------------------------------------


def medians(rows: Sequence[Row]) -> Row:
    """The median of each number of equal rows; what is no number is taken from the first."""
    middle: Row = {}
    for key, first in rows[0].items():
        if isinstance(first, dict):
            middle[key] = medians([row[key] for row in rows])
        elif isinstance(first, int | float) and not isinstance(first, bool):
            middle[key] = round(statistics.median(row[key] for row in rows), 4)
        else:
            middle[key] = first
    return middle


def alternate(runs: int, contenders: Mapping[str, Callable[[], Row]]) -> dict[str, list[Row]]:
    """Every contender once, then every one again: what else the machine does meets all of them."""
    rows: dict[str, list[Row]] = {name: [] for name in contenders}
    for run in range(runs):
        for name, measure in contenders.items():
            started = time.monotonic()
            rows[name].append(measure())
            seconds = time.monotonic() - started
            print(f"  run {run + 1}/{runs}, {name}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return rows


def percentiles(seconds: Sequence[float]) -> Row:
    """p50, p99 and the longest, in milliseconds."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[int(share * (len(ordered) - 1))] * 1000

    return {"p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)}


# -- answers -------------------------------------------------------------------------------------------------


def versions() -> Row:
    """Of everything that takes part, and the state of the machine."""
    found: Row = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    found.update(run_json([peers() / "peer", "version"])["versions"])
    listed = subprocess.run(
        [peers() / "venv/bin/python", "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True,
        check=True,
    )
    found.update(
        (f"peers: {each['name']}", each["version"])
        for each in json.loads(listed.stdout)
        if each["name"] in {"kopf", "kubernetes_asyncio", "aiohttp"}
    )
    return {**found, "kernel": platform.release(), "cores": os.cpu_count(), "load_average": os.getloadavg()}


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that all benches have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer runs: a rough picture")
    parser.add_argument("--runs", type=int, help="runs per contender; default: the bench's own")
    return parser


def finish(name: str, results: Results, limits: Sequence[Limit], notes: Mapping[str, Any]) -> None:
    """Prints the answer; exits with status 1 where a limit was missed."""
    answer = {
        "bench": name,
        **notes,
        "limits": [limit.row() for limit in limits],
        "versions": versions(),
        "median": {contender: medians(rows) for contender, rows in results.items()},
        "runs": results,
    }
    print(json.dumps(answer))
    raise SystemExit(0 if all(limit.met for limit in limits) else 1)
