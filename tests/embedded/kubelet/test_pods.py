"""Pods as real processes against the embedded API server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kaito.runtime.errors import NotFound
from kaito.runtime.resources import CONFIGMAPS, EVENTS, LEASES, NODES, PODS, SECRETS
from support.kubelet_cluster import Cluster, node, python, shell

pytestmark = pytest.mark.processes

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        code = 500 if os.path.exists(os.environ['KAITO_MOUNT_ROOT'] + '/tmp/sick') else 200
        self.send_response(code); self.end_headers(); self.wfile.write(b'hello')
    def log_message(self, *args): pass
address = (os.environ['KAITO_BIND_HOST'], int(os.environ['KAITO_PORT']))
print('serving', flush=True)
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


def server(name: str = "main", **more: Any) -> dict[str, Any]:
    ports = [{"name": "http", "containerPort": 8080}]
    return python(name, SERVER, ports=ports, volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}], **more)


TMP = [{"name": "tmp", "emptyDir": {}}]


async def reasons(cluster: Cluster, name: str) -> list[str]:
    events = await cluster.client.list(EVENTS, "default", field_selector=f"involvedObject.name={name}")
    return [event["reason"] for event in events]


async def log(cluster: Cluster, *words: str) -> str:
    code, out, err = await cluster.kubectl("logs", *words)
    assert (code, err) == (0, "")
    return out


async def test_a_pod_that_ends(cluster: Cluster) -> None:
    await cluster.run_pod("hello", [python("main", "print('hi there')")], restartPolicy="Never")
    pod = await cluster.phase("hello", "Succeeded")
    status = pod["status"]
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    assert status["podIP"].startswith("10.244.")
    assert status["hostIP"] == "127.0.0.1"
    assert await log(cluster, "hello") == "hi there\n"

    async def all_events() -> bool:
        return {"Pulled", "Created", "Started"} <= set(await reasons(cluster, "hello"))

    await cluster.until(all_events, what="the usual events")


async def test_init_containers_share_volumes_with_the_main_one(cluster: Cluster) -> None:
    mounts = [{"name": "tmp", "mountPath": "/data"}]
    await cluster.run_pod(
        "chain",
        [shell("main", "cat $KAITO_MOUNT_ROOT/data/log; exit 4", volumeMounts=mounts)],
        initContainers=[
            shell("one", "echo one >> $KAITO_MOUNT_ROOT/data/log", volumeMounts=mounts),
            shell("two", "echo two >> $KAITO_MOUNT_ROOT/data/log", volumeMounts=mounts),
        ],
        volumes=TMP,
        restartPolicy="Never",
    )
    pod = await cluster.phase("chain", "Failed")
    states = [s["state"]["terminated"]["exitCode"] for s in pod["status"]["initContainerStatuses"]]
    assert states == [0, 0]
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (4, "Error")
    assert await log(cluster, "chain", "-c", "main") == "one\ntwo\n"


async def test_a_failing_init_container_fails_the_pod(cluster: Cluster) -> None:
    await cluster.run_pod(
        "broken", [shell("main", "true")], initContainers=[shell("init", "exit 3")], restartPolicy="Never"
    )
    pod = await cluster.phase("broken", "Failed")
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


async def test_crash_loop(cluster: Cluster) -> None:
    await cluster.run_pod("crash", [shell("main", "echo run; exit 7")])
    pod = await cluster.waiting("crash", "CrashLoopBackOff")
    status = pod["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1, "the first restart is immediate, the second one waits"
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert "back-off 10s restarting failed container=main" in status["state"]["waiting"]["message"]
    assert pod["status"]["phase"] == "Running"
    assert await log(cluster, "crash", "--previous") == "run\n"


async def test_on_failure_restarts_until_it_works(cluster: Cluster) -> None:
    script = "test -e $KAITO_MOUNT_ROOT/tmp/seen && exit 0; touch $KAITO_MOUNT_ROOT/tmp/seen; exit 1"
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    await cluster.run_pod(
        "again", [shell("main", script, volumeMounts=mounts)], volumes=TMP, restartPolicy="OnFailure"
    )
    pod = await cluster.phase("again", "Succeeded")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1


async def test_unknown_images_cannot_be_pulled(cluster: Cluster) -> None:
    await cluster.run_pod("web", [{"name": "main", "image": "nginx:1.27"}])
    pod = await cluster.waiting("web", "ErrImagePull")
    message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert "no container engine" in message
    assert "it knows only: test/model, test/python, test/any, curlimages/curl" in message
    pod = await cluster.waiting("web", "ImagePullBackOff")
    assert pod["status"]["phase"] == "Pending"
    message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert message.startswith('Back-off pulling image "nginx:1.27": this node has no container engine; ')


async def test_a_command_the_image_does_not_have(cluster: Cluster) -> None:
    container = {"name": "main", "image": "curlimages/curl", "command": ["sh", "-c", "true"]}
    await cluster.run_pod("sh", [container], restartPolicy="Never")
    pod = await cluster.phase("sh", "Failed")
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "the commands of this one are: curl" in ended["message"]


async def test_environment_and_volumes(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").write_text("from the host")
    await cluster.client.create(
        CONFIGMAPS, {"metadata": {"name": "cm", "namespace": "default"}, "data": {"key": "from the map"}}
    )
    await cluster.client.create(
        SECRETS,
        {"metadata": {"name": "s", "namespace": "default"}, "stringData": {"token": "from the secret"}},
    )
    code = """
import os
root = os.environ['KAITO_MOUNT_ROOT']
print(open(root + '/cfg/key').read(), '|', open(root + '/host/file').read(), '|', os.environ['TOKEN'])
print(os.environ['IP'], os.environ['ARG'], oct(os.stat(root + '/sec/token').st_mode & 0o777))
print(os.getcwd() == root + '/work', root.startswith(os.path.dirname(os.environ['HOME'])))
"""
    await cluster.run_pod(
        "all",
        [
            python(
                "main",
                code,
                workingDir="/work",
                env=[
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
                    {"name": "ARG", "value": "ip=$(IP)"},
                ],
                volumeMounts=[
                    {"name": "cfg", "mountPath": "/cfg"},
                    {"name": "host", "mountPath": "/host", "readOnly": True},
                    {"name": "sec", "mountPath": "/sec"},
                ],
            )
        ],
        volumes=[
            {"name": "cfg", "configMap": {"name": "cm"}},
            {"name": "sec", "secret": {"secretName": "s"}},
            {"name": "host", "hostPath": {"path": str(tmp_path / "host"), "type": "Directory"}},
        ],
        restartPolicy="Never",
    )
    pod = await cluster.phase("all", "Succeeded")
    address = pod["status"]["podIP"]
    assert await log(cluster, "all") == (
        f"from the map | from the host | from the secret\n{address} ip={address} 0o600\nTrue True\n"
    )


async def test_a_missing_config_map_holds_the_pod_until_it_is_there(cluster: Cluster) -> None:
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "x"}}}]
    await cluster.run_pod("waits", [shell("main", "echo $X", env=env)], restartPolicy="Never")
    pod = await cluster.waiting("waits", "CreateContainerConfigError")
    waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["message"] == 'configmap "late" not found'
    await cluster.client.create(
        CONFIGMAPS, {"metadata": {"name": "late", "namespace": "default"}, "data": {"x": "there"}}
    )
    await cluster.phase("waits", "Succeeded")
    assert await log(cluster, "waits") == "there\n"


async def test_unsupported_volumes_are_refused_by_name(cluster: Cluster) -> None:
    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
    await cluster.run_pod("pvc", [shell("main", "true")], volumes=[claim])

    async def failed() -> bool:
        return "FailedMount" in await reasons(cluster, "pvc")

    await cluster.until(failed, what="a FailedMount event")
    events = await cluster.client.list(EVENTS, "default", field_selector="involvedObject.name=pvc")
    assert "type persistentVolumeClaim is not implemented" in events[0]["message"]
    await cluster.client.delete(PODS, "pvc", "default")
    await cluster.gone("pvc")


async def test_probes_make_ready_and_restart(cluster: Cluster) -> None:
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2}
    container = server(
        startupProbe={**probe, "failureThreshold": 30},
        readinessProbe=probe,
        livenessProbe=probe,
        lifecycle={},
    )
    await cluster.run_pod("web", [container], volumes=TMP, terminationGracePeriodSeconds=1)
    pod = await cluster.ready("web")
    assert pod["status"]["containerStatuses"][0]["started"] is True
    code, _, err = await cluster.kubectl("exec", "web", "--", "sh", "-c", "touch $KAITO_MOUNT_ROOT/tmp/sick")
    assert (code, err) == (0, "")

    async def restarted() -> bool:
        return bool((await cluster.pod("web"))["status"]["containerStatuses"][0]["restartCount"])

    await cluster.until(restarted, what="a restart after failed liveness probes")
    assert {"Unhealthy", "Killing"} <= set(await reasons(cluster, "web"))


async def test_exec_and_tcp_probes(cluster: Cluster) -> None:
    exec_probe = {"exec": {"command": ["sh", "-c", "test -e $KAITO_MOUNT_ROOT/tmp/go"]}, "periodSeconds": 1}
    containers = [
        server(readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1}),
        shell(
            "other",
            "sleep 100",
            readinessProbe=exec_probe,
            volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],
        ),
    ]
    await cluster.run_pod("two", containers, volumes=TMP, terminationGracePeriodSeconds=0)

    async def half() -> bool:
        status = (await cluster.pod("two"))["status"]
        return [s["ready"] for s in status.get("containerStatuses", ())] == [True, False]

    await cluster.until(half, what="one ready and one not")
    await cluster.kubectl("exec", "two", "-c", "other", "--", "sh", "-c", "touch $KAITO_MOUNT_ROOT/tmp/go")
    await cluster.ready("two")


async def test_deletion_is_graceful_and_takes_the_directory_along(cluster: Cluster) -> None:
    script = "trap 'echo bye > $OUT; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    out = cluster.directory / "bye"
    pod = await cluster.run_pod(
        "polite",
        [shell("main", script, env=[{"name": "OUT", "value": str(out)}])],
        terminationGracePeriodSeconds=20,
    )

    async def trapped() -> bool:
        return (await cluster.kubectl("logs", "polite"))[1] == "ready\n"

    await cluster.until(trapped, what="the trap is set")
    directory = cluster.directory / "kubelet/pods" / pod["metadata"]["uid"]
    assert directory.is_dir()
    await cluster.client.delete(PODS, "polite", "default")
    await cluster.gone("polite")
    assert out.read_text() == "bye\n"

    async def removed() -> bool:
        return not directory.exists()

    await cluster.until(removed, what="the pod's directory is deleted")


async def test_who_ignores_sigterm_is_killed_after_the_grace_period(cluster: Cluster) -> None:
    script = "trap '' TERM; echo $$$$; while true; do sleep 0.1; done"
    await cluster.run_pod("stubborn", [shell("main", script)], terminationGracePeriodSeconds=1)

    async def pid() -> int:
        return int((await cluster.kubectl("logs", "stubborn"))[1].strip() or "0")

    number = await cluster.until(pid, what="the process runs")
    await cluster.client.delete(PODS, "stubborn", "default")
    await cluster.gone("stubborn")
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


async def test_forced_deletion_ends_the_process(cluster: Cluster) -> None:
    await cluster.run_pod(
        "forced", [shell("main", "trap '' TERM; echo $$$$; while true; do sleep 0.1; done")]
    )

    async def pid() -> int:
        return int((await cluster.kubectl("logs", "forced"))[1].strip() or "0")

    number = await cluster.until(pid, what="the process runs")
    await cluster.client.delete(PODS, "forced", "default", grace_period=0)
    with pytest.raises(NotFound):
        await cluster.pod("forced")

    async def dead() -> bool:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        return False

    await cluster.until(dead, what="the process is gone")


async def test_active_deadline(cluster: Cluster) -> None:
    await cluster.run_pod(
        "slow", [shell("main", "sleep 100")], activeDeadlineSeconds=1, terminationGracePeriodSeconds=1
    )
    pod = await cluster.phase("slow", "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"


async def test_termination_message(cluster: Cluster) -> None:
    await cluster.run_pod(
        "words",
        [
            shell(
                "file", "log=$KAITO_MOUNT_ROOT/dev/termination-log; [ -f $log ] && echo from the file > $log"
            ),
            shell("log", "echo from the log; exit 1", terminationMessagePolicy="FallbackToLogsOnError"),
        ],
        restartPolicy="Never",
    )
    pod = await cluster.phase("words", "Failed")
    states = [s["state"]["terminated"]["message"] for s in pod["status"]["containerStatuses"]]
    assert states == ["from the file\n", "from the log\n"]


async def test_hooks(cluster: Cluster) -> None:
    out = cluster.directory / "hooks"
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", f"echo started >> {out}"]}},
        "preStop": {"exec": {"command": ["sh", "-c", f"echo stopping >> {out}"]}},
    }
    await cluster.run_pod("hooks", [shell("main", "sleep 100", lifecycle=hooks)])
    await cluster.ready("hooks")
    await cluster.client.delete(PODS, "hooks", "default")
    await cluster.gone("hooks")
    assert out.read_text() == "started\nstopping\n"


async def test_node_status_and_lease(cluster: Cluster) -> None:
    node_1 = await cluster.client.get(NODES, "node-1")
    status = node_1["status"]
    assert status["capacity"]["nvidia.com/gpu"] == "2"
    assert status["allocatable"]["pods"] == "110"
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == cluster.kubelet.port
    assert {"type": "InternalIP", "address": "127.0.0.1"} in status["addresses"]
    version = node_1["metadata"]["resourceVersion"]

    async def lease() -> dict[str, Any] | None:
        try:
            return await cluster.client.get(LEASES, "node-1", "kube-node-lease")
        except NotFound:
            return None

    found = await cluster.until(lease, what="a Lease of the node")
    assert found["metadata"]["ownerReferences"][0]["name"] == "node-1"
    assert (await cluster.client.get(NODES, "node-1"))["metadata"]["resourceVersion"] == version, "no churn"


async def test_pods_of_a_node_that_is_gone(cluster: Cluster) -> None:
    await cluster.client.create(NODES, node("node-2"))
    await cluster.run_pod("lost", [shell("main", "sleep 100")], nodeName="node-2")
    await cluster.ready("lost")
    await cluster.client.delete(NODES, "node-2")
    await cluster.gone("lost")


async def test_a_settled_pod_costs_no_requests(cluster: Cluster) -> None:
    probe = {"httpGet": {"port": 8080}, "periodSeconds": 1}
    await cluster.run_pod(
        "calm", [server(readinessProbe=probe)], volumes=TMP, terminationGracePeriodSeconds=0
    )
    version = (await cluster.ready("calm"))["metadata"]["resourceVersion"]
    await cluster.clock.sleep(2.5)
    assert (await cluster.pod("calm"))["metadata"]["resourceVersion"] == version


async def test_simulated_pods(cluster: Cluster) -> None:
    await cluster.client.create(NODES, node("sim", **{"kaito.sh/simulated-pods": "true"}))
    image = {"name": "main", "image": "nginx"}
    await cluster.run_pod("fake", [image], nodeName="sim", initContainers=[{**image, "name": "init"}])
    pod = await cluster.ready("fake")
    assert pod["metadata"]["annotations"]["kaito.sh/simulated-pods"] == "true"
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("10.245.")
    code, _, err = await cluster.kubectl("logs", "fake")
    assert code == 1
    assert "pod fake is simulated: it runs no process" in err
    await cluster.client.delete(PODS, "fake", "default")
    await cluster.gone("fake")


async def test_images_bring_files_environment_and_the_name_of_their_stand_in(cluster: Cluster) -> None:
    weights = cluster.directory / "weights"
    weights.mkdir()
    (weights / "model").write_text("weights")
    code = "import os; print(open(os.environ['KAITO_MOUNT_ROOT'] + '/opt/weights/model').read(), os.environ['ENGINE'])"
    container = {**python("main", code), "image": "test/model:1"}
    await cluster.run_pod("model", [container], restartPolicy="Never")
    pod = await cluster.phase("model", "Succeeded")
    assert pod["metadata"]["annotations"]["kaito.sh/stand-in-weights"] == "tiny"
    assert await log(cluster, "model") == "weights small\n"


async def test_illegal_image_names(cluster: Cluster) -> None:
    await cluster.run_pod("shout", [{"name": "main", "image": "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"}])
    pod = await cluster.waiting("shout", "InvalidImageName")
    message = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert "the repository must be lower case" in message


async def test_a_sidecar_runs_beside_and_ends_with_the_pod(cluster: Cluster) -> None:
    sidecar = shell("side", "echo up; sleep 1000", restartPolicy="Always")
    await cluster.run_pod(
        "pair",
        [shell("main", "sleep 0.2; exit 0")],
        initContainers=[sidecar],
        restartPolicy="Never",
        terminationGracePeriodSeconds=1,
    )
    pod = await cluster.phase("pair", "Succeeded")

    async def over() -> bool:
        status = (await cluster.pod("pair"))["status"]["initContainerStatuses"][0]
        return "terminated" in status["state"]

    await cluster.until(over, what="the sidecar has ended")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
