"""How long, and how much memory, it takes to have N pods in a cache.

    python -m bench.sync [--pods 5000] [--runs 3]

A local HTTP server (its own process) serves N pods of about 8 KB, managed fields included. Three readers,
each in a fresh process: our informer with paged LIST, our informer with a streaming list, and
`kubernetes_asyncio`'s typed `list_pod_for_all_namespaces`. Seconds are from the first request to the last
object in memory; memory is the peak resident set of the process, imports included, and the part of it that
was there before the first request. JSON on standard output; medians and ratios over the runs, which alternate
between the readers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

READERS = ("list", "watchlist", "kubernetes_asyncio")


def pod(number: int) -> dict[str, Any]:
    """A pod as a Deployment makes it, about 8 KB of JSON."""
    name = f"worker-{number // 50}-{number:05d}"
    labels = {f"example.com/label-{each}": f"value-{each}-{number}" for each in range(8)}
    env = [
        {"name": f"SETTING_{each}", "value": f"some value of setting {each} for {name}"} for each in range(30)
    ]
    fields: dict[str, Any] = {
        f'k:{{"name":"SETTING_{each}"}}': {".": {}, "f:name": {}, "f:value": {}} for each in range(30)
    }
    container = {
        "name": "main",
        "image": f"registry.example.com/team/worker:{number % 7}",
        "args": [f"--option-{each}={number}" for each in range(10)],
        "env": env,
        "ports": [{"containerPort": 5000, "protocol": "TCP"}],
        "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "16Gi"}, "requests": {"cpu": "4"}},
        "volumeMounts": [{"name": f"volume-{each}", "mountPath": f"/mnt/{each}"} for each in range(6)],
    }
    condition = {"lastProbeTime": None, "lastTransitionTime": "2026-11-21T13:00:00Z", "status": "True"}
    return {
        "metadata": {
            "name": name,
            "namespace": f"team-{number % 20}",
            "uid": f"00000000-0000-0000-0000-{number:012d}",
            "resourceVersion": str(1000 + number),
            "creationTimestamp": "2026-11-21T13:00:00Z",
            "labels": labels,
            "annotations": {f"example.com/note-{each}": "a note of some length " * 4 for each in range(8)},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"worker-{number // 50}",
                    "uid": f"00000000-0000-0000-0001-{number // 50:012d}",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [
                {
                    "manager": "kube-controller-manager",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "time": "2026-11-21T13:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {"f:containers": {'k:{"name":"main"}': {"f:env": fields}}}},
                }
            ],
        },
        "spec": {
            "nodeName": f"node-{number % 100}",
            "containers": [container],
            "volumes": [{"name": f"volume-{each}", "emptyDir": {}} for each in range(6)],
            "tolerations": [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.244.{number // 250}.{number % 250}",
            "conditions": [{"type": each, **condition} for each in ("Initialized", "Ready", "PodScheduled")],
            "containerStatuses": [
                {
                    "name": "main",
                    "image": container["image"],
                    "imageID": "registry.example.com/team/worker@sha256:" + "0" * 64,
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-11-21T13:00:00Z"}},
                }
            ],
        },
    }


async def serve(count: int) -> None:
    """Print the port, then serve until standard input closes."""
    from aiohttp import web

    bodies = [json.dumps(pod(number), separators=(",", ":")).encode() for number in range(count)]
    mark = {"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}}

    def page(start: int, size: int) -> bytes:
        metadata = {
            "resourceVersion": "9",
            **({"continue": str(start + size)} if start + size < count else {}),
        }
        head = json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": metadata})[:-1].encode()
        return head + b', "items": [' + b",".join(bodies[start : start + size]) + b"]}"

    async def answer(request: web.Request) -> web.StreamResponse:
        query = request.query
        if not query.get("watch"):
            size = int(query.get("limit") or count)
            return web.Response(
                body=page(int(query.get("continue") or 0), size), content_type="application/json"
            )
        response = web.StreamResponse()
        with contextlib.suppress(ConnectionResetError):  # readers leave as soon as they have everything
            await stream(request, response)
        return response

    async def stream(request: web.Request, response: web.StreamResponse) -> None:
        await response.prepare(request)
        if request.query.get("sendInitialEvents"):
            for body in bodies:
                await response.write(b'{"type":"ADDED","object":' + body + b"}\n")
            await response.write(json.dumps({"type": "BOOKMARK", "object": mark}).encode() + b"\n")
        await asyncio.Event().wait()

    app = web.Application()
    app.router.add_get("/api/v1/pods", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], sum(map(len, bodies)) // count, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


async def read_with_informer(url: str, *, watch_list: bool) -> tuple[int, float, float]:
    """Objects, memory before (MiB), seconds."""
    from kaito.runtime.aiohttp_transport import AioHttpTransport
    from kaito.runtime.cache import InformerCache
    from kaito.runtime.client import Client
    from kaito.runtime.clock import LoopClock
    from kaito.runtime.resources import PODS

    transport = AioHttpTransport(url)
    cache = InformerCache(Client(transport, clock=LoopClock()), watch_list=watch_list)
    informer = cache.informer(PODS)
    before = peak_memory()
    started = time.perf_counter()
    running = asyncio.ensure_future(cache.run())
    await cache.wait_synced()
    seconds = time.perf_counter() - started
    running.cancel()
    await asyncio.wait([running])
    await transport.close()
    return len(informer.store), before, seconds


async def read_with_typed_client(url: str) -> tuple[int, float, float]:
    """Objects, memory before (MiB), seconds."""
    from kubernetes_asyncio import client

    configuration = client.Configuration(host=url)
    async with client.ApiClient(configuration) as api:
        pods = client.CoreV1Api(api)
        before = peak_memory()
        started = time.perf_counter()
        items: list[Any] = []
        arguments: dict[str, Any] = {"limit": 500}
        while True:
            answer = await pods.list_pod_for_all_namespaces(**arguments)
            items += answer.items
            arguments["_continue"] = answer.metadata._continue
            if not answer.metadata._continue:
                return len(items), before, time.perf_counter() - started


def peak_memory() -> float:
    """Peak resident set in MiB (Linux counts KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


async def read(reader: str, url: str) -> dict[str, float]:
    if reader == "kubernetes_asyncio":
        count, before, seconds = await read_with_typed_client(url)
    else:
        count, before, seconds = await read_with_informer(url, watch_list=reader == "watchlist")
    return {
        "objects": count,
        "seconds": seconds,
        "memory_before_mib": before,
        "memory_peak_mib": peak_memory(),
    }


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians per reader, and how many times the others are of ours (paged LIST)."""
    medians = {
        reader: {key: round(statistics.median(run[key] for run in results), 4) for key in results[0]}
        for reader, results in runs.items()
    }
    ours = medians["list"]
    ratios = {
        reader: {key: round(values[key] / ours[key], 2) for key in ("seconds", "memory_peak_mib")}
        for reader, values in medians.items()
    }
    return {"median": medians, "ratio_to_list": ratios, "runs": runs}


def measure(pods: int, runs: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.sync"]
    server = subprocess.Popen(
        [*command, "--serve", str(pods)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port, size = server.stdout.readline().split()
        results: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
        for _ in range(runs):
            for reader in READERS:
                done = subprocess.run(
                    [*command, "--read", reader, f"http://127.0.0.1:{port}"],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                result = json.loads(done.stdout)
                if result["objects"] != pods:
                    raise SystemExit(f"{reader} read {result['objects']} of {pods} pods")
                results[reader].append(result)
    finally:
        server.stdin.close()
        server.wait(10)
    return {"pods": pods, "bytes_per_pod": int(size), "python": sys.version.split()[0], **summary(results)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pods", type=int, default=5000, help="number of pods (default 5000)")
    parser.add_argument("--runs", type=int, default=3, help="runs per reader (default 3)")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve(arguments.serve))
    elif arguments.read is not None:
        print(json.dumps(asyncio.run(read(*arguments.read))))
    else:
        print(json.dumps(measure(arguments.pods, arguments.runs), indent=2))


if __name__ == "__main__":
    main()
