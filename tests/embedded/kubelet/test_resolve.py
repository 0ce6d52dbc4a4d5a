"""Cluster names and addresses."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.embedded.kubelet.resolve import Directory, Elsewhere, Here, PodView, Refused

CONTAINERS = [{"name": "main", "ports": [{"name": "http", "containerPort": 5000}, {"containerPort": 29500}]}]


def pod(name: str, address: str, port: int, *, ready: bool = True, app: str = "web") -> PodView:
    ports = {5000: port, 29500: port + 1}
    return PodView("ns", name, {"app": app}, address, ready, name, "db", CONTAINERS, ports)


def service(name: str, ip: str, ports: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": ports, "selector": {"app": "web"}, **spec},
    }


SERVICES = [
    service("web", "10.96.0.5", [{"port": 80, "targetPort": "http"}, {"port": 29500, "targetPort": 29500}]),
    service("db", "None", [{"port": 5000, "targetPort": "http"}]),
    service("idle", "10.96.0.6", [{"port": 80, "targetPort": 5000}], selector={"app": "none"}),
    service("early", "10.96.0.7", [{"port": 80, "targetPort": 5000}], publishNotReadyAddresses=True),
    service("out", "", [], type="ExternalName", externalName="example.com"),
    service("odd", "10.96.0.8", [{"port": 80, "targetPort": 81}]),
]
PODS = [pod("web-0", "10.244.0.1", 20001, ready=False), pod("web-1", "10.244.0.2", 20003)]
WORLD = Directory(lambda: SERVICES, lambda: PODS, lambda count: count - 1)


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("10.96.0.5", 80, Here(20003)),
        ("10.96.0.5", 29500, Here(20004)),
        ("web", 80, Here(20003)),
        ("WEB.ns", 80, Here(20003)),
        ("web.ns.svc", 80, Here(20003)),
        ("web.ns.svc.cluster.local", 80, Here(20003)),
        ("web.ns.svc.cluster.local.", 80, Here(20003)),
        ("10.244.0.1", 5000, Here(20001)),
        ("db", 5000, Here(20003)),
        ("web-1.db.ns.svc.cluster.local", 5000, Here(20003)),
        ("early", 80, Here(20003)),
        ("out", 443, Elsewhere("example.com", 443)),
        ("example.com", 80, Elsewhere("example.com", 80)),
        ("localhost", 8080, Elsewhere("localhost", 8080)),
        ("93.184.216.34", 80, Elsewhere("93.184.216.34", 80)),
    ],
)
def test_found(host: str, port: int, expected: object) -> None:
    assert WORLD.resolve(host, port, "ns") == expected


@pytest.mark.parametrize(
    ("host", "port", "namespace", "message"),
    [
        ("10.96.0.99", 80, "ns", "no Service has the cluster IP 10.96.0.99"),
        ("10.244.9.9", 80, "ns", "no pod with a process has the address 10.244.9.9"),
        ("web", 80, "other", 'no Service "web" in namespace other'),
        ("nope.ns.svc", 80, "ns", 'no Service "nope" in namespace ns'),
        ("web", 81, "ns", "Service ns/web has no port 81; its ports: 80, 29500"),
        ("idle", 80, "ns", "no endpoints available for Service ns/idle"),
        ("web-0.db.ns.svc", 5000, "ns", "no pod of Service ns/db has the host name web-0"),
        ("odd", 80, "ns", "pod ns/web-1 does not declare containerPort 81"),
        ("10.244.0.1", 7, "ns", "does not declare containerPort 7"),
    ],
)
def test_refused_with_a_sentence(host: str, port: int, namespace: str, message: str) -> None:
    found = WORLD.resolve(host, port, namespace)
    assert isinstance(found, Refused)
    assert found.status == 503
    assert message in found.message
