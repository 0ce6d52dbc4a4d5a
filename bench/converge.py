"""How long N Workspaces take from `create` to InferenceReady on nodes that exist, beside the floor of the same run.

    python -m bench.converge [--count 300] [--runs 3] [--out FILE] [--backend real|embedded]

On a real control plane: etcd, kube-apiserver, controller-manager, scheduler and kwok. Workspaces are written with 32
connections; the time ends when the last one's condition InferenceReady is True. The children that the operator made
are then read back and removed, the operator is stopped, and the very same children are written by one client
(`bench.floor`). Runs alternate, each with a fresh operator; medians. JSON; exit status 1 where a limit is missed.

Limits for time and CPU scale with the floor: a Go KAITO on a machine that writes the children of 300 Workspaces in
5.4 s needed 105.6 s, 4.3 CPU seconds, 84 to 90 MB, and about 12 writes for each Workspace.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from bench import floor
from bench.cluster import Cluster, Operator, cluster, server_version
from kaito import __version__
from kaito.api.resources import WORKSPACES
from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import NAMESPACES

NAMESPACE = "kaito-bench"
POOL = "bench"
PRESETS = ("phi-3-mini-4k-instruct", "mistral-7b-instruct")
OPERATOR = (
    "--node-provisioner=byo",
    "--webhook",
    "--webhook-register",
    "--webhook-bind-address=127.0.0.1:0",
)
SETTLE = 12.0
"""Seconds after the last Workspace is ready until the operator counts as settled: its held-back words are written."""
SETTLED = 60.0
"""Seconds for which a settled operator is watched."""

GO_SECONDS, GO_FLOOR, GO_CPU_LIMIT = 105.6, 5.4, 4.2
RATIO_LIMIT, SHARE_LIMIT, WRITES_LIMIT = 2.0, 0.10, 7.0
RSS_LIMITS = {300: 84.0, 3000: 130.0}
WRITES = ("POST", "PUT", "PATCH", "DELETE")

Tree = dict[str, Any]


def workspace(number: int) -> Tree:
    return {
        "apiVersion": WORKSPACES.api_version,
        "kind": WORKSPACES.kind,
        "metadata": {"name": f"bench-{number:04d}", "namespace": NAMESPACE},
        "resource": {"labelSelector": {"matchLabels": {"apps": POOL}}},
        "inference": {"preset": {"name": PRESETS[number % len(PRESETS)]}},
    }


def is_ready(obj: CachedObject) -> bool:
    conditions = (obj.decode().get("status") or {}).get("conditions") or ()
    return any(each["type"] == "InferenceReady" and each["status"] == "True" for each in conditions)


async def children_of(client: Client) -> list[Tree]:
    """What the operator made for our Workspaces, stripped, in the order in which it comes about."""
    found: list[Tree] = []
    for resource in floor.CHILDREN:
        if not resource.namespaced:
            continue  # nodes were there before
        for tree in await client.list(resource, NAMESPACE):
            owners = tree["metadata"].get("ownerReferences") or ()
            if any(owner["kind"] == "Workspace" for owner in owners):
                found.append(floor.stripped(tree, resource))
    return found


async def converge(on: Cluster, count: int, *, settled: bool) -> tuple[Tree, list[Tree]]:
    """Starts an operator, makes the Workspaces, waits, reads the children back, removes everything."""
    operator = await Operator.start(on, OPERATOR)
    cache = InformerCache(on.client)
    informer = cache.informer(WORKSPACES, namespace=NAMESPACE)
    ready = floor.Watcher(informer, is_ready)
    running = asyncio.create_task(cache.run())
    try:
        await cache.wait_synced()
        idle, requests = operator.usage(), await operator.requests()
        starts: dict[str, float] = {}

        async def write(number: int) -> None:
            starts[f"{NAMESPACE}/bench-{number:04d}"] = time.perf_counter()
            await on.client.create(WORKSPACES, workspace(number))

        started = time.perf_counter()
        await floor.in_parallel(range(count), write)
        written = time.perf_counter() - started
        await ready.wait(lambda: len(ready.times) == count, "Workspaces Ready")
        seconds = max(ready.times.values()) - started
        await asyncio.sleep(SETTLE)
        used, after = operator.usage(), await operator.requests()
        result = _converged(
            seconds, written, sorted(ready.times[key] - begun for key, begun in starts.items())
        )
        result |= {
            "cpu": round(used.cpu - idle.cpu, 3),
            "rss": round(used.rss, 1),
            "rss idle": round(idle.rss, 1),
            "rss peak": round(used.peak, 1),
            "writes": {name: (after.get(name, 0) - requests.get(name, 0)) / count for name in WRITES},
        }
        if settled:
            result["settled"] = await _settled(operator)
        children = await children_of(on.client)
        result["children"] = Counter(child["kind"] for child in children)
        removing = time.perf_counter()
        await floor.in_parallel(
            range(count), lambda number: on.client.delete(WORKSPACES, f"bench-{number:04d}", NAMESPACE)
        )
        await ready.wait(lambda: len(informer.store) == 0, "Workspaces gone")
        result["removed"] = round(time.perf_counter() - removing, 3)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await operator.stop()
    return result, children


def _converged(seconds: float, written: float, each: list[float]) -> Tree:
    return {
        "seconds": round(seconds, 3),
        "written": round(written, 3),
        "median": round(statistics.median(each), 3),
        "slowest": round(each[-1], 3),
    }


async def _settled(operator: Operator) -> Tree:
    """What an operator without news asks of the API server. Watches that end and begin anew are GETs."""
    before, cpu = await operator.requests(), operator.usage().cpu
    await asyncio.sleep(SETTLED)
    after = await operator.requests()
    return {
        "seconds": SETTLED,
        "cpu": round(operator.usage().cpu - cpu, 3),
        "requests": {
            name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)
        },
    }


def judged(count: int, runs: list[Tree]) -> tuple[Tree, list[Tree]]:
    """Medians, and each limit with what was measured."""

    def median(*path: str) -> float:
        values: list[Any] = list(runs)
        for key in path:
            values = [value[key] for value in values]
        return round(float(statistics.median(values)), 3)

    base, seconds = median("floor", "seconds"), median("converge", "seconds")
    writes = statistics.median(sum(run["converge"]["writes"].values()) for run in runs)
    scale = base / GO_FLOOR
    medians = {
        "seconds": seconds,
        "floor seconds": base,
        "ratio": round(seconds / base, 3),
        "cpu": median("converge", "cpu"),
        "rss": median("converge", "rss"),
        "rss peak": median("converge", "rss peak"),
        "writes per Workspace": round(writes, 2),
    }
    limits = [
        ("time beside the floor", medians["ratio"], RATIO_LIMIT),
        ("API writes of a Workspace until it is ready", writes, WRITES_LIMIT),
    ]
    if count == 300:
        limits.append(("seconds", seconds, SHARE_LIMIT * GO_SECONDS * scale))
        limits.append(("CPU seconds", medians["cpu"], GO_CPU_LIMIT * scale))
    if count in RSS_LIMITS:
        limits.append(("resident set in MB", medians["rss"], RSS_LIMITS[count]))
    settled = [run["converge"]["settled"] for run in runs if "settled" in run["converge"]]
    if settled:
        extra = sum(sum(each["requests"].get(name, 0) for name in WRITES) for each in settled)
        limits.append(("requests a minute once settled, beside watches", extra, 0))
    return medians, [
        {"measure": what, "measured": round(got, 3), "limit": round(limit, 3), "met": got <= limit}
        for what, got, limit in limits
    ]


async def run(count: int, times: int, backend: str) -> Tree:
    async with cluster(count, POOL, backend) as on:
        await on.client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        runs: list[Tree] = []
        for number in range(times):
            await floor.until_quiet(on.client, NAMESPACE)
            result, children = await converge(on, count, settled=number == 0 and backend == "real")
            await floor.until_quiet(on.client, NAMESPACE)
            runs.append({"converge": result, "floor": await floor.measure(on.client, children)})
            print(orjson.dumps(runs[-1]).decode(), file=sys.stderr)
        medians, limits = judged(count, runs)
        return {
            "versions": {
                "kaito": __version__,
                "python": platform.python_version(),
                "aiohttp": version("aiohttp"),
                "platform": platform.platform(),
                "server": await server_version(on.client),
            },
            "count": count,
            "nodes": f"{count} of one GPU, one label on all of them",
            "median": medians,
            "limits": limits,
            "within limits": all(each["met"] for each in limits),
            "runs": runs,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300, help="Workspaces, and nodes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--backend",
        choices=("real", "embedded"),
        default="real",
        help="embedded: to try the bench out where the real one cannot be had",
    )
    parser.add_argument("--out", type=Path, help="write the JSON there instead of to standard output")
    arguments = parser.parse_args()
    result = asyncio.run(run(arguments.count, arguments.runs, arguments.backend))
    text = orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")
    sys.exit(0 if result["within limits"] else 1)


if __name__ == "__main__":
    main()
