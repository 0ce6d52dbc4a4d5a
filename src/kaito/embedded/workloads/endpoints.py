"""Endpoints: which pods stand behind a Service, as EndpointSlices and as the older Endpoints object.

`decide` is a pure function of the Service and the pods it selects. Names are fixed by the Service's uid, so a restart
or a stale cache never makes a second set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaito.embedded.workloads.pods import Tree, find_condition
from kaito.runtime.objects import CachedObject
from kaito.runtime.owners import controller_reference
from kaito.runtime.resources import SERVICES

SERVICE_LABEL = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
HEADLESS_LABEL = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
SLICE_SIZE = 100
"""Endpoints in one slice, as in kube-controller-manager."""

Ports = tuple[tuple[tuple[str, Any], ...], ...]


@dataclass(frozen=True, slots=True)
class PodAddress:
    """What endpoints need of a pod."""

    name: str
    namespace: str
    uid: str
    ip: str
    node: str
    hostname: str
    subdomain: str
    ready: bool
    terminating: bool
    finished: bool
    ports: Mapping[tuple[str, str], int]
    """Container ports by (name, protocol)."""


def pod_address(obj: CachedObject) -> PodAddress:
    """Use through `obj.cached_view(pod_address)`."""
    tree, meta = obj.decode(), obj.meta
    spec, status = tree.get("spec") or {}, tree.get("status") or {}
    ports = {
        (port["name"], port.get("protocol", "TCP")): port["containerPort"]
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("name")
    }
    return PodAddress(
        name=meta.name,
        namespace=meta.namespace or "",
        uid=meta.uid,
        ip=status.get("podIP") or "",
        node=spec.get("nodeName") or "",
        hostname=spec.get("hostname") or "",
        subdomain=spec.get("subdomain") or "",
        ready=find_condition(status, "Ready").get("status") == "True",
        terminating=meta.deletion_timestamp is not None,
        finished=status.get("phase") in ("Succeeded", "Failed"),
        ports=ports,
    )


def decide(service: Tree, pods: Sequence[PodAddress]) -> tuple[list[Tree], Tree]:
    """The EndpointSlices and the Endpoints object that the Service should have."""
    with_address = sorted(
        (pod for pod in pods if pod.ip and not pod.finished), key=lambda pod: (pod.name, pod.uid)
    )
    groups: dict[Ports, list[PodAddress]] = {}
    for pod in with_address:
        groups.setdefault(_ports_for(service, pod), []).append(pod)
    if not groups:
        groups[()] = []
    slices: list[Tree] = []
    for ports, members in sorted(groups.items()):
        for start in range(0, max(1, len(members)), SLICE_SIZE):
            slices.append(_slice(service, len(slices), ports, members[start : start + SLICE_SIZE]))
    return slices, _endpoints(service, groups)


def _ports_for(service: Tree, pod: PodAddress) -> Ports:
    """The Service's ports as numbers of this pod; a named port that the pod does not have is left out."""
    ports = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        target = port.get("targetPort", port["port"])
        number = pod.ports.get((target, protocol)) if isinstance(target, str) else target
        if number is None:
            continue
        entry = {"name": port.get("name") or "", "port": number, "protocol": protocol}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        ports.append(tuple(sorted(entry.items())))
    return tuple(ports)


def slice_name(service: Tree, index: int) -> str:
    digest = hashlib.sha256(f"{service['metadata']['uid']}/{index}".encode()).hexdigest()
    return f"{service['metadata']['name'][:57]}-{digest[:5]}"


def _slice(service: Tree, index: int, ports: Ports, pods: Sequence[PodAddress]) -> Tree:
    meta = service["metadata"]
    labels = {**(meta.get("labels") or {}), SERVICE_LABEL: meta["name"], MANAGED_BY: CONTROLLER}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(service, index),
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [controller_reference(service, SERVICES)],
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(service, pod) for pod in pods],
        "ports": [dict(port) for port in ports],
    }


def _endpoint(service: Tree, pod: PodAddress) -> Tree:
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Tree = {
        "addresses": [pod.ip],
        "conditions": {
            "ready": always or (pod.ready and not pod.terminating),
            "serving": always or pod.ready,
            "terminating": pod.terminating,
        },
        "targetRef": _target(pod),
    }
    if pod.node:
        endpoint["nodeName"] = pod.node
    if pod.hostname and pod.subdomain == service["metadata"]["name"]:
        endpoint["hostname"] = pod.hostname
    return endpoint


def _target(pod: PodAddress) -> Tree:
    return {"kind": "Pod", "name": pod.name, "namespace": pod.namespace, "uid": pod.uid}


def _endpoints(service: Tree, groups: Mapping[Ports, Sequence[PodAddress]]) -> Tree:
    """The Endpoints object: pods that are being deleted are not in it."""
    meta, subsets = service["metadata"], []
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    for ports, pods in sorted(groups.items()):
        there = [pod for pod in pods if not pod.terminating]
        addresses = {
            "addresses": [_address(service, pod) for pod in there if always or pod.ready],
            "notReadyAddresses": [_address(service, pod) for pod in there if not (always or pod.ready)],
        }
        if there:
            subset: Tree = {name: value for name, value in addresses.items() if value}
            if ports:
                subset["ports"] = [{key: value for key, value in port if value} for port in ports]
            subsets.append(subset)
    labels = {**(meta.get("labels") or {})}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    endpoints: Tree = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "labels": labels},
    }
    if subsets:
        endpoints["subsets"] = subsets
    return endpoints


def _address(service: Tree, pod: PodAddress) -> Tree:
    address: Tree = {"ip": pod.ip, "targetRef": _target(pod)}
    if pod.node:
        address["nodeName"] = pod.node
    if pod.hostname and pod.subdomain == service["metadata"]["name"]:
        address["hostname"] = pod.hostname
    return address


def same(wanted: Tree, live: Tree) -> bool:
    """Whether an object says what it should; empty and absent are the same."""
    return bool(_said(wanted) == _said(live))


def _said(tree: Tree) -> Any:
    return _compact({**{key: tree.get(key) for key in ("endpoints", "ports", "subsets")}, **_labels(tree)})


def _labels(tree: Tree) -> Tree:
    return {"labels": tree["metadata"].get("labels")}


def _compact(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: found for key, item in value.items() if (found := _compact(item)) not in (None, "", [], {})
        }
    if isinstance(value, list):
        return [_compact(item) for item in value]
    return value
