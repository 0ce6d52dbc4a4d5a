"""Where a webhook listens: a loopback URL, or a Service whose Endpoints are loopback addresses."""

from __future__ import annotations

import ipaddress
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.store import Key, Object

DEFAULT_PORT: Final = 443


class Unreachable(Exception):
    """There is nobody to call; the text says why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` is what messages say and the certificate is checked against; the connection goes to `address`, if any.

    `ca` is PEM; empty means the system's authorities.
    """

    url: str
    address: tuple[str, int] | None
    server_name: str
    ca: bytes


def resolve(client: Object, core: Core, timeout: float, choose: Callable[[list[Any]], Any]) -> Endpoint:
    """Where a `clientConfig` leads; `choose` picks one of several addresses. `timeout` is part of the URL.

    Raises:
        Unreachable: the Service or its port is not there, has no ready endpoint, or one that is no loopback address.
    """
    ca, suffix = b64decode(client.get("caBundle") or ""), f"?timeout={timeout:g}s"
    if client.get("url"):
        return Endpoint(f"{client['url']}{suffix}", None, "", ca)
    reference = client["service"]
    name, namespace, port = reference["name"], reference["namespace"], reference.get("port", DEFAULT_PORT)
    host = f"{name}.{namespace}.svc"
    url = f"https://{host}:{port}{reference.get('path') or '/'}{suffix}"
    try:
        address = choose(_addresses(core, namespace, name, port))
    except Unreachable as error:
        raise Unreachable(f'Post "{url}": {error}') from None
    return Endpoint(url, address, host, ca)


def _addresses(core: Core, namespace: str, name: str, port: int) -> list[tuple[str, int]]:
    service = core.store.collection("services").get(Key(namespace, name))
    if service is None:
        raise Unreachable(f'service "{name}" not found')
    ports = [each for each in (service.obj.get("spec") or {}).get("ports") or () if each.get("port") == port]
    if not ports:
        raise Unreachable(f'no service port {port} found for service "{name}"')
    endpoints = core.store.collection("endpoints").get(Key(namespace, name))
    found: list[tuple[str, int]] = []
    for subset in (endpoints.obj.get("subsets") if endpoints else None) or ():
        numbers = [
            each["port"]
            for each in subset.get("ports") or ()
            if (each.get("name") or "") == (ports[0].get("name") or "")
        ]
        found += [(each["ip"], number) for each in subset.get("addresses") or () for number in numbers]
    if not found:
        raise Unreachable(f'no endpoints available for service "{name}"')
    for address, number in found:
        if not ipaddress.ip_address(address).is_loopback:
            raise Unreachable(
                f'endpoint {address}:{number} of service "{name}" is not a loopback address, and this API server '
                "calls no others"
            )
    return found
