"""The environment of a container, built from nothing.

A container runs as the user, but must not see what the user's shell holds: tokens, KUBECONFIG, agent sockets. So its
environment is made of a short list of harmless variables, the image's, and the manifest's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kaito.embedded.kubelet.quantity import divided

INHERITED: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
"""Variables taken from the kubelet's own environment: where programs are, language, time zone, trusted CAs."""

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")


class MissingReference(Exception):
    """A ConfigMap, Secret, key or field that the container needs is not there; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The data that `valueFrom` and `envFrom` may name: objects already fetched, decoded text by key."""

    pod: Mapping[str, Any]
    config_maps: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    node_allocatable: Mapping[str, str] = field(default_factory=dict)


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(VAR)` replaced by its value where known, `$$` by `$`: the expansion of command, args and env values."""

    def one(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return values.get(match.group(1), match.group(0))

    return _REFERENCE.sub(one, text)


def field_value(pod: Mapping[str, Any], path: str) -> str:
    """The downward API: `metadata.name`, `metadata.labels['x']`, `status.podIP` … Raises MissingReference."""
    metadata, spec, status = pod.get("metadata") or {}, pod.get("spec") or {}, pod.get("status") or {}
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if keyed:
        return str((metadata.get(keyed.group(1)) or {}).get(keyed.group(2), ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata.get(path.removeprefix("metadata."), ""))
        case "metadata.labels" | "metadata.annotations":
            entries: Mapping[str, str] = metadata.get(path.removeprefix("metadata.")) or {}
            return "\n".join(f'{key}="{_quoted(value)}"' for key, value in sorted(entries.items()))
        case "spec.nodeName":
            return str(spec.get("nodeName", ""))
        case "spec.serviceAccountName":
            return str(spec.get("serviceAccountName") or "default")
        case "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs":
            return str(status.get(path.removeprefix("status.").removesuffix("s"), ""))
        case _:
            raise MissingReference(f"fieldPath {path!r} is not supported; see the downward API for what is")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource_value(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    ref: Mapping[str, Any],
    allocatable: Mapping[str, str],
) -> str:
    """`resourceFieldRef`: a limit or request of this or a named container, in units of `divisor`.

    Raises MissingReference. A limit that is not set is the node's allocatable amount.
    """
    wanted = ref.get("containerName")
    if wanted:
        spec = pod.get("spec") or {}
        everyone = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        found = next((c for c in everyone if c.get("name") == wanted), None)
        if found is None:
            raise MissingReference(
                f"resourceFieldRef names container {wanted!r}, which this pod does not have"
            )
        container = found
    kind, _, name = str(ref.get("resource", "")).partition(".")
    resources = container.get("resources") or {}
    amounts: Mapping[str, Any] = resources.get(kind) or {}
    quantity = amounts.get(name)
    if quantity is None and kind == "limits":
        quantity = allocatable.get(name)
    try:
        return divided(str(quantity if quantity is not None else "0"), str(ref.get("divisor") or "1"))
    except ValueError as error:
        raise MissingReference(f"resourceFieldRef {ref.get('resource')!r}: {error}") from error


def _keyed(kind: str, objects: Mapping[str, Mapping[str, str] | None], ref: Mapping[str, Any]) -> str | None:
    """The value of a configMapKeyRef or secretKeyRef; None when it is absent and optional."""
    name, key = str(ref.get("name", "")), str(ref.get("key", ""))
    data = objects.get(name)
    if data is not None and key in data:
        return data[key]
    if ref.get("optional"):
        return None
    if data is None:
        raise MissingReference(f'{kind} "{name}" not found')
    raise MissingReference(f"couldn't find key {key} in {kind} {name}")


def _value_from(entry: Mapping[str, Any], container: Mapping[str, Any], sources: Sources) -> str | None:
    source = entry["valueFrom"]
    if "fieldRef" in source:
        return field_value(sources.pod, str(source["fieldRef"].get("fieldPath", "")))
    if "configMapKeyRef" in source:
        return _keyed("configmap", sources.config_maps, source["configMapKeyRef"])
    if "secretKeyRef" in source:
        return _keyed("secret", sources.secrets, source["secretKeyRef"])
    if "resourceFieldRef" in source:
        return resource_value(sources.pod, container, source["resourceFieldRef"], sources.node_allocatable)
    raise MissingReference(f"env {entry.get('name')}: valueFrom {', '.join(source)} is not supported here")


def _from_whole(container: Mapping[str, Any], sources: Sources) -> dict[str, str]:
    values: dict[str, str] = {}
    for entry in container.get("envFrom") or ():
        kind = "configMapRef" if "configMapRef" in entry else "secretRef"
        ref = entry.get(kind) or {}
        objects = sources.config_maps if kind == "configMapRef" else sources.secrets
        data = objects.get(str(ref.get("name", "")))
        if data is None:
            if ref.get("optional"):
                continue
            what = "configmap" if kind == "configMapRef" else "secret"
            raise MissingReference(f'{what} "{ref.get("name", "")}" not found')
        values.update({f"{entry.get('prefix') or ''}{key}": value for key, value in data.items()})
    return values


def manifest_env(container: Mapping[str, Any], sources: Sources) -> dict[str, str]:
    """The variables that `envFrom` and `env` set; later ones may use earlier ones. Raises MissingReference."""
    values = _from_whole(container, sources)
    for entry in container.get("env") or ():
        if entry.get("valueFrom"):
            value = _value_from(entry, container, sources)
            if value is None:
                continue
        else:
            value = expand(str(entry.get("value") or ""), values)
        values[entry["name"]] = value
    return values


def references(containers: Iterable[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that these containers' environments need."""
    maps: set[str] = set()
    secrets: set[str] = set()
    for container in containers:
        for entry in container.get("env") or ():
            source = entry.get("valueFrom") or {}
            maps.update(ref["name"] for ref in [source.get("configMapKeyRef")] if ref)
            secrets.update(ref["name"] for ref in [source.get("secretKeyRef")] if ref)
        for entry in container.get("envFrom") or ():
            maps.update(ref["name"] for ref in [entry.get("configMapRef")] if ref)
            secrets.update(ref["name"] for ref in [entry.get("secretRef")] if ref)
    return maps, secrets


def base_env(parent: Mapping[str, str], home: str, temporary: str) -> dict[str, str]:
    """What every container has: the inherited variables, a PATH in any case, and its own HOME and TMPDIR."""
    values = {name: parent[name] for name in INHERITED if name in parent}
    values.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {**values, "HOME": home, "TMPDIR": temporary}


def world_env(
    mount_root: str, ports: Mapping[int, int], proxy_url: str, upstream_https_proxy: bool = False
) -> dict[str, str]:
    """How a program finds its way in this world: where its files are, which port to bind, how to reach others.

    `ports` maps container ports, in the order of the manifest, to ports of 127.0.0.1.
    """
    values = {"KAITO_BIND_HOST": "127.0.0.1", "KAITO_MOUNT_ROOT": mount_root}
    for container_port, port in ports.items():
        values.setdefault("KAITO_PORT", str(port))
        values[f"KAITO_PORT_{container_port}"] = str(port)
    for name in (
        "http_proxy",
        "HTTP_PROXY",
        *(("https_proxy", "HTTPS_PROXY") if upstream_https_proxy else ()),
    ):
        values[name] = proxy_url
    values["no_proxy"] = values["NO_PROXY"] = "127.0.0.1,localhost"
    return values
