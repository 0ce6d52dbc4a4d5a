"""Which of Azure's operations a path means, and what an identity must be allowed to do for it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_SUBSCRIPTION: Final = r"/subscriptions/(?P<subscription>[^/]+)"
_CLUSTER: Final = (
    _SUBSCRIPTION
    + r"/resourcegroups/(?P<group>[^/]+)/providers/microsoft\.containerservice/managedclusters/(?P<cluster>[^/]+)"
)
_POOL: Final = _CLUSTER + r"/agentpools/(?P<pool>[^/]+)"
_OPERATION: Final = r"/providers/microsoft\.containerservice/locations/(?P<location>[^/]+)"
_COMPUTE: Final = _SUBSCRIPTION + r"/providers/microsoft\.compute"


class Route(NamedTuple):
    """action: what a role must grant; "" where none is asked for."""

    method: str
    pattern: re.Pattern[str]
    call: str
    action: str


def _route(method: str, pattern: str, call: str, action: str = "") -> Route:
    return Route(method, re.compile(pattern, re.IGNORECASE), call, action)


_AKS: Final = "Microsoft.ContainerService/managedClusters"
ROUTES: Final = (
    _route("GET", _POOL, "get_pool", f"{_AKS}/agentPools/read"),
    _route("PUT", _POOL, "put_pool", f"{_AKS}/agentPools/write"),
    _route("DELETE", _POOL, "delete_pool", f"{_AKS}/agentPools/delete"),
    _route("POST", _POOL + "/abort", "abort_pool", f"{_AKS}/agentPools/abort/action"),
    _route("GET", _POOL + "/machines", "list_machines", f"{_AKS}/agentPools/machines/read"),
    _route("GET", _CLUSTER + "/agentpools", "list_pools", f"{_AKS}/agentPools/read"),
    _route("GET", _CLUSTER, "get_cluster", f"{_AKS}/read"),
    _route("POST", _CLUSTER + "/stop", "stop_cluster", f"{_AKS}/stop/action"),
    _route("POST", _CLUSTER + "/start", "start_cluster", f"{_AKS}/start/action"),
    _route("GET", _SUBSCRIPTION + _OPERATION + "/operations/(?P<operation>[^/]+)", "operation"),
    _route("GET", _SUBSCRIPTION + _OPERATION + "/operationresults/(?P<operation>[^/]+)", "operation_result"),
    _route(
        "GET",
        _COMPUTE + "/locations/(?P<location>[^/]+)/usages",
        "usages",
        "Microsoft.Compute/locations/usages/read",
    ),
    _route("GET", _COMPUTE + "/skus", "skus", "Microsoft.Compute/skus/read"),
)


def find(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a request and the names in its path; None: there is nothing."""
    for route in ROUTES:
        found = route.pattern.fullmatch(path.rstrip("/"))
        if found is not None and route.method == method:
            return route, found.groupdict()
    return None
