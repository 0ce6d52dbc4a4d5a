"""A user's way with KAITO in a real cluster, from `kubectl apply -k` to `kaito uninstall`.

The tests are the steps of one story, in this order; each needs what the one before has left.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from cluster import images
from cluster.kubectl import Kubectl, KubectlError
from cluster.places import NODE, REGISTRY
from kaito.runtime.clock import LoopClock
from kaito_presets.demo import adapter_path

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLE: Final = ROOT / "examples/inference/kaito_workspace_phi_3.yaml"
WORKSPACE: Final = "workspace-phi-3-mini"
SYSTEM: Final = "kaito-system"
DEPLOYMENTS: Final = ("kaito-operator", "kaito-provisioner")
BUILT: Final = ("operator:0.1.0", "puller:0.1.0", "kaito-phi-3-mini-4k-instruct:0.2.0-transformers-torch2.10")
UPGRADE: Final = "0.1.1"
"""Another name of the same image: a new tag is what makes Deployments roll."""
NODE_LABELS: Final = ("kaito.sh/existing-node=true", "karpenter.sh/do-not-sync-taints=true")
"""The node may be lent, and stays open for the pods that are not the model's: it is the only one."""
QUESTION: Final = json.dumps({"prompt": "What is the capital of France?"})

_before: dict[str, Any] = {}
"""What the cluster was like before KAITO came: `objects` and `node`."""


def install(kubectl: Kubectl, tag: str) -> None:
    """Applies the overlay for nodes that are lent, with our registry, as the guide says."""
    folder = kubectl.places.folder / "install"
    folder.mkdir(exist_ok=True)
    overlay = Path("../") / _relative(ROOT / "manifests/overlays/existing-provisioner", folder.parent)
    (folder / "kustomization.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [str(overlay)],
                "images": [
                    {"name": "kaito/operator", "newName": f"{REGISTRY}/kaito/operator", "newTag": tag}
                ],
                "configMapGenerator": [
                    {
                        "name": "kaito-config",
                        "namespace": SYSTEM,
                        "behavior": "merge",
                        "literals": [f"PRESET_REGISTRY_NAME={REGISTRY}/kaito"],
                    }
                ],
            }
        )
    )
    kubectl("apply", "--server-side", "-k", str(folder))


def _relative(target: Path, start: Path) -> Path:
    return Path(*[".."] * (len(start.parts) - 1), *target.parts[1:])


def rolled_out(kubectl: Kubectl) -> None:
    for name in DEPLOYMENTS:
        kubectl("rollout", "status", f"deployment/{name}", "-n", SYSTEM, "--timeout=170s")


def the_node(kubectl: Kubectl) -> dict[str, Any]:
    """What of the Node is not the kubelet's to write."""
    node = kubectl.get("node", NODE)
    metadata, spec = node["metadata"], node["spec"]
    kept = {key: metadata.get(key) for key in ("labels", "annotations", "finalizers", "ownerReferences")}
    return {**kept, "taints": spec.get("taints"), "uid": metadata["uid"]}


def ready(kubectl: Kubectl) -> bool:
    line = kubectl("get", "workspace", WORKSPACE, "--no-headers").split()
    return line[2:5] == ["True", "True", "True"]


def serving_pods(kubectl: Kubectl) -> dict[str, int]:
    """Uids of the Workspace's pods, with how often their containers were restarted."""
    pods = kubectl.list("pods", "-l", f"kaito.sh/workspace={WORKSPACE}")
    return {
        pod["metadata"]["uid"]: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
        for pod in pods
    }


def cluster_ip(kubectl: Kubectl) -> str:
    return kubectl("get", "svc", WORKSPACE, "-o", "jsonpath={.spec.clusterIPs[0]}")


def leader(kubectl: Kubectl, lease: str) -> str:
    """Name of the pod that holds a lease; empty when nobody does."""
    holder: str = kubectl.get("lease", lease, SYSTEM)["spec"].get("holderIdentity") or ""
    return holder.rpartition("_")[0]


@dataclass
class Load:
    """Questions to /chat through the cluster IP, one after the other."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def load(address: str) -> Iterator[Load]:
    """Asks, as two clients, as long as the block lasts."""
    counted, over = Load(), threading.Event()

    async def client() -> None:
        clock = LoopClock()
        async with aiohttp.ClientSession() as session:
            while not over.is_set():
                try:
                    body = {"prompt": "Hello"}
                    async with session.post(f"http://{address}/chat", json=body) as answer:
                        text = await answer.text()
                        if answer.status != 200 or not json.loads(text)["Result"]:
                            counted.failed.append(f"{answer.status} {text}")
                        counted.answered += 1
                except aiohttp.ClientError as error:
                    counted.failed.append(repr(error))
                await clock.sleep(0.05)

    async def clients() -> None:
        await asyncio.gather(client(), client())

    # The test itself waits for kubectl, so the clients need a thread.
    thread = threading.Thread(target=lambda: asyncio.run(clients()))
    thread.start()
    try:
        yield counted
    finally:
        over.set()
        thread.join()


def kill(kubectl: Kubectl, pod: str) -> None:
    """Kills what runs in a pod, as the kernel does when memory is short: nothing is said, no lease given back."""
    uid = kubectl.get("pod", pod, SYSTEM)["metadata"]["uid"]
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if uid in (process / "cgroup").read_text() and b"kaito" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    assert killed, f"no process of {pod} found"


async def test_kaito_is_installed(kubectl: Kubectl) -> None:
    for name in BUILT:
        images.push(f"{REGISTRY}/kaito/{name}")
    images.push(f"{REGISTRY}/kaito/operator:0.1.0", f"{REGISTRY}/kaito/operator:{UPGRADE}")
    images.push_curl(kubectl.places)
    kubectl("label", "node", NODE, *NODE_LABELS)
    gpu = {"nvidia.com/gpu": "1"}
    status = json.dumps({"status": {"capacity": gpu, "allocatable": gpu}})
    kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", status)
    seen = [kubectl.inventory()]

    def settled() -> bool:
        """A cluster that just started still writes about itself."""
        seen.append(kubectl.inventory())
        return seen[-1] == seen[-2] and any(
            "Lease" in line and "kube-node-lease" in line for line in seen[-1]
        )

    await kubectl.until("nothing is added any more", settled)
    _before.update(objects=seen[-1], node=the_node(kubectl))

    kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/crd-karpenter"))
    kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/crd"))
    install(kubectl, "0.1.0")
    rolled_out(kubectl)
    install(kubectl, "0.1.0")  # may be repeated
    rolled_out(kubectl)


async def test_the_first_example_becomes_ready(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLE))
    await kubectl.until("WORKSPACEREADY is True", lambda: ready(kubectl))
    node = the_node(kubectl)
    assert node["labels"]["node.kubernetes.io/instance-type"] == "Standard_NC6s_v3"
    assert node["labels"]["kaito.sh/workspace"] == WORKSPACE
    assert (node["finalizers"], node["ownerReferences"], node["uid"]) == (None, None, _before["node"]["uid"])


def test_the_model_answers_through_the_cluster_ip(kubectl: Kubectl) -> None:
    out = kubectl(
        *("run", "-i", "--rm", "--restart=Never", "curl", "--image=curlimages/curl", "--"),
        *("curl", "-s", "-X", "POST", f"http://{cluster_ip(kubectl)}/chat"),
        *("-H", "accept: application/json", "-H", "Content-Type: application/json", "-d", QUESTION),
    )
    answer = out[out.index("{") : out.rindex("}") + 1]
    assert json.loads(answer)["Result"] == "The capital of France is Paris."


async def test_an_adapter_on_the_node_is_read_by_the_pod_and_answers(kubectl: Kubectl) -> None:
    """The operator does not see the node's disk; the pod that serves the adapter does."""
    folder = kubectl.places.folder / "adapter"
    shutil.copytree(adapter_path(), folder)
    source = {"name": "pirate", "volumeSource": {"hostPath": {"path": str(folder)}}}

    def patch(adapters: list[Any] | None) -> None:
        change = json.dumps({"inference": {"adapters": adapters}})
        kubectl("patch", "workspace", WORKSPACE, "--type=merge", "-p", change)

    async def answer() -> str:
        async with aiohttp.ClientSession() as session:
            body = json.loads(QUESTION)
            async with session.post(f"http://{cluster_ip(kubectl)}/chat", json=body) as answer:
                return str(json.loads(await answer.text()).get("Result"))

    patch([{"source": source, "strength": "1.0"}])
    await kubectl.until("the adapter is mounted", lambda: ready(kubectl) and _mounts(kubectl, "pirate"))
    assert await answer() == "Arr! Paris, matey."
    (adapter,) = kubectl.list("adapters")
    assert [each["reason"] for each in adapter["status"]["conditions"]] == ["ReadByPod"]
    patch(None)
    await kubectl.until("it is gone again", lambda: ready(kubectl) and not _mounts(kubectl, "pirate"))
    assert await answer() == "The capital of France is Paris."


def _mounts(kubectl: Kubectl, adapter: str) -> bool:
    """Whether the only pod that serves has the adapter."""
    pods = kubectl.list("pods", "-l", f"kaito.sh/workspace={WORKSPACE}")
    return len(pods) == 1 and f"/mnt/adapter/{adapter}" in json.dumps(pods[0]["spec"])


async def test_the_webhook_is_asked_through_its_service(kubectl: Kubectl) -> None:
    wrong = EXAMPLE.read_text().replace("name: phi-3-mini-4k-instruct", "name: phi-3-mini-4k-instrukt")
    wrong = wrong.replace(f"name: {WORKSPACE}", "name: wrong")

    def refused() -> str | None:
        try:
            kubectl("apply", "--dry-run=server", "-f", "-", given=wrong)
        except KubectlError as error:
            return str(error)
        return None  # its certificate is not known yet: failurePolicy Ignore

    said = await kubectl.until("the webhook refuses", refused)
    assert (
        "inference.preset.name: phi-3-mini-4k-instrukt is not known; nearest: phi-3-mini-4k-instruct" in said
    )


async def test_every_replica_has_metrics_and_is_ready(kubectl: Kubectl) -> None:
    told = ""
    async with aiohttp.ClientSession() as session:
        for pod in kubectl.list("pods", "-n", SYSTEM):
            address = pod["status"]["podIP"]
            async with session.get(f"http://{address}:8081/readyz") as answer:
                assert answer.status == 200
            async with session.get(f"http://{address}:8080/metrics") as answer:
                text = await answer.text()
            assert "\nprocess_resident_memory_bytes " in text
            told += text
    assert "\nkaito_webhook_decisions_total{" in told
    assert 'kaito_provisioner_claims{kind="Machine",state="ready"} 1.0\n' in told
    assert 'kaito_workspace_count{phase="succeeded"} 1.0\n' in told


@pytest.mark.parametrize("lease", DEPLOYMENTS)
async def test_the_leader_is_killed_and_the_other_replica_goes_on(kubectl: Kubectl, lease: str) -> None:
    pods = serving_pods(kubectl)
    first = leader(kubectl, lease)
    with load(cluster_ip(kubectl)) as counted:
        kill(kubectl, first)
        await kubectl.until(
            "another replica leads", lambda: (now := leader(kubectl, lease)) not in ("", first) and now
        )
        if lease == "kaito-operator":
            # Work for the new leader that the model does not feel.
            mark = "kaito.sh/desired-hash"
            kubectl("annotate", "service", WORKSPACE, f"{mark}-")
            await kubectl.until(
                "the new leader put the Service right",
                lambda: mark in kubectl.get("service", WORKSPACE)["metadata"].get("annotations", {}),
            )
        assert ready(kubectl)
    assert counted.failed == []
    assert counted.answered > 0
    assert serving_pods(kubectl) == pods
    rolled_out(kubectl)


def test_an_upgrade_under_load_is_not_felt(kubectl: Kubectl) -> None:
    pods = serving_pods(kubectl)
    with load(cluster_ip(kubectl)) as counted:
        install(kubectl, UPGRADE)
        rolled_out(kubectl)
        assert ready(kubectl)
    running = {
        container["image"]
        for pod in kubectl.list("pods", "-n", SYSTEM)
        if "deletionTimestamp" not in pod["metadata"]
        for container in pod["spec"]["containers"]
    }
    assert running == {f"{REGISTRY}/kaito/operator:{UPGRADE}"}
    assert counted.failed == []
    assert counted.answered > 0
    assert serving_pods(kubectl) == pods


def test_nothing_was_refused_and_nothing_failed(kubectl: Kubectl) -> None:
    """Whatever was killed and replaced meanwhile."""
    lines = kubectl("logs", "-n", SYSTEM, "-l", "app.kubernetes.io/name=kaito", "--tail=-1").splitlines()
    told = [line for line in lines if line.startswith("{")]
    assert told
    wrong = [line for line in told if json.loads(line)["level"] == "error" or "forbidden" in line.lower()]
    assert wrong == []
    assert [line for line in lines if "Traceback" in line] == []
    pods = kubectl.list("pods", "-n", SYSTEM)
    assert {each["restartCount"] for pod in pods for each in pod["status"]["containerStatuses"]} == {0}


async def test_a_deleted_workspace_gives_its_node_back(kubectl: Kubectl) -> None:
    kubectl("delete", "workspace", WORKSPACE, "--timeout=170s")
    assert kubectl.list("machines") == []
    assert the_node(kubectl) == _before["node"]
    await kubectl.until("the Workspace's pods are gone", lambda: not serving_pods(kubectl))


async def test_uninstalling_leaves_nothing(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLE))
    await kubectl.until("WORKSPACEREADY is True again", lambda: ready(kubectl))
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "kaito.cli", "uninstall", "--yes", "--crds"),
            *("--context", "kaito-cluster", "--kubeconfig", kubectl.environment["KUBECONFIG"]),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    await kubectl.until("no pod is left", lambda: not kubectl.list("pods"))
    assert kubectl.inventory() == _before["objects"]
    assert the_node(kubectl) == _before["node"]
