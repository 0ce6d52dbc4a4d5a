"""Pods as real processes against the embedded API server."""

from __future__ import annotations

from support.kubelet_cluster import Cluster, python


async def test_smoke(cluster: Cluster) -> None:
    await cluster.run_pod("hello", [python("main", "print('hi there')")], restartPolicy="Never")
    pod = await cluster.phase("hello", "Succeeded")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    code, out, err = await cluster.kubectl("logs", "hello")
    assert (code, out, err) == (0, "hi there\n", "")
    code, out, err = await cluster.kubectl("get", "pods,nodes", "-o", "wide")
    print(out, err)
