"""Which kubelet and port a streaming request means."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.embedded.apiserver import streams_target
from kaito.embedded.apiserver.streams_target import ProxyName
from kaito.runtime.errors import ApiError, BadRequest, ServiceUnavailable


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [{"name": "a"}], **spec}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", ProxyName("http", "web", "")),
        ("web:80", ProxyName("http", "web", "80")),
        ("http:web:name", ProxyName("http", "web", "name")),
        (":web:80", ProxyName("http", "web", "80")),
    ],
)
def test_proxy_names(text: str, expected: ProxyName) -> None:
    assert ProxyName.parse(text) == expected


@pytest.mark.parametrize(("text", "status"), [("https:web:443", 501), ("a:b:c:d", 400), ("ftp:web:1", 400)])
def test_proxy_names_that_are_refused(text: str, status: int) -> None:
    with pytest.raises(ApiError) as failed:
        ProxyName.parse(text)
    assert failed.value.status == status


def test_containers() -> None:
    two = pod(containers=[{"name": "a"}, {"name": "b"}], initContainers=[{"name": "i"}])
    assert streams_target.container_name(pod(), "") == "a"
    assert streams_target.container_name(two, "i") == "i"
    expected = (
        r"a container name must be specified for pod p, choose one of: \[a b\] or one of the init .*: \[i\]"
    )
    with pytest.raises(BadRequest, match=expected):
        streams_target.container_name(two, "")
    with pytest.raises(BadRequest, match="container z is not valid for pod p"):
        streams_target.container_name(two, "z")


def test_kubelets() -> None:
    nodes = {
        "up": {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}},
        "new": {"status": {}},
    }
    assert streams_target.kubelet_port(pod(nodeName="up"), nodes.__getitem__) == 10250
    with pytest.raises(ServiceUnavailable, match="node new has no kubelet"):
        streams_target.kubelet_port(pod(nodeName="new"), nodes.__getitem__)
    with pytest.raises(BadRequest, match="pod p does not have a host assigned"):
        streams_target.kubelet_port(pod(), nodes.__getitem__)
    simulated = pod(nodeName="up")
    simulated["metadata"]["annotations"] = {"kaito.sh/simulated-pods": "true"}
    with pytest.raises(BadRequest, match="pod p is simulated"):
        streams_target.kubelet_port(simulated, nodes.__getitem__)


def test_ports() -> None:
    two = [{"name": "http", "port": 80}, {"name": "torch", "port": 29500}]
    service: dict[str, Any] = {"metadata": {"name": "s", "namespace": "ns"}, "spec": {"ports": two}}
    assert streams_target.service_port(service, "http") == two[0]
    assert streams_target.service_port(service, "29500") == two[1]
    for wanted in ("", "81"):
        with pytest.raises(ServiceUnavailable, match=f'no service port "{wanted}" .* its ports: http, torch'):
            streams_target.service_port(service, wanted)
    service["spec"]["ports"] = two[:1]
    assert streams_target.service_port(service, "") == two[0]
    assert streams_target.pod_port(pod(containers=[{"ports": [{"containerPort": 5}]}]), "") == "5"
    with pytest.raises(BadRequest, match="pod p declares no port"):
        streams_target.pod_port(pod(), "")


@pytest.mark.parametrize(
    ("phase", "ready", "deleting", "unready_too", "expected"),
    [
        ("Running", "True", False, False, True),
        ("Running", "False", False, False, False),
        ("Running", "False", False, True, True),
        ("Running", "True", True, True, False),
        ("Succeeded", "False", False, True, False),
    ],
)
def test_endpoints(phase: str, ready: str, deleting: bool, unready_too: bool, expected: bool) -> None:
    body: dict[str, Any] = pod()
    body["status"] = {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}
    if deleting:
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert streams_target.is_endpoint(body, unready_too) is expected
