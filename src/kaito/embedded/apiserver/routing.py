"""From a request's path to what it names.

Only shapes are decided here; whether the group, the kind or the subresource exists is the registry's knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NAMESPACE_SUBRESOURCES: Final = frozenset({"status", "finalize"})
STREAMED_SUBRESOURCES: Final = frozenset({"log", "exec", "attach", "portforward", "proxy"})
"""Answered by a kubelet; see the stream hook of the HTTP front."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address below `/api/v1` or `/apis/G/V`. `rest` is what follows a `proxy` subresource, slash included."""

    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""
    rest: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def streamed(self) -> bool:
        return self.group == "" and self.subresource in STREAMED_SUBRESOURCES


def parse_target(path: str) -> Target | None:
    """The target of an (already unquoted) path, or None if the path has not that shape."""
    parts = path.split("/")
    if len(parts) > 3 and parts[1] == "api":
        group, version, rest = "", parts[2], parts[3:]
    elif len(parts) > 4 and parts[1] == "apis":
        group, version, rest = parts[2], parts[3], parts[4:]
    else:
        return None
    tail = ""
    if rest and rest[-1] == "" and "proxy" not in rest:
        rest = rest[:-1]
    if not rest or not rest[0]:
        return None
    namespace: str | None = None
    if (
        rest[0] == "namespaces"
        and len(rest) > 2
        and not (group == "" and len(rest) == 3 and rest[2] in NAMESPACE_SUBRESOURCES)
    ):
        namespace, rest = rest[1], rest[2:]
    plural = rest[0]
    name = rest[1] if len(rest) > 1 else None
    subresource = rest[2] if len(rest) > 2 else ""
    if len(rest) > 3:
        if subresource != "proxy":
            return None
        tail = "/" + "/".join(rest[3:])
    if name == "" or namespace == "":
        return None
    return Target(group, version, plural, namespace, name, subresource, tail)
