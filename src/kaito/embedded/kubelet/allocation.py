"""Addresses and ports handed out by the kubelet."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterable, Sequence
from typing import Any

POD_NETWORK = "10.244.0.0/16"
PORTS = range(20000, 32000)
"""Below the ranges from which Linux and macOS take ports of outgoing connections, so nothing grabs one in passing."""


class AddressPool:
    """Virtual pod addresses of one network, `10.244.0.1` upwards; the lowest free one is not reused at once."""

    def __init__(self, network: str = POD_NETWORK) -> None:
        net = ipaddress.ip_network(network)
        self._first = int(net.network_address)
        self._size = net.num_addresses - 2
        self._next = 0
        self._used: set[str] = set()

    def reserve(self, address: str) -> None:
        """Mark an address as taken (a pod that already has it)."""
        self._used.add(address)

    def take(self) -> str:
        """A free address. Raises RuntimeError when none is left."""
        for _ in range(self._size):
            address = str(ipaddress.ip_address(self._first + 1 + self._next))
            self._next = (self._next + 1) % self._size
            if address not in self._used and not address.endswith((".0", ".255")):
                self._used.add(address)
                return address
        raise RuntimeError("no pod address is left: delete some pods")

    def give_back(self, address: str) -> None:
        self._used.discard(address)


class PortPool:
    """Free ports of 127.0.0.1, never the same to two containers of this kubelet."""

    def __init__(self, ports: range = PORTS) -> None:
        self._ports = ports
        self._used: set[int] = set()

    def take(self) -> int:
        """A port that nothing listens on. Raises RuntimeError when none is found."""
        for _ in range(1000):
            port = random.choice(self._ports)
            if port not in self._used and is_free(port):
                self._used.add(port)
                return port
        raise RuntimeError("no free port was found on 127.0.0.1 between 20000 and 31999")

    def give_back(self, ports: Iterable[int]) -> None:
        self._used.difference_update(ports)


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def container_ports(container: dict[str, Any]) -> list[int]:
    """The TCP ports a container declares, in order."""
    return [
        int(port["containerPort"])
        for port in container.get("ports") or ()
        if str(port.get("protocol") or "TCP") == "TCP"
    ]


def named_port(containers: Sequence[dict[str, Any]], port: int | str) -> int | None:
    """The number of a port given by number or name; None when no container declares that name."""
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    for container in containers:
        for entry in container.get("ports") or ():
            if entry.get("name") == port:
                return int(entry["containerPort"])
    return None
