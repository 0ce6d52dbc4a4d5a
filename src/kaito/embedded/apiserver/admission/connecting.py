"""What webhooks are shown of a connection: the options of the subresource, read from the query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kaito.embedded.apiserver.admission.attributes import Gvk
from kaito.embedded.apiserver.store import Object

_KINDS: Final = {
    ("pods", "exec"): "PodExecOptions",
    ("pods", "attach"): "PodAttachOptions",
    ("pods", "portforward"): "PodPortForwardOptions",
    ("pods", "proxy"): "PodProxyOptions",
    ("services", "proxy"): "ServiceProxyOptions",
    ("nodes", "proxy"): "NodeProxyOptions",
}
_FLAGS: Final = ("stdin", "stdout", "stderr", "tty")


def options_kind(plural: str, subresource: str) -> Gvk | None:
    """The kind of options of a connection; None for what is no CONNECT (logs are read)."""
    kind = _KINDS.get((plural, subresource))
    return None if kind is None else Gvk("", "v1", kind)


def options_object(kind: Gvk, query: Sequence[tuple[str, str]], rest: str) -> Object:
    """The options as an object; `rest` is the path behind `proxy`."""
    options: dict[str, Any] = {"kind": kind.kind, "apiVersion": kind.version}
    for name, value in query:
        if name == "command":
            options.setdefault("command", []).append(value)
        elif name == "ports":
            options.setdefault("ports", []).extend(int(each) for each in value.split(",") if each.isdigit())
        elif name == "container":
            options["container"] = value
        elif name in _FLAGS and value.lower() in ("1", "true"):
            options[name] = True
    if kind.kind.endswith("ProxyOptions"):
        options["path"] = rest or "/"
    return options
