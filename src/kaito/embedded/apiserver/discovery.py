"""Discovery: which groups, versions and kinds there are, in the classic and in the aggregated form."""

from __future__ import annotations

from typing import Any, Final

from kaito.embedded.apiserver.served import Registry, Served

AGGREGATED_TYPE: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

# Verbs and bodies of subresources: (verbs, kind, group, version); "" means the parent's own kind.
_SUBRESOURCES: Final[dict[str, tuple[list[str], str, str, str]]] = {
    "status": (["get", "patch", "update"], "", "", ""),
    "scale": (["get", "patch", "update"], "Scale", "autoscaling", "v1"),
    "binding": (["create"], "Binding", "", "v1"),
    "eviction": (["create"], "Eviction", "policy", "v1"),
    "finalize": (["update"], "", "", ""),
    "log": (["get"], "", "", ""),
    "exec": (["create", "get"], "PodExecOptions", "", "v1"),
    "attach": (["create", "get"], "PodAttachOptions", "", "v1"),
    "portforward": (["create", "get"], "PodPortForwardOptions", "", "v1"),
}
_CUSTOM_VERBS: Final = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
"""In kube-apiserver's order for custom kinds."""

_PROXY_VERBS: Final = ["create", "delete", "get", "patch", "update"]
_PROXY_KINDS: Final = {
    "pods": "PodProxyOptions",
    "services": "ServiceProxyOptions",
    "nodes": "NodeProxyOptions",
}


def _subresource(served: Served, name: str) -> tuple[list[str], str, str, str] | None:
    resource = served.resource
    if name == "proxy" and resource.plural in _PROXY_KINDS:
        return _PROXY_VERBS, _PROXY_KINDS[resource.plural], "", "v1"
    known = _SUBRESOURCES.get(name)
    if known is None:
        return None
    verbs, kind, group, version = known
    return (verbs, kind, group, version) if kind else (verbs, resource.kind, resource.group, resource.version)


class Discovery:
    """Makes the documents anew whenever the registry has changed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def versions(self) -> dict[str, Any]:
        """`/api`"""
        return {
            "kind": "APIVersions",
            "versions": self._registry.groups().get("", ["v1"]),
            "serverAddressByClientCIDRs": [],
        }

    def groups(self) -> dict[str, Any]:
        """`/apis`"""
        groups = [self._group(name, versions) for name, versions in self._registry.groups().items() if name]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def group(self, name: str) -> dict[str, Any] | None:
        """`/apis/GROUP`"""
        versions = self._registry.groups().get(name) if name else None
        if versions is None:
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(name, versions)}

    @staticmethod
    def _group(name: str, versions: list[str]) -> dict[str, Any]:
        entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
        return {"name": name, "versions": entries, "preferredVersion": entries[0]}

    def resources(self, group: str, version: str) -> dict[str, Any] | None:
        """`/api/v1` and `/apis/GROUP/VERSION`"""
        served = [each for each in self._registry.all() if _at(each, group, version)]
        if not served:
            return None
        return {
            "kind": "APIResourceList",
            # The oldest document of all, that of the core group, does not name its own version.
            **({"apiVersion": "v1"} if group else {}),
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": [entry for each in sorted(served, key=_plural) for entry in self._entries(each)],
        }

    @staticmethod
    def _entries(served: Served) -> list[dict[str, Any]]:
        strategy, resource = served.strategy, served.resource
        entry: dict[str, Any] = {
            "name": resource.plural,
            "singularName": strategy.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": (_CUSTOM_VERBS if served.custom else sorted(strategy.verbs)) or ["create"],
        }
        if strategy.short_names:
            entry["shortNames"] = list(strategy.short_names)
        if strategy.categories:
            entry["categories"] = list(strategy.categories)
        entries = [entry]
        for name in sorted(strategy.subresources, reverse=served.custom):
            known = _subresource(served, name)
            if known is None:
                continue
            verbs, kind, group, version = known
            sub: dict[str, Any] = {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": verbs,
            }
            if (group, version) != (resource.group, resource.version):
                sub["group"], sub["version"] = group, version
            entries.append(sub)
        return entries

    def aggregated(self, *, core: bool) -> dict[str, Any]:
        """Everything below `/api` (`core`) or `/apis` in one document."""
        items = []
        for name, versions in self._registry.groups().items():
            if (name == "") == core:
                documents = [self._aggregated_version(name, version) for version in versions]
                items.append({"metadata": {"name": name} if name else {}, "versions": documents})
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items,
        }

    def _aggregated_version(self, group: str, version: str) -> dict[str, Any]:
        resources = []
        for served in sorted(self._registry.all(), key=_plural):
            if not _at(served, group, version):
                continue
            entry, *subs = self._entries(served)
            document: dict[str, Any] = {
                "resource": entry["name"],
                "responseKind": {"group": group, "version": version if group else "", "kind": entry["kind"]},
                "scope": "Namespaced" if entry["namespaced"] else "Cluster",
                "singularResource": entry["singularName"],
                "verbs": entry["verbs"],
            }
            for field in ("shortNames", "categories"):
                if field in entry:
                    document[field] = entry[field]
            if subs:
                document["subresources"] = [
                    {
                        "subresource": sub["name"].partition("/")[2],
                        "responseKind": {
                            "group": sub.get("group", group),
                            "version": sub.get("version", version if group else ""),
                            "kind": sub["kind"],
                        },
                        "verbs": sub["verbs"],
                    }
                    for sub in subs
                ]
            resources.append(document)
        return {"version": version, "resources": resources, "freshness": "Current"}


def _at(served: Served, group: str, version: str) -> bool:
    return served.resource.group == group and served.resource.version == version


def _plural(served: Served) -> str:
    return served.resource.plural


def wants_aggregated(accept: str) -> bool:
    """Whether the first form that this server knows in an Accept header is the aggregated one."""
    for item in accept.split(","):
        parts = {part.strip() for part in item.split(";")}
        if {"g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"} <= parts:
            return "application/json" in parts
        if "application/json" in parts and not any(part.startswith("as=") for part in parts):
            return False
    return False
