"""Which proxy leads to an API server, by the environment, as Go's net/http reads it.

Looked at once per connection, not per request as aiohttp's `trust_env` does. The rules are those of
golang.org/x/net/http/httpproxy, because the same variables are set for kubectl.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from kaito.runtime.errors import ConfigurationError

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy URL for requests to `url`, None for a direct connection.

    HTTPS_PROXY is for https and HTTP_PROXY for http, upper case first; NO_PROXY lists addresses, networks (CIDR)
    and domains, each with an optional port, that need none. This machine itself never does. Raises
    ConfigurationError for a proxy that cannot be used.
    """
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    proxy = environ.get(name.upper()) or environ.get(name)
    host = (parts.hostname or "").rstrip(".")
    if not proxy or _is_local(host):
        return None
    port = parts.port or _PORTS.get(parts.scheme, 0)
    listed = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if any(_matches(entry.strip().lower(), host, port) for entry in listed.split(",")):
        return None
    return check_proxy(proxy if "://" in proxy else f"http://{proxy}", f"${name.upper()}")


def check_proxy(proxy: str, where: str) -> str:
    """The URL, if it is one that can be used. Raises ConfigurationError; `where` begins the complaint."""
    parts = urlsplit(proxy)
    if parts.scheme not in _PORTS or not parts.hostname:
        shown = f"{parts.scheme}://{parts.hostname or ''}"  # without a password
        raise ConfigurationError(
            f"{where}: the proxy {shown} cannot be used; it must be an http or https URL"
        )
    return proxy


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_local(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY covers the host."""
    if entry in ("", "*"):
        return entry == "*"
    address = _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    if address is not None or _address(name) is not None:
        return address is not None and address == _address(name)
    if name.startswith("*."):
        name = name[1:]
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, int(rest[1:]) if rest.startswith(":") and rest[1:].isdecimal() else None
    name, colon, port = entry.rpartition(":")
    if colon and ":" not in name and port.isdecimal():
        return name, int(port)
    return entry, None
