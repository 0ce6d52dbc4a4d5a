"""Programs that are not ours, through the proxy: kubectl (client-go) and kubernetes_asyncio meet the faults too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kaito.cli.kubectl import find_kubectl
from kaito.testing.faults import Answer, DropWatch, HoldEvents, Match
from kaito.testing.kube_api import KubeApi

pytestmark = pytest.mark.processes


def kubectl(api: KubeApi, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(find_kubectl()), f"--kubeconfig={api.kubeconfig}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.kubectl
def test_kubectl_works_through_it_and_repeats_what_it_is_told_to(kube_api: KubeApi) -> None:
    script = kube_api.faults.script(
        Match(verb="create", resource="configmaps"), Answer(429, retry_after=1), Answer(503, retry_after=1)
    )
    done = kubectl(kube_api, "create", "configmap", "made", "--from-literal=a=b")
    assert (done.stdout, done.stderr) == ("configmap/made created\n", "")
    assert script.spent
    assert kubectl(kube_api, "get", "configmap", "made", "-o=jsonpath={.data.a}").stdout == "b"


@pytest.mark.kubectl
def test_kubectl_says_what_it_meets(kube_api: KubeApi) -> None:
    kube_api.faults.add(
        Match(verb="list", resource="configmaps"), Answer(410, message="too old, says the test")
    )
    done = kubectl(kube_api, "get", "configmaps")
    assert done.returncode == 1
    assert "too old, says the test" in done.stderr


@pytest.mark.kubectl
def test_a_watch_of_kubectl_ends_when_it_is_dropped(kube_api: KubeApi) -> None:
    kubectl(kube_api, "create", "configmap", "seen")
    kube_api.faults.add(Match(verb="watch", resource="configmaps"), DropWatch())
    done = kubectl(kube_api, "get", "configmaps", "--watch", "-o=name", "--field-selector=metadata.name=seen")
    assert done.stdout == "configmap/seen\n"


ASYNCIO = """
import asyncio, sys
from kubernetes_asyncio import client, config, watch

async def main():
    await config.load_kube_config(config_file=sys.argv[1])
    async with client.ApiClient() as api:
        core = client.CoreV1Api(api)
        for attempt in range(3):
            try:
                await core.create_namespaced_config_map(sys.argv[2], {"metadata": {"name": "made"}})
                print("created")
                break
            except client.ApiException as error:
                print(error.status, error.reason)
        async with watch.Watch().stream(core.list_namespaced_config_map, sys.argv[2], timeout_seconds=20) as stream:
            async for event in stream:
                if event["object"].metadata.name == "made":
                    print(event["type"], "made")
                    break

asyncio.run(main())
"""


def test_kubernetes_asyncio_meets_them(kube_api: KubeApi) -> None:
    kube_api.faults.script(Match(verb="create", resource="configmaps"), Answer(409), Answer(500))
    done = subprocess.run(
        [sys.executable, "-u", "-c", ASYNCIO, str(kube_api.kubeconfig), kube_api.namespace],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.stdout.splitlines() == [
        "409 Conflict",
        "500 Internal Server Error",
        "created",
        "ADDED made",
    ], done


def test_a_held_watch_reaches_it_late(kube_api: KubeApi) -> None:
    hold = HoldEvents()
    kube_api.faults.add(Match(verb="watch", user_agent="*"), hold)
    program = subprocess.Popen(
        [sys.executable, "-u", "-c", ASYNCIO, str(kube_api.kubeconfig), kube_api.namespace],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "created\n"
        while not kube_api.faults.injected:
            assert program.poll() is None
        assert program.poll() is None, "it waits"
        hold.release()
        assert program.stdout.readline() == "ADDED made\n"
