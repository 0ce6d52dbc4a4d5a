"""Services, Endpoints, EndpointSlices, Ingresses, NetworkPolicies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kaito.embedded.apiserver.strategy import Object
from kaito.embedded.apiserver.tables.printer import (
    Cells,
    Printer,
    age_of,
    columns,
    dig,
    joined,
    label_text,
    name_of,
    selector_text,
)


def _external(service: Object) -> str:
    spec = dig(service, "spec", default={})
    listed = spec.get("externalIPs") or []
    match spec.get("type"):
        case "ExternalName":
            return str(spec.get("externalName") or "<none>")
        case "LoadBalancer":
            ingress = dig(service, "status", "loadBalancer", "ingress", default=[])
            found = [each.get("ip") or each.get("hostname") or "" for each in ingress] + listed
            return joined(found, none="<pending>")
        case _:
            return joined(listed)


def _port(port: dict[str, Any]) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node_port}/{port.get('protocol', 'TCP')}"


def _service(obj: Object, now: datetime) -> Cells:
    spec = dig(obj, "spec", default={})
    addresses = spec.get("clusterIPs") or []
    address = addresses[0] if addresses else spec.get("clusterIP")
    return [
        name_of(obj),
        spec.get("type", "ClusterIP"),
        address or "<none>",
        _external(obj),
        joined([_port(port) for port in spec.get("ports") or []]),
        age_of(obj, now),
        label_text(spec.get("selector")),
    ]


def _endpoints(obj: Object, now: datetime) -> Cells:
    found = []
    for subset in obj.get("subsets") or []:
        ports = subset.get("ports") or []
        for address in subset.get("addresses") or []:
            found += [f"{address.get('ip')}:{port.get('port')}" for port in ports] or [str(address.get("ip"))]
    text = joined(found[:3])
    return [name_of(obj), f"{text} + {len(found) - 3} more..." if len(found) > 3 else text, age_of(obj, now)]


def _endpoint_slice(obj: Object, now: datetime) -> Cells:
    ports = [
        str(port.get("port") if port.get("port") is not None else "*") for port in obj.get("ports") or []
    ]
    addresses = [address for each in obj.get("endpoints") or [] for address in each.get("addresses") or []]

    def limited(values: list[str], none: str) -> str:
        text = joined(values[:3], none=none)
        return f"{text} + {len(values) - 3} more..." if len(values) > 3 else text

    return [
        name_of(obj),
        obj.get("addressType", ""),
        limited(ports, "<unset>"),
        limited(addresses, "<unset>"),
        age_of(obj, now),
    ]


def _ingress(obj: Object, now: datetime) -> Cells:
    spec = dig(obj, "spec", default={})
    hosts = [rule.get("host") for rule in spec.get("rules") or [] if rule.get("host")]
    ingress = dig(obj, "status", "loadBalancer", "ingress", default=[])
    return [
        name_of(obj),
        spec.get("ingressClassName") or "<none>",
        joined(hosts, none="*"),
        joined([each.get("ip") or each.get("hostname") or "" for each in ingress], none=""),
        "80, 443" if spec.get("tls") else "80",
        age_of(obj, now),
    ]


def _network_policy(obj: Object, now: datetime) -> Cells:
    return [name_of(obj), selector_text(dig(obj, "spec", "podSelector")), age_of(obj, now)]


PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "Service"): Printer(columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age|*Selector"), _service),
    ("", "Endpoints"): Printer(columns("Name|Endpoints|Age"), _endpoints),
    ("discovery.k8s.io", "EndpointSlice"): Printer(
        columns("Name|AddressType|Ports|Endpoints|Age"), _endpoint_slice
    ),
    ("networking.k8s.io", "Ingress"): Printer(columns("Name|Class|Hosts|Address|Ports|Age"), _ingress),
    ("networking.k8s.io", "NetworkPolicy"): Printer(columns("Name|Pod-Selector|Age"), _network_policy),
}
