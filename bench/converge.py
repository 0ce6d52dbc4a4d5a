"""How long N Workspaces take from `apply` to Ready, and how that compares with the floor of the same run.

    python -m bench.converge [--count 300] [--kubeconfig FILE] [--start node,operator]

Workspaces are written with 32 connections; the time ends when the last one's condition WorkspaceReady is True. Then the
children that the operator made are read back, everything is removed, the operator is ended, and the very same children
are written by one client (`bench.floor`). Limits: 20 s, and twice the floor. JSON on standard output; exit status 1
where a limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from bench import floor
from bench import world as worlds
from kaito.api.resources import WORKSPACES
from kaito.runtime.cache import InformerCache
from kaito.runtime.client import Client
from kaito.runtime.errors import AlreadyExists
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import NAMESPACES, Resource

NAMESPACE = "kaito-bench"
SECONDS_LIMIT = 20.0
RATIO_LIMIT = 2.0
PRESETS = ("phi-3-mini-4k-instruct", "mistral-7b-instruct")

Tree = dict[str, Any]


def workspace(number: int) -> Tree:
    return {
        "apiVersion": WORKSPACES.api_version,
        "kind": WORKSPACES.kind,
        "metadata": {"name": f"bench-{number:04d}", "namespace": NAMESPACE},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4",
            "labelSelector": {"matchLabels": {"apps": f"bench-{number:04d}"}},
        },
        "inference": {"preset": {"name": PRESETS[number % len(PRESETS)]}},
    }


def is_ready(obj: CachedObject) -> bool:
    conditions = (obj.decode().get("status") or {}).get("conditions") or ()
    return any(each["type"] == "WorkspaceReady" and each["status"] == "True" for each in conditions)


async def children_of(client: Client) -> list[Tree]:
    """What the operator made for our Workspaces, stripped, in the order in which it comes about."""
    found: list[Tree] = []
    names = set()
    for resource in floor.CHILDREN:
        for tree in await client.list(resource, NAMESPACE if resource.namespaced else None):
            labels = tree["metadata"].get("labels") or {}
            ours = labels.get("kaito.sh/workspacenamespace") == NAMESPACE or tree["metadata"]["name"] in names
            if _is_ours(resource, tree, ours=ours):
                names.add(tree["metadata"]["name"])
                found.append(floor.stripped(tree, resource))
    return found


def _is_ours(resource: Resource, tree: Tree, *, ours: bool) -> bool:
    """Nodes carry their claim's labels or name; namespaced children are owned by a Workspace."""
    if not resource.namespaced:
        return ours
    return any(owner["kind"] == "Workspace" for owner in tree["metadata"].get("ownerReferences") or ())


async def converge(client: Client, count: int) -> tuple[Tree, list[Tree]]:
    """Makes the Workspaces, waits, reads the children back, removes everything."""
    cache = InformerCache(client)
    informer = cache.informer(WORKSPACES, namespace=NAMESPACE)
    ready = floor.Watcher(informer, is_ready)
    running = asyncio.create_task(cache.run())
    try:
        await cache.wait_synced()
        starts: dict[str, float] = {}

        async def write(number: int) -> None:
            starts[f"{NAMESPACE}/bench-{number:04d}"] = time.perf_counter()
            await client.create(WORKSPACES, workspace(number))

        started = time.perf_counter()
        await floor.in_parallel(range(count), write)
        written = time.perf_counter() - started
        await ready.wait(lambda: len(ready.times) == count, "Workspaces Ready")
        seconds = max(ready.times.values()) - started
        each = sorted(ready.times[key] - begun for key, begun in starts.items())
        children = await children_of(client)

        async def remove(number: int) -> None:
            await client.delete(WORKSPACES, f"bench-{number:04d}", NAMESPACE)

        removing = time.perf_counter()
        await floor.in_parallel(range(count), remove)
        await ready.wait(lambda: len(informer.store) == 0, "Workspaces gone")
        removed = time.perf_counter() - removing
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    result = {
        "seconds": round(seconds, 3),
        "written": round(written, 3),
        "median": round(statistics.median(each), 3),
        "slowest": round(each[-1], 3),
        "removed": round(removed, 3),
        "children": Counter(child["kind"] for child in children),
    }
    return result, children


async def run(arguments: argparse.Namespace) -> bool:
    parts = worlds.parts_of(arguments.start)
    async with worlds.world(arguments.kubeconfig, arguments.context, parts) as world:
        with contextlib.suppress(AlreadyExists):
            await world.client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        result: Tree = {"versions": await world.versions(), "count": arguments.count}
        result["converge"], children = await converge(world.client, arguments.count)
        if arguments.children:
            arguments.children.write_bytes(orjson.dumps(children, option=orjson.OPT_INDENT_2))
        if await world.end("operator"):
            result["floor"] = await floor.measure(world.client, children)
            result["ratio"] = round(result["converge"]["seconds"] / result["floor"]["seconds"], 2)
        else:
            result["floor"] = "not measured: the operator is not ours to stop; see bench.floor"
    result["limits"] = {"seconds": SECONDS_LIMIT, "ratio": RATIO_LIMIT}
    good = result["converge"]["seconds"] <= SECONDS_LIMIT and result.get("ratio", 0) <= RATIO_LIMIT
    result["within_limits"] = good
    print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    return bool(good)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--children", type=Path, help="write the children's manifests to this file")
    worlds.add_arguments(parser)
    sys.exit(0 if asyncio.run(run(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
