"""Which process of which pod a streaming request means: pure look-ups, and the errors users see when there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kaito.runtime.errors import ApiError, BadRequest, ServiceUnavailable

SIMULATED_ANNOTATION: Final = "kaito.sh/simulated-pods"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProxyName:
    """`[scheme:]name[:port]`, as pods/proxy and services/proxy name their ends."""

    scheme: str
    name: str
    port: str

    @classmethod
    def parse(cls, text: str) -> ProxyName:
        """Raises BadRequest."""
        match text.split(":"):
            case [name]:
                return cls("http", name, "")
            case [name, port]:
                return cls("http", name, port)
            case [scheme, name, port] if scheme in ("", "http"):
                return cls("http", name, port)
            case ["https", _, _]:
                raise ApiError(
                    "proxying to https ports is not implemented: use http, or kubectl port-forward",
                    status=501,
                    reason="NotImplemented",
                )
        raise BadRequest(f"invalid proxy target {text!r}: write NAME, NAME:PORT or SCHEME:NAME:PORT")


def container_name(pod: Object, wanted: str) -> str:
    """The container meant by a request for logs, exec or attach. Raises BadRequest."""
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    mains = [c["name"] for c in spec.get("containers") or ()]
    inits = [c["name"] for c in spec.get("initContainers") or ()]
    if wanted:
        if wanted not in mains and wanted not in inits:
            raise BadRequest(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(mains) == 1:
        return str(mains[0])
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(mains)}]"
    raise BadRequest(text + (f" or one of the init containers: [{' '.join(inits)}]" if inits else ""))


def kubelet_port(pod: Object, find_node: Callable[[str], Object]) -> int:
    """Port of 127.0.0.1 of the kubelet that runs the pod. Raises BadRequest, ServiceUnavailable, NotFound."""
    name = pod["metadata"]["name"]
    if (pod["metadata"].get("annotations") or {}).get(SIMULATED_ANNOTATION) == "true":
        raise BadRequest(
            f"pod {name} is simulated: it runs no process, so it has no output, ports or commands"
        )
    node_name = (pod.get("spec") or {}).get("nodeName")
    if not node_name:
        raise BadRequest(f"pod {name} does not have a host assigned")
    status = find_node(node_name).get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
    if not port:
        raise ServiceUnavailable(f"node {node_name} has no kubelet that could be asked about pod {name}")
    return int(port)


def pod_port(pod: Object, wanted: str) -> str:
    """The port of pods/proxy: the given one, else the pod's first. Raises BadRequest."""
    if wanted:
        return wanted
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            return str(port["containerPort"])
    raise BadRequest(
        f"pod {pod['metadata']['name']} declares no port: name one, as in {pod['metadata']['name']}:8080"
    )


def service_port(service: Object, wanted: str) -> Object:
    """The entry of `spec.ports` that a proxy request means. Raises ServiceUnavailable."""
    ports: Sequence[Object] = (service.get("spec") or {}).get("ports") or ()
    if not wanted and len(ports) == 1:
        return ports[0]
    for port in ports:
        if (port.get("name") or "") == wanted or str(port.get("port")) == wanted:
            return port
    names = ", ".join(str(port.get("name") or port.get("port")) for port in ports) or "none"
    raise ServiceUnavailable(
        f'no service port "{wanted}" found for service "{service["metadata"]["name"]}"; its ports: {names}'
    )


def is_endpoint(pod: Object, unready_too: bool) -> bool:
    """Whether a Service sends requests to this pod."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") != "Running":
        return False
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return unready_too or conditions.get("Ready") == "True"


def selector_text(service: Object) -> str:
    """The Service's selector as a label selector; "" for a Service without one."""
    selector: Mapping[str, str] = (service.get("spec") or {}).get("selector") or {}
    return ",".join(f"{key}={value}" for key, value in selector.items())


def no_endpoints(service: Object) -> ServiceUnavailable:
    name, namespace = service["metadata"]["name"], service["metadata"].get("namespace")
    why = "none of the pods it selects is Ready" if selector_text(service) else "it has no selector"
    return ServiceUnavailable(
        f'no endpoints available for service "{name}": {why}; see `kubectl -n {namespace} get pods`'
    )
