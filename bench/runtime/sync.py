"""A cache that fills: seconds and memory, from a real kube-apiserver.

    python -m bench.runtime.sync [--quick]

5,000 Workspaces, then 5,000 and 50,000 pods of about 8 KB. Readers: our informer (streamed and paged list),
controller-runtime's cache (streamed, which is its default, and listed; JSON, and protobuf for pods),
kubernetes_asyncio's typed list, a kopf index. Each is a fresh process that has sent one request already, so TLS is set
up on all sides. Seconds are from the start of the cache to the last object in it. Memory is the resident set: idle
(before), at its peak, and after a full collection.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

from bench.runtime.common import (
    ROOT,
    Limit,
    Results,
    Row,
    alternate,
    arguments,
    at_most,
    finish,
    go,
    medians,
    ours,
    peers,
    ratio_at_most,
    run_json,
)
from bench.runtime.control_plane import ControlPlane, control_plane
from bench.runtime.objects import pod_template, workspace_template

FEW, SMALL, LARGE = 500, 5_000, 50_000
"""Objects. A kopf index is asked for few: its time grows faster than their number (minutes for 5,000)."""
TIME, MEMORY = 1.0, 0.5
"""Times of what the Go peer needs."""
POD_KIB, METADATA_KIB = 15.0, 2.0
KEPT = "managed fields kept"
"""Our caches drop managed fields as they come and controller-runtime's keep them; this keeps what the peer keeps."""


def contenders(plane: ControlPlane, form: str, count: int) -> dict[str, Callable[[], Row]]:
    """Every reader of one kind of object, by name."""
    kubeconfig = plane.kubeconfig

    def own(form: str, mode: str) -> Row:
        return _complete(ours("reader", form, mode, kubeconfig), count)

    def other(form: str, content: str, watch_list: bool, *more: str) -> Row:
        flags = (f"--kubeconfig={kubeconfig}", f"--form={form}", f"--content={content}", *more)
        return _complete(go("sync", *flags, watch_list=watch_list), count)

    found: dict[str, Callable[[], Row]] = {
        "kaito watchlist": partial(own, form, "watchlist"),
        "kaito list": partial(own, form, "list"),
        "go json watchlist": partial(other, form, "json", True),
        "go json list": partial(other, form, "json", False),
    }
    if form == "pods":
        found[f"kaito list, {KEPT}"] = partial(own, "pods-whole", "list")
        found["go json list, managed fields dropped"] = partial(other, form, "json", False, "--strip")
        found["kaito metadata"] = partial(own, "pods-metadata", "watchlist")
        found["go metadata"] = partial(other, "pods-metadata", "json", True)
        found["go protobuf watchlist"] = partial(other, form, "protobuf", True)
    else:
        found["go unstructured"] = partial(other, "workspaces-unstructured", "json", True)
    return found


def python_peer(plane: ControlPlane, label: str, reader: str, count: int) -> Results:
    """One run of a library that lives in a virtual environment of its own. No limit rests on it: a failure is told, and
    nothing is reported of it."""
    python, script = peers() / "venv/bin/python", ROOT / "bench/runtime/python_peers.py"
    try:
        return {label: [_complete(run_json([python, script, reader, plane.kubeconfig, str(count)]), count)]}
    except (SystemExit, subprocess.TimeoutExpired) as error:
        print(f"  {label}: {error}", file=sys.stderr, flush=True)
        return {}


def _complete(row: Row, count: int) -> Row:
    if row["objects"] != count:
        raise SystemExit(f"{row['objects']} objects read instead of {count}")
    growth = row["peak_mib"] - row["idle_mib"]
    kib = (row["after_gc_mib"] - row["idle_mib"]) * 1024 / count
    return {**row, "growth_mib": growth, "kib_per_object": kib}


def limits(label: str, rows: dict[str, list[Row]]) -> list[Limit]:
    """Those of one kind and number of objects."""
    middle = {name: medians(each) for name, each in rows.items()}
    found = []
    for mode in ("watchlist", "list"):
        own, peer = middle[f"kaito {mode}"], middle[f"go json {mode}"]
        found += [
            ratio_at_most(f"{label}, {mode}: seconds", own["seconds"], peer["seconds"], TIME),
            ratio_at_most(f"{label}, {mode}: peak - idle MiB", own["growth_mib"], peer["growth_mib"], MEMORY),
        ]
    if f"kaito list, {KEPT}" in middle:
        own, peer = middle[f"kaito list, {KEPT}"], middle["go json list"]
        seconds, growth = f"{label}, list, {KEPT}: seconds", f"{label}, list, {KEPT}: peak - idle MiB"
        found += [
            ratio_at_most(seconds, own["seconds"], peer["seconds"], TIME),
            ratio_at_most(growth, own["growth_mib"], peer["growth_mib"], MEMORY),
            at_most(f"{label}, {KEPT}: after gc, per pod", own["kib_per_object"], POD_KIB, "KiB"),
        ]
    if "kaito metadata" in middle:
        own = middle["kaito watchlist"]
        found += [
            at_most(f"{label}: after gc, per pod", own["kib_per_object"], POD_KIB, "KiB"),
            at_most(
                f"{label}: after gc, metadata only",
                middle["kaito metadata"]["kib_per_object"],
                METADATA_KIB,
                "KiB",
            ),
        ]
    return found


def measure(quick: bool, runs: int) -> tuple[Results, list[Limit], Row]:
    results: Results = {}
    found: list[Limit] = []
    with control_plane() as plane:
        plane.install_crds()

        def step(label: str, form: str, count: int, times: int) -> None:
            print(f"{label}:", file=sys.stderr, flush=True)
            rows = alternate(times, contenders(plane, form, count))
            found.extend(limits(label, rows))
            results.update((f"{label}: {name}", each) for name, each in rows.items())

        plane.load("workspace", workspace_template(), 0, SMALL)
        step("5,000 Workspaces", "workspaces", SMALL, runs)
        plane.load("pod", pod_template(), 0, FEW)
        size = len(plane.request("GET", "/api/v1/namespaces/default/pods/worker-000000"))
        results |= python_peer(plane, "500 pods: kopf index", "kopf", FEW)
        plane.load("pod", pod_template(), FEW, SMALL)
        step("5,000 pods", "pods", SMALL, runs)
        results |= python_peer(plane, "5,000 pods: kubernetes_asyncio typed", "kubernetes_asyncio", SMALL)
        if not quick:
            plane.load("pod", pod_template(), SMALL, LARGE)
            step("50,000 pods", "pods", LARGE, max(1, runs - 2))
        notes = {"kube_apiserver": plane.version(), "bytes_per_pod": size}
    return results, found, notes


def main() -> None:
    chosen = arguments(__doc__).parse_args()
    results, found, notes = measure(chosen.quick, chosen.runs or (1 if chosen.quick else 5))
    finish("sync", results, found, notes)


if __name__ == "__main__":
    main()
