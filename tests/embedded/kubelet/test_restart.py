"""The kubelet is killed: nothing of its containers is left, and the next one takes over what can be taken over."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.kubelet_cluster import Cluster, shell

pytestmark = pytest.mark.processes

PROGRAM = Path(__file__).parents[2] / "support/kubelet_process.py"


@asynccontextmanager
async def kubelet_process(cluster: Cluster) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        str(cluster.kubeconfig),
        str(cluster.directory / "kubelet"),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(PROGRAM.parents[1]), *sys.path]),
            "TMPDIR": str(cluster.directory),
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def numbers(cluster: Cluster, path: Path, count: int) -> list[int]:
    async def read() -> list[int] | None:
        found = [int(word) for word in path.read_text().split()] if path.exists() else []  # noqa: ASYNC240
        return found if len(found) == count else None

    result: list[int] = await cluster.until(read, what=f"{count} process ids in {path.name}")
    return result


async def dead(cluster: Cluster, pids: list[int]) -> None:
    async def check() -> bool:
        return not any(map(alive, pids))

    await cluster.until(check, what=f"the end of {pids}")


# A grandchild in the same group, one that ignores SIGTERM, and one in a session of its own.
FAMILY = """
echo $$$$ >> $OUT
(trap '' TERM; echo $(sh -c 'echo $PPID') >> $OUT; while true; do sleep 0.2; done) &
python3 -c "import os,time; os.setsid(); print(os.getpid(), file=open(os.environ['OUT'], 'a')); time.sleep(1000)" &
wait
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_outlives_the_kubelet(bare_cluster: Cluster, number: signal.Signals) -> None:
    cluster = bare_cluster
    out = cluster.directory / "pids"
    async with kubelet_process(cluster) as process:
        await cluster.node_ready()
        await cluster.run_pod("family", [shell("main", FAMILY, env=[{"name": "OUT", "value": str(out)}])])
        pids = await numbers(cluster, out, 3)
        assert all(map(alive, pids))
        assert list(cluster.directory.glob("kaito-pod-*"))
        process.send_signal(number)
        await process.wait()
    if number == signal.SIGTERM:  # what a killed one leaves, the next one cleans up
        assert not list(cluster.directory.glob("kaito-pod-*"))
    if sys.platform != "linux":
        del pids[2]  # only Linux lets the starter of a program find what left its session
    await dead(cluster, pids)


async def test_what_leaves_the_session_ends_with_its_container(cluster: Cluster) -> None:
    out = cluster.directory / "pids"
    await cluster.run_pod(
        "family",
        [shell("main", FAMILY, env=[{"name": "OUT", "value": str(out)}])],
        terminationGracePeriodSeconds=0,
    )
    pids = await numbers(cluster, out, 3)
    await cluster.remove("family")
    if sys.platform != "linux":
        del pids[2]
    await dead(cluster, pids)


async def test_the_next_kubelet_takes_over(bare_cluster: Cluster) -> None:
    cluster = bare_cluster
    mounts = {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    volumes = [{"name": "tmp", "emptyDir": {}}]
    script = "echo run >> $KAITO_MOUNT_ROOT/tmp/runs; cat $KAITO_MOUNT_ROOT/tmp/runs; sleep 1000"
    async with kubelet_process(cluster) as process:
        await cluster.node_ready()
        await cluster.run_pod("always", [shell("main", script, **mounts)], volumes=volumes)
        await cluster.run_pod("never", [shell("main", "sleep 1000")], restartPolicy="Never")
        await cluster.run_pod("done", [shell("main", "true")], restartPolicy="Never")
        doomed = await cluster.run_pod("doomed", [shell("main", "sleep 1000")])
        address = (await cluster.ready("always"))["status"]["podIP"]
        await cluster.ready("never")
        await cluster.ready("doomed")
        ended = await cluster.phase("done", "Succeeded")
        process.kill()
        await process.wait()
    await cluster.remove("doomed", grace_period=0)
    async with kubelet_process(cluster):
        await cluster.phase("never", "Failed")

        async def again() -> bool:
            status = (await cluster.pod("always"))["status"]["containerStatuses"][0]
            return status["restartCount"] == 1 and "running" in status["state"]

        await cluster.until(again, what="the container runs again")
        pod = await cluster.pod("always")
        assert pod["status"]["podIP"] == address
        last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "ContainerStatusUnknown")

        async def both() -> bool:
            return (await cluster.kubectl("logs", "always"))[1] == "run\nrun\n"

        await cluster.until(both, what="the volume has survived")
        assert (await cluster.kubectl("logs", "always", "--previous"))[1] == "run\n"
        assert await cluster.pod("done") == ended, "what is over is left alone"
        left = {path.name for path in (cluster.directory / "kubelet/pods").iterdir()}
        assert doomed["metadata"]["uid"] not in left
