"""kubectl looks: discovery, get in its variants, describe, explain, events, watch, wait."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kaito.runtime.clock import LoopClock
from support.apiserver import Kubectl, widget, widget_definition

pytestmark = [pytest.mark.kubectl, pytest.mark.needs("api")]


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "example.com/app:1"}]},
    }


async def set_status(kubectl: Kubectl, target: str, patch: dict[str, Any]) -> None:
    await kubectl("patch", target, "--subresource", "status", "--type", "merge", "-p", json.dumps(patch))


async def test_cluster_documents(kubectl: Kubectl) -> None:
    assert "Server Version: v1." in await kubectl("version")
    assert "is running at" in await kubectl("cluster-info")
    resources = await kubectl("api-resources", "-o", "name")
    wanted = {"pods", "deployments.apps", "jobs.batch", "leases.coordination.k8s.io"}
    assert wanted <= set(resources.split())
    assert {"v1", "apps/v1"} <= set((await kubectl("api-versions")).split())
    assert (await kubectl("get", "--raw", "/readyz")).strip() == "ok"


async def test_who_am_i_and_what_may_i_do(kubectl: Kubectl) -> None:
    assert (await kubectl("auth", "can-i", "create", "pods")).strip() == "yes"
    assert "kubernetes-admin" in await kubectl("auth", "whoami")
    assert "*.*" in await kubectl("auth", "can-i", "--list")


async def test_get_variants(kubectl: Kubectl) -> None:
    for name in ("a", "b"):
        await kubectl("create", "-f", "-", stdin=pod(name, app=name))
    header, *rows = await kubectl.rows("get", "pods")
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[:4] for row in rows] == [["a", "0/1", "Pending", "0"], ["b", "0/1", "Pending", "0"]]
    wide = (await kubectl.rows("get", "pods", "-o", "wide"))[0]
    assert wide[5:] == ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    assert await kubectl("get", "pods", "-o", "name", "-l", "app=b") == "pod/b\n"
    assert await kubectl("get", "pods", "--field-selector", "metadata.name=a", "-o", "name") == "pod/a\n"
    assert (
        await kubectl("get", "pod", "a", "-o", "jsonpath={.spec.containers[0].image}") == "example.com/app:1"
    )
    assert "app=a" in await kubectl("get", "pods", "--show-labels")
    assert (await kubectl.rows("get", "pods", "-L", "app"))[1][-1] == "a"
    (everywhere,) = {tuple(row[1:3]) for row in await kubectl.rows("get", "pods", "-A") if row[1] == "a"}
    assert everywhere == ("a", "0/1")
    assert "kind: Pod" in await kubectl("get", "pod/a", "-o", "yaml")
    assert (await kubectl.rows("get", "pods", "--sort-by", ".metadata.name"))[1][0] == "a"
    custom = await kubectl("get", "pods", "-o", "custom-columns=N:.metadata.name,I:.spec.containers[0].image")
    assert custom.split() == ["N", "I", "a", "example.com/app:1", "b", "example.com/app:1"]
    assert await kubectl("get", "pods", "--chunk-size", "1", "-o", "name") == "pod/a\npod/b\n"
    assert 'pods "zzz" not found' in await kubectl.fails("get", "pod", "zzz")
    assert "No resources found" in (await kubectl.run("get", "deployments")).err
    await kubectl("create", "service", "clusterip", "s", "--tcp=80")
    both = await kubectl("get", "pods,services", "-o", "name")
    assert both.split() == ["pod/a", "pod/b", "service/s"]
    assert "pod/a" in await kubectl("get", "all")


async def test_namespaces_nodes_and_services_are_shown(kubectl: Kubectl) -> None:
    namespaces = {row[0]: row[1] for row in (await kubectl.rows("get", "namespaces"))[1:]}
    first = dict.fromkeys(("default", "kube-node-lease", "kube-public", "kube-system"), "Active")
    assert first.items() <= namespaces.items()
    service = (await kubectl.rows("get", "service", "kubernetes", "-n", "default"))[1]
    assert service[:5] == ["kubernetes", "ClusterIP", "10.96.0.1", "<none>", "443/TCP"]
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/gpu": ""}},
    }
    await kubectl("create", "-f", "-", stdin=node)
    ready = {
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}}
    }
    await set_status(kubectl, "node/n", ready)
    assert (await kubectl.rows("get", "nodes", "n"))[1][:3] == ["n", "Ready", "gpu"]
    assert "Conditions:" in await kubectl("describe", "node", "n")


async def test_custom_columns_of_a_definition(widgets: Kubectl) -> None:
    await widgets("apply", "-f", "-", stdin=widget("one", size=5, note="hello"))
    conditions = [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]
    await set_status(widgets, "widget/one", {"status": {"conditions": conditions}})
    header, row = await widgets.rows("get", "wd")
    assert header == ["NAME", "SIZE", "READY", "AGE"]
    assert row[:3] == ["one", "5", "True"]
    header, row = await widgets.rows("get", "widget", "one", "-o", "wide")
    assert (header[3], row[3]) == ("NOTE", "hello")
    assert "widget.example.com/one" in await widgets("get", "all", "-o", "name")
    assert "example.com/v1alpha1" in await widgets("get", "widgets.v1alpha1.example.com", "one", "-o", "yaml")
    described = await widgets("describe", "widget", "one")
    assert "Size:" in described
    assert "Events:" in described


async def test_explain(widgets: Kubectl) -> None:
    # A real server publishes the schema of a new kind with some delay.
    text = await widgets.until("explain", "widget.spec", says="What is wanted.")
    assert "size" in text
    assert "How big." in await widgets("explain", "widget.spec.size")
    assert "FIELDS:" in await widgets("explain", "deployment.spec.template.spec.containers")
    assert "spec" in await widgets(
        "explain", "widgets", "--recursive", "--api-version", "example.com/v1alpha1"
    )


async def test_events_of_an_object(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=pod("a"))
    uid, space = (
        await kubectl("get", "pod", "a", "-o", "jsonpath={.metadata.uid} {.metadata.namespace}")
    ).split()
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "a-"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "a",
            "namespace": space,
            "uid": uid,
        },
        "type": "Warning",
        "reason": "BackOff",
        "message": "it fell over",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
        "source": {"component": "tester"},
    }
    await kubectl("create", "-f", "-", stdin=event)
    for args in (["get", "events"], ["events"], ["events", "--for", "pod/a"], ["describe", "pod", "a"]):
        assert "it fell over" in await kubectl(*args)
    assert "it fell over" not in await kubectl("events", "--types", "Normal")


async def test_watch_prints_each_change(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=pod("a"))
    process = await kubectl.start("get", "pods", "-w")
    assert process.stdout is not None
    seen: list[str] = []

    async def until(word: str) -> None:
        assert process.stdout is not None
        async with LoopClock().timeout(20):
            while word not in " ".join(seen):
                seen.append((await process.stdout.readline()).decode())

    try:
        await until("a ")
        await kubectl("create", "-f", "-", stdin=pod("b"))
        await until("b ")
        await set_status(kubectl, "pod/b", {"status": {"phase": "Failed"}})
        await until("Failed")
        assert [line.split()[0] for line in seen] == ["NAME", "a", "b", "b"]
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.parametrize(
    ("condition", "change"),
    [
        ("condition=Ready", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        ("jsonpath={.status.phase}=Running", {"status": {"phase": "Running"}}),
    ],
)
async def test_wait_sees_the_change(kubectl: Kubectl, condition: str, change: dict[str, Any]) -> None:
    await kubectl("create", "-f", "-", stdin=pod("a"))
    waiting = asyncio.ensure_future(kubectl("wait", f"--for={condition}", "pod/a", "--timeout=60s"))
    await set_status(kubectl, "pod/a", change)
    assert "condition met" in await waiting


async def test_wait_for_creation_and_deletion(kubectl: Kubectl) -> None:
    coming = asyncio.ensure_future(kubectl("wait", "--for=create", "pod/a", "--timeout=60s"))
    await kubectl("create", "-f", "-", stdin=pod("a"))
    assert "condition met" in await coming
    going = asyncio.ensure_future(kubectl("wait", "--for=delete", "pod/a", "--timeout=60s"))
    await kubectl("delete", "pod", "a")
    await going
    await kubectl("create", "configmap", "never")
    assert "timed out" in await kubectl.fails(
        "wait", "--for=condition=Ready", "configmap/never", "--timeout=1s"
    )


async def test_wait_for_a_definition(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=widget_definition())
    await kubectl("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=60s")
    await kubectl("create", "-f", "-", stdin=widget("a"))
