"""From a name or virtual address of the cluster to a port of this machine.

What cluster DNS and kube-proxy do in a real cluster, as one pure function over Services and pods.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito.embedded.kubelet.allocation import named_port

CLUSTER_DOMAIN: Final = "cluster.local"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Here:
    """127.0.0.1:port."""

    port: int


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A host outside the cluster."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing to talk to: an HTTP status and a sentence for the user."""

    status: int
    message: str


Destination = Here | Elsewhere | Refused


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod that runs processes here. `ports` maps container ports to ports of 127.0.0.1."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    address: str
    ready: bool
    hostname: str
    subdomain: str
    containers: list[dict[str, Any]]
    ports: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Directory:
    """The cluster as far as names go. `choose` picks one of several equal ends (an index below its argument)."""

    services: Callable[[], Iterable[Object]]
    pods: Callable[[], Iterable[PodView]]
    choose: Callable[[int], int]
    service_network: str = "10.96.0.0/16"
    pod_networks: tuple[str, ...] = ("10.244.0.0/16", "10.245.0.0/16")

    def resolve(self, host: str, port: int, namespace: str) -> Destination:
        """Where a request of a pod in `namespace` for `host:port` goes."""
        host = host.rstrip(".").lower().strip("[]")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return self._by_name(host, port, namespace)
        if address in ipaddress.ip_network(self.service_network):
            service = next((s for s in self.services() if host in _addresses(s)), None)
            if service is None:
                return Refused(503, f"no Service has the cluster IP {host}; see `kubectl get services -A`")
            return self._to_service(service, port)
        pod = next((p for p in self.pods() if p.address == host), None)
        if pod is not None:
            return _to_pod(pod, port)
        if any(address in ipaddress.ip_network(network) for network in self.pod_networks):
            return Refused(
                503, f"no pod with a process has the address {host}; see `kubectl get pods -A -o wide`"
            )
        return Elsewhere(host, port)

    def _by_name(self, host: str, port: int, namespace: str) -> Destination:
        labels = host.split(".")
        inside = host.endswith(f".svc.{CLUSTER_DOMAIN}") or labels[-1] == "svc"
        if inside:
            labels = labels[: labels.index("svc", 1)]
        *pod_name, service_name, space = labels if len(labels) > 1 else [*labels, namespace]
        service = self._service(service_name, space)
        if service is None:
            return self._unknown(host, port, service_name, space, single=len(labels) == 1 or inside)
        if pod_name:
            pod = next((p for p in self._behind(service) if p.hostname == pod_name[-1]), None)
            if pod is None:
                return Refused(
                    503, f"no pod of Service {space}/{service_name} has the host name {pod_name[-1]}"
                )
            return _to_pod(pod, port)
        return self._to_service(service, port)

    def _service(self, name: str, namespace: str) -> Object | None:
        for service in self.services():
            metadata = service["metadata"]
            if metadata["name"] == name and metadata.get("namespace") == namespace:
                return service
        return None

    def _unknown(self, host: str, port: int, name: str, namespace: str, *, single: bool) -> Destination:
        """A name that is no Service: outside, unless it could only be one of the cluster."""
        if single and host != "localhost":
            return Refused(
                503, f'no Service "{name}" in namespace {namespace}; see `kubectl get services -A`'
            )
        return Elsewhere(host, port)

    def _behind(self, service: Object) -> list[PodView]:
        """Pods that a Service selects and may send requests to."""
        spec = service.get("spec") or {}
        selector: Mapping[str, str] = spec.get("selector") or {}
        unready_too = bool(spec.get("publishNotReadyAddresses"))
        return [
            pod
            for pod in self.pods()
            if selector
            and pod.namespace == service["metadata"].get("namespace")
            and all(pod.labels.get(key) == value for key, value in selector.items())
            and (pod.ready or unready_too)
        ]

    def _to_service(self, service: Object, port: int) -> Destination:
        spec = service.get("spec") or {}
        where = f"{service['metadata'].get('namespace')}/{service['metadata']['name']}"
        if spec.get("type") == "ExternalName":
            return Elsewhere(str(spec.get("externalName", "")), port)
        entry = next((p for p in spec.get("ports") or () if p.get("port") == port), None)
        headless = spec.get("clusterIP") == "None"
        if entry is None and not headless:
            ports = ", ".join(str(p.get("port")) for p in spec.get("ports") or ()) or "none"
            return Refused(503, f"Service {where} has no port {port}; its ports: {ports}")
        pods = self._behind(service)
        if not pods:
            return Refused(
                503,
                f"no endpoints available for Service {where}: none of the pods it selects is Ready; "
                f"see `kubectl -n {service['metadata'].get('namespace')} get pods`",
            )
        pod = pods[self.choose(len(pods))]
        target = port if headless or entry is None else entry.get("targetPort", port)
        return _to_pod(pod, target)


def _addresses(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    return [*(spec.get("clusterIPs") or ()), str(spec.get("clusterIP", ""))]


def _to_pod(pod: PodView, port: int | str) -> Destination:
    where = f"{pod.namespace}/{pod.name}"
    number = named_port(pod.containers, port)
    if number is None:
        return Refused(503, f"no container of pod {where} has a port named {port!r}")
    local = pod.ports.get(number)
    if local is None:
        declared = ", ".join(map(str, pod.ports)) or "none"
        return Refused(
            503,
            f"pod {where} does not declare containerPort {number}; here only declared ones work: {declared}",
        )
    return Here(local)
