"""The other Python libraries doing what the benches ask for. Runs in a virtual environment of its own, without KAITO.

python_peers.py kubernetes_asyncio|kopf KUBECONFIG COUNT
"""

import asyncio
import gc
import json
import logging
import os
import sys
import time
from pathlib import Path


def memory(field="VmRSS"):
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def result(count, idle, seconds):
    row = {"objects": count, "seconds": seconds, "idle_mib": idle, "peak_mib": memory("VmHWM")}
    row["synced_mib"] = memory()
    gc.collect()
    return {**row, "after_gc_mib": memory()}


async def typed_list(kubeconfig, expected):
    from kubernetes_asyncio import client, config

    await config.load_kube_config(kubeconfig)
    async with client.ApiClient() as api:
        await client.VersionApi(api).get_code()
        core = client.CoreV1Api(api)
        idle, started, items, token = memory(), time.perf_counter(), [], None
        while True:
            page = await core.list_pod_for_all_namespaces(limit=500, _continue=token)
            items += page.items
            token = page.metadata._continue
            if not token:
                return result(len(items), idle, time.perf_counter() - started)


async def kopf_index(kubeconfig, expected):
    import kopf

    os.environ["KUBECONFIG"] = kubeconfig
    logging.disable(logging.CRITICAL)
    registry = kopf.OperatorRegistry()
    done = asyncio.Event()
    held = {}

    @kopf.on.login(registry=registry)
    def login(**kwargs):
        return kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.startup(registry=registry)
    def configure(settings, **_):
        settings.posting.enabled = False

    @kopf.index("pods", registry=registry)
    def pods(body, name, **_):
        held[name] = None
        if len(held) == expected:
            done.set()
        return {name: body}

    idle, started = memory(), time.perf_counter()
    running = asyncio.ensure_future(kopf.operator(registry=registry, clusterwide=True, standalone=True))
    await done.wait()
    row = result(len(held), idle, time.perf_counter() - started)
    running.cancel()
    await asyncio.wait([running])
    return row


async def kopf_idle(kubeconfig, seconds):
    import kopf

    os.environ["KUBECONFIG"] = kubeconfig
    logging.disable(logging.CRITICAL)
    registry = kopf.OperatorRegistry()
    ready = asyncio.Event()

    @kopf.on.login(registry=registry)
    def login(**kwargs):
        return kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.startup(registry=registry)
    def configure(settings, **_):
        settings.posting.enabled = False

    @kopf.on.event("configmaps", registry=registry)
    def seen(**_):
        ready.set()

    running = asyncio.ensure_future(kopf.operator(registry=registry, clusterwide=True, standalone=True))
    await ready.wait()
    await asyncio.sleep(seconds)
    row = {"idle_mib": memory(), "peak_mib": memory("VmHWM")}
    running.cancel()
    await asyncio.wait([running])
    return row


READERS = {"kubernetes_asyncio": typed_list, "kopf": kopf_index, "kopf-idle": kopf_idle}

if __name__ == "__main__":
    name, kubeconfig, number = sys.argv[1:]
    print(json.dumps(asyncio.run(READERS[name](kubeconfig, int(number)))))
