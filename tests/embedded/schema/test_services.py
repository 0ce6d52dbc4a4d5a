"""Services and their addresses."""

from __future__ import annotations

from typing import Any

import pytest

from kaito.embedded.apiserver.strategy import KindStrategy
from kaito.runtime.errors import Invalid
from support.kinds import changed, created, problems


def service(**spec: Any) -> dict[str, Any]:
    return {"spec": {"ports": [{"port": 80}], **spec}}


def test_service_defaults(kinds: dict[str, KindStrategy]) -> None:
    new = created(kinds["services"], **service(selector={"a": "b"}))
    address = new["spec"]["clusterIP"]
    assert address.startswith("10.96.")
    assert new["spec"] == {
        "type": "ClusterIP",
        "clusterIP": address,
        "clusterIPs": [address],
        "selector": {"a": "b"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert new["status"] == {"loadBalancer": {}}
    other = created(kinds["services"], **service(), metadata={"name": "y", "uid": "u-2"})
    assert other["spec"]["clusterIP"] != address


def test_addresses_are_given_back(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["services"]
    first = created(kind, **service(clusterIP="10.96.7.7"))
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        created(kind, **service(clusterIP="10.96.7.7"), metadata={"name": "y", "uid": "u-2"})
    kind.release(first)
    assert created(kind, **service(clusterIP="10.96.7.7"), metadata={"name": "y", "uid": "u-2"})["spec"][
        "clusterIPs"
    ] == ["10.96.7.7"]
    with pytest.raises(Invalid, match="is not in the valid range"):
        created(kind, **service(clusterIP="1.2.3.4"), metadata={"name": "z", "uid": "u-3"})


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"ports": []}, "spec.ports: Required value"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port: Invalid value: 0"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name: Required value"),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}, "spec.ports[1]: Duplicate value"),
        ({"ports": [{"port": 80, "protocol": "X"}]}, 'spec.ports[0].protocol: Unsupported value: "X"'),
        ({"ports": [{"port": 80, "targetPort": "Http"}]}, "spec.ports[0].targetPort: Invalid value"),
        (
            {"ports": [{"port": 80, "nodePort": 30000}]},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ({"type": "Magic"}, 'spec.type: Unsupported value: "Magic"'),
        ({"sessionAffinity": "Cookie"}, 'spec.sessionAffinity: Unsupported value: "Cookie"'),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {"type": "NodePort", "clusterIP": "None"},
            "may not be set to 'None' for NodePort and LoadBalancer services",
        ),
        ({"selector": {"a b": "c"}}, "spec.selector: Invalid value"),
    ],
)
def test_services_that_are_refused(kinds: dict[str, KindStrategy], spec: Any, text: str) -> None:
    found = problems(kinds["services"], **service(**spec))
    assert any(text in message for message in found), found


def test_service_names_are_stricter(kinds: dict[str, KindStrategy]) -> None:
    assert "a DNS-1035 label" in problems(kinds["services"], **service(), metadata={"name": "1x"})[0]


def test_headless_and_external_services_have_no_address(kinds: dict[str, KindStrategy]) -> None:
    headless = created(kinds["services"], **service(clusterIP="None"))
    assert (headless["spec"]["clusterIP"], headless["spec"]["clusterIPs"]) == ("None", ["None"])
    external = created(kinds["services"], spec={"type": "ExternalName", "externalName": "a.example"})
    assert external["spec"] == {
        "type": "ExternalName",
        "externalName": "a.example",
        "sessionAffinity": "None",
    }


def test_the_address_of_a_service_stays(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["services"]
    old = created(kind, **service())
    address = old["spec"]["clusterIP"]
    new, found = changed(kind, old, clusterIP=None, clusterIPs=None)
    assert (new["spec"]["clusterIPs"], found) == ([address], [])
    found = changed(kind, old, clusterIP="10.96.9.9", clusterIPs=["10.96.9.9"])[1]
    assert found == ['spec.clusterIPs[0]: Invalid value: ["10.96.9.9"]: may not change once set']


def test_node_ports_come_and_go_with_the_type(kinds: dict[str, KindStrategy]) -> None:
    kind = kinds["services"]
    old = created(kind, **service(type="NodePort"))
    port = old["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port < 32768
    kept, found = changed(kind, old, ports=[{"port": 80}])
    assert (kept["spec"]["ports"][0]["nodePort"], found) == (port, [])
    plain, found = changed(kind, old, type="ClusterIP")
    assert ("nodePort" in plain["spec"]["ports"][0], found) == (False, [])
    balanced, found = changed(kind, plain, type="LoadBalancer")
    assert found == []
    assert balanced["spec"]["allocateLoadBalancerNodePorts"] is True
    assert balanced["spec"]["ports"][0]["nodePort"] >= 30000
