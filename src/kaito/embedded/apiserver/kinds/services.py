"""Services, and the virtual addresses they are given."""

from __future__ import annotations

import ipaddress
from typing import Any

from kaito.embedded.apiserver.kinds import checks, names
from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.kinds.metadata import validate_labels
from kaito.embedded.apiserver.strategy import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    REQUIRED,
    FieldError,
    Object,
    invalid,
)
from kaito.runtime.errors import InternalError
from kaito.runtime.resources import Resource

NODE_PORTS = range(30000, 32768)
_FIRST_OFFSET = 11
"""Dynamic addresses start here: .1 is the API server's Service and .10 by habit the cluster's DNS."""
_AFFINITY_SECONDS = 10800
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_EXTERNAL = ("LoadBalancer", "NodePort")


class AddressPool:
    """Cluster IPs and node ports in use, by owner (uid)."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        self._owners: dict[str, str] = {}
        self._ports: dict[int, str] = {}
        self._next = _FIRST_OFFSET

    def take(self, owner: str) -> str:
        """A free address. Raises `InternalError` when none is left."""
        usable = self.network.num_addresses - 1
        for _ in range(usable):
            if self._next >= usable:
                self._next = _FIRST_OFFSET
            address = str(self.network[self._next])
            self._next += 1
            if address not in self._owners:
                self._owners[address] = owner
                return address
        raise InternalError(f"failed to allocate a cluster IP: range {self.network} is full")

    def claim(self, address: str, owner: str) -> str:
        """Take this very address; what is wrong with it, or ""."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return ""
        if parsed not in self.network:
            return (
                f"failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. "
                f"The range of valid IPs is {self.network}"
            )
        if self._owners.setdefault(address, owner) != owner:
            return f"failed to allocate IP {address}: provided IP is already allocated"
        return ""

    def take_port(self, owner: str) -> int:
        """A free node port."""
        for number in NODE_PORTS:
            if number not in self._ports:
                self._ports[number] = owner
                return number
        raise InternalError("failed to allocate a nodePort: range is full")

    def claim_port(self, number: int, owner: str) -> str:
        """Take this very node port; what is wrong with it, or ""."""
        if number not in NODE_PORTS:
            return "provided port is not in the valid range. The range of valid ports is 30000-32767"
        if self._ports.setdefault(number, owner) != owner:
            return "provided port is already allocated"
        return ""

    def release(self, owner: str) -> None:
        """Free everything that `owner` holds."""
        self._owners = {address: name for address, name in self._owners.items() if name != owner}
        self._ports = {number: name for number, name in self._ports.items() if name != owner}


class ServiceStrategy(BuiltinStrategy):
    """Services: types, addresses, ports."""

    def __init__(self, resource: Resource, pool: AddressPool) -> None:
        super().__init__(
            resource,
            name_check=names.dns_label_1035,
            short_names=("svc",),
            categories=("all",),
            subresources=("status", "proxy"),
        )
        self._pool = pool

    def release(self, obj: Object) -> None:
        self._pool.release(_owner(obj))

    def default(self, obj: Object, old: Object | None) -> None:
        spec = obj["spec"]
        kind = spec["type"]
        if old is not None:
            _keep_addresses(spec, old["spec"])
        if spec.get("sessionAffinity") == "ClientIP":
            config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            config.setdefault("timeoutSeconds", _AFFINITY_SECONDS)
        elif spec.get("sessionAffinity") == "None":
            spec.pop("sessionAffinityConfig", None)
        for port in spec.get("ports") or ():
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port", 0)
        if kind == "ExternalName":
            return
        spec.setdefault("internalTrafficPolicy", "Cluster")
        if kind in _EXTERNAL:
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if kind == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)

    def created(self, obj: Object) -> None:
        obj["status"] = {"loadBalancer": {}}
        self._allocate(obj)

    def updated(self, new: Object, old: Object) -> None:
        if new["spec"]["type"] == "ExternalName":
            self._pool.release(_owner(new))
        self._allocate(new)

    def _allocate(self, obj: Object) -> None:
        spec, owner = obj["spec"], _owner(obj)
        problems: list[FieldError] = []
        if spec["type"] != "ExternalName":
            spec.setdefault("ipFamilies", ["IPv4"])
            spec.setdefault("ipFamilyPolicy", "SingleStack")
            if spec["ipFamilyPolicy"] == "RequireDualStack":
                text = "Cluster is not configured for dual-stack services"
                problems.append(FieldError("spec.ipFamilyPolicy", INVALID, text, "RequireDualStack"))
            if "IPv6" in spec["ipFamilies"]:
                place = spec["ipFamilies"].index("IPv6")
                text = "not configured on this cluster"
                problems.append(FieldError(f"spec.ipFamilies[{place}]", INVALID, text, "IPv6"))
            if problems:
                raise invalid(self.resource, obj["metadata"].get("name", ""), problems)
        if spec["type"] != "ExternalName" and spec["type"] in _TYPES:
            address = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0]
            if not address:
                address = self._pool.take(owner)
            elif address != "None":
                problem = self._pool.claim(address, owner)
                problems += [FieldError("spec.clusterIPs", INVALID, problem, [address])] if problem else []
            spec["clusterIP"] = address
            spec.setdefault("clusterIPs", [address])
        if spec["type"] in _EXTERNAL and spec.get("allocateLoadBalancerNodePorts", True):
            for index, port in enumerate(spec.get("ports") or ()):
                if not port.get("nodePort"):
                    port["nodePort"] = self._pool.take_port(owner)
                elif problem := self._pool.claim_port(port["nodePort"], owner):
                    path = f"spec.ports[{index}].nodePort"
                    problems.append(FieldError(path, INVALID, problem, port["nodePort"]))
        if problems:
            raise invalid(self.resource, obj["metadata"].get("name", ""), problems)

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        kind, address = spec["type"], spec.get("clusterIP", "")
        errors = checks.one_of(kind, _TYPES, "spec.type")
        if not spec.get("ports") and address != "None" and kind != "ExternalName":
            errors.append(FieldError("spec.ports", REQUIRED))
        errors += _check_ports(spec)
        if spec.get("selector"):
            errors += validate_labels(spec["selector"], "spec.selector")
        affinities = ("ClientIP", "None")
        errors += checks.one_of(spec.get("sessionAffinity"), affinities, "spec.sessionAffinity")
        if kind == "ExternalName":
            if spec.get("externalName"):
                errors += checks.syntax(spec["externalName"], names.dns_subdomain, "spec.externalName")
            else:
                errors.append(FieldError("spec.externalName", REQUIRED))
            if address:
                text = "may not be set for ExternalName services"
                errors.append(FieldError("spec.clusterIPs", FORBIDDEN, text))
        elif address and address != "None":
            errors += checks.syntax(address, names.ip_address, "spec.clusterIPs[0]")
        if address == "None" and kind in _EXTERNAL:
            text = "may not be set to 'None' for NodePort and LoadBalancer services"
            errors.append(FieldError("spec.clusterIPs[0]", INVALID, text, address))
        if spec.get("clusterIPs") and spec["clusterIPs"][0] != address:
            text = "first value must match `clusterIP`"
            errors.append(FieldError("spec.clusterIPs[0]", INVALID, text, spec["clusterIPs"]))
        if spec.get("externalTrafficPolicy") and kind not in _EXTERNAL:
            text = "may only be set for externally-accessible services"
            value = spec["externalTrafficPolicy"]
            errors.append(FieldError("spec.externalTrafficPolicy", INVALID, text, value))
        return errors

    def prepare_status_update(self, new: Object, old: Object) -> None:
        super().prepare_status_update(new, old)
        for each in ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
            if each.get("ip"):
                each.setdefault("ipMode", "VIP")

    def check_status(self, new: Object, old: Object | None) -> list[FieldError]:
        balancer = (new.get("status") or {}).get("loadBalancer") or {}
        if balancer.get("ingress") and new["spec"]["type"] != "LoadBalancer":
            text = "may only be used when `spec.type` is LoadBalancer"
            return [FieldError("status.loadBalancer.ingress", FORBIDDEN, text)]
        return []

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        before, after = old["spec"], new["spec"]
        if "ExternalName" in (before["type"], after["type"]) or not before.get("clusterIP"):
            return []
        if before["clusterIP"] != after.get("clusterIP"):
            value = after.get("clusterIPs") or [after.get("clusterIP", "")]
            return [FieldError("spec.clusterIPs[0]", INVALID, "may not change once set", value)]
        return []


def _owner(obj: Object) -> str:
    # Not the name: a create that fails because the name is taken gives back its own addresses, not the other's.
    return str(obj["metadata"].get("uid", ""))


def _keep_addresses(new: Object, old: Object) -> None:
    """An update that says nothing of the addresses keeps them."""
    if new["type"] == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            new.pop(name, None)
        return
    if old.get("clusterIP") and not new.get("clusterIP") and not new.get("clusterIPs"):
        new["clusterIP"], new["clusterIPs"] = old["clusterIP"], list(old.get("clusterIPs") or ())
    elif new.get("clusterIP") and (
        not new.get("clusterIPs")
        or (new["clusterIP"] != old.get("clusterIP") and new["clusterIPs"] == old.get("clusterIPs"))
    ):
        # Who changes the one address means the other list too.
        new["clusterIPs"] = [new["clusterIP"]]
    if new["type"] in _EXTERNAL:
        known = {_port_key(port): port["nodePort"] for port in old.get("ports") or () if port.get("nodePort")}
        for port in new.get("ports") or ():
            if not port.get("nodePort") and _port_key(port) in known:
                port["nodePort"] = known[_port_key(port)]
    elif old["type"] in _EXTERNAL:
        held = {port.get("nodePort") for port in old.get("ports") or ()}
        for port in new.get("ports") or ():
            if port.get("nodePort") in held:
                port.pop("nodePort", None)
        if new.get("externalTrafficPolicy") == old.get("externalTrafficPolicy"):
            new.pop("externalTrafficPolicy", None)
        new.pop("allocateLoadBalancerNodePorts", None)


def _port_key(port: Object) -> tuple[Any, Any]:
    return port.get("port"), port.get("protocol", "TCP")


def _check_ports(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    ports = spec.get("ports") or []
    seen_names: set[str] = set()
    seen: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name = port.get("name", "")
        if not name and len(ports) > 1:
            errors.append(FieldError(f"{here}.name", REQUIRED))
        elif name:
            errors += checks.syntax(name, names.dns_label, f"{here}.name")
            if name in seen_names:
                errors.append(FieldError(f"{here}.name", DUPLICATE, "", name))
            seen_names.add(name)
        number = port.get("port", 0)
        errors += [FieldError(f"{here}.port", INVALID, text, number) for text in names.port_number(number)]
        errors += checks.one_of(port.get("protocol"), ("SCTP", "TCP", "UDP"), f"{here}.protocol")
        if spec["type"] != "ExternalName":
            errors += checks.port(port.get("targetPort", 0), f"{here}.targetPort")
        if port.get("nodePort") and spec["type"] not in _EXTERNAL:
            text = f"may not be used when `type` is '{spec['type']}'"
            errors.append(FieldError(f"{here}.nodePort", FORBIDDEN, text))
        if _port_key(port) in seen:
            value = {"port": number, "protocol": port.get("protocol")}
            errors.append(FieldError(here, DUPLICATE, "", value))
        seen.add(_port_key(port))
    return errors
