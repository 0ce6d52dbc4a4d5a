"""The answers of the resource providers: AKS for pools and cluster, Compute for sizes and usages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from kaito.provisioner.testing import pool_rules
from kaito.provisioner.testing.messages import ArmRequest, ErrorDetail, Object, Refused, Reply
from kaito.provisioner.testing.settings import AZURE_ASYNC, DELETE, LOCATION, Settings, Style
from kaito.provisioner.testing.sizes import Size
from kaito.provisioner.testing.state import Operation, Pool
from kaito.provisioner.testing.world import World

API_VERSION: Final = "2026-08-01"
_DISK: Final = {
    "resourceType": "disks",
    "name": "Premium_LRS",
    "tier": "Premium",
    "size": "P10",
    "locations": [],
    "locationInfo": [],
    "capabilities": [{"name": "MaxSizeGiB", "value": "128"}],
    "restrictions": [],
}
"""The API lists what is no machine too."""


class Answers:
    """Answers requests whose caller may make them."""

    def __init__(self, world: World, settings: Settings) -> None:
        self._world = world
        self._settings = settings
        self._by_call: Mapping[str, Callable[[ArmRequest], Reply]] = {
            "abort_pool": self._abort_pool,
            "delete_pool": self._delete_pool,
            "get_cluster": self._get_cluster,
            "get_pool": self._get_pool,
            "list_machines": self._list_machines,
            "list_pools": self._list_pools,
            "operation": self._operation,
            "operation_result": self._operation_result,
            "put_pool": self._put_pool,
            "skus": self._skus,
            "start_cluster": self._switch_cluster,
            "stop_cluster": self._switch_cluster,
            "usages": self._usages,
        }

    def answer(self, request: ArmRequest) -> Reply:
        """Raises `Refused`."""
        return self._by_call[request.call](request)

    # -- agent pools

    def _get_pool(self, request: ArmRequest) -> Reply:
        return Reply.of(200, self._pool_json(self._pool(request.pool)))

    def _list_pools(self, request: ArmRequest) -> Reply:
        return Reply.of(200, {"value": [self._pool_json(pool) for pool in self._world.pools.values()]})

    def _put_pool(self, request: ArmRequest) -> Reply:
        world, name = self._world, request.pool
        pool_rules.check_name(name)
        properties, size = pool_rules.checked(request.body, world.sizes, world.place.location)
        found = world.pools.get(name)
        self._check_conditions(request, found)
        self._check_running("PutAgentPoolHandler.PUT")
        self._check_free("PutAgentPoolHandler.PUT", found)
        if found is not None:
            pool_rules.check_unchanged(found.properties, properties)
        self._check_quota(found, properties, size)
        operation = world.put(name, properties, size)
        style = self._settings.put_style
        status = 200 if found is not None and style.status == 201 else style.status
        return Reply.of(status, self._pool_json(world.pools[name]), self._headers(request, style, operation))

    def _delete_pool(self, request: ArmRequest) -> Reply:
        found = self._world.pools.get(request.pool)
        if found is None and self._settings.delete_absent != 404:
            return Reply(self._settings.delete_absent)
        self._pool(request.pool)
        self._check_conditions(request, found)
        self._check_running("DeleteAgentPoolHandler.DELETE")
        self._check_free("DeleteAgentPoolHandler.DELETE", found, preempts=True)
        operation = self._world.delete(request.pool)
        return Reply.of(
            self._settings.delete_style.status,
            None,
            self._headers(request, self._settings.delete_style, operation),
        )

    def _abort_pool(self, request: ArmRequest) -> Reply:
        self._pool(request.pool)
        try:
            operation = self._world.abort(request.pool)
        except KeyError:
            raise _refused(
                409, "OperationNotAllowed", "There is no operation in progress to abort."
            ) from None
        return Reply.of(202, None, self._headers(request, DELETE, operation))

    def _list_machines(self, request: ArmRequest) -> Reply:
        pool, place = self._pool(request.pool), self._world.place
        machines = [each for each in self._world.machines() if each.pool == pool.name]
        if pool.state == "Creating":
            machines = []
        value = [
            {
                "id": f"{place.cluster_id}/agentPools/{pool.name}/machines/{each.name}",
                "name": each.name,
                "type": "Microsoft.ContainerService/managedClusters/agentPools/machines",
                "properties": {
                    "resourceId": each.provider_id.removeprefix("azure://"),
                    "network": {"ipAddresses": [{"family": "IPv4", "ip": f"10.224.0.{4 + each.number}"}]},
                },
            }
            for each in machines
        ]
        return Reply.of(200, {"value": value})

    def _pool(self, name: str) -> Pool:
        pool = self._world.pools.get(name)
        if pool is None:
            raise _refused(404, "NotFound", "Agent Pool not found")
        return pool

    def _pool_json(self, pool: Pool) -> Object:
        return pool.json(
            self._world.place,
            running=self._world.cluster.running,
            shows_error=self._settings.shows_provisioning_error,
        )

    # -- what stands in the way

    def _check_conditions(self, request: ArmRequest, found: Pool | None) -> None:
        wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
        if unwanted is not None and found is not None and unwanted.strip('"') in ("*", found.etag):
            raise _refused(
                412, "PreconditionFailed", f"Agent pool '{found.name}' exists already: If-None-Match."
            )
        if wanted is None or wanted == "*":
            return
        if found is None or wanted.strip('"') != found.etag:
            raise _refused(
                412,
                "PreconditionFailed",
                f"The etag of agent pool '{request.pool}' is not {wanted}: it has been changed.",
            )

    def _check_running(self, operation: str) -> None:
        cluster = self._world.cluster
        if cluster.running and cluster.state == "Succeeded":
            return
        power = "Running" if cluster.running else "Stopped"
        raise _refused(
            409,
            "OperationNotAllowed",
            f"The operation ({operation}) is not allowed when the managed cluster is in power state ({power}) and "
            f"provisioning state ({cluster.state}). Please start the cluster first.",
        )

    def _check_free(self, operation: str, found: Pool | None, *, preempts: bool = False) -> None:
        """That no other operation is in the way; a delete ends what else runs on its pool."""
        mine = [each for each in self._world.running if found is not None and each.pool == found.name]
        if mine and not (preempts and mine[0].kind != "delete"):
            raise _refused(
                409,
                "OperationNotAllowed",
                f"Operation is not allowed because there's an in progress {mine[0].kind} node pool operation on "
                f"'{mine[0].pool}'. Please wait until it is finished.",
            )
        others = [each for each in self._world.running if found is None or each.pool != found.name]
        if self._settings.exclusive and others:
            raise _refused(
                409,
                "OperationNotAllowed",
                f"Operation is not allowed: Another operation ({_handler(others[0])}) is in progress, please wait for "
                f"it to finish before starting a new operation ({operation}). See "
                "https://aka.ms/aks-pending-operation for more details.",
            )

    def _check_quota(self, found: Pool | None, properties: Object, size: Size) -> None:
        """By the figures that Compute shows."""
        has = found.count if found is not None and found.state != "Failed" else 0
        more = int(properties["count"]) - has
        spot = properties.get("scaleSetPriority") == "Spot"
        if more <= 0:
            return
        short = self._world.quota.shortage(size, more, spot, self._world.now, shown=True)
        if short is not None:
            raise Refused(400, short.refusal(self._world.place.location))

    # -- operations

    def _headers(self, request: ArmRequest, style: Style, operation: Operation) -> dict[str, str]:
        place = self._world.place
        stem = (
            f"{request.base}/subscriptions/{place.subscription}/providers/Microsoft.ContainerService"
            f"/locations/{place.location}"
        )
        urls = {
            AZURE_ASYNC: f"{stem}/operations/{operation.id}?api-version={API_VERSION}",
            LOCATION: f"{stem}/operationresults/{operation.id}?api-version={API_VERSION}",
        }
        return {name: urls[name] for name in style.headers} | self._wait()

    def _wait(self) -> dict[str, str]:
        return (
            {} if self._settings.retry_after is None else {"Retry-After": f"{self._settings.retry_after:g}"}
        )

    def _started(self, request: ArmRequest) -> Operation:
        operation = self._world.operations.get(request.operation)
        if operation is None:
            raise _refused(404, "NotFound", f"The operation '{request.operation}' was not found.")
        return operation

    def _operation(self, request: ArmRequest) -> Reply:
        operation = self._started(request)
        return Reply.of(200, operation.json(), self._wait() if operation.running else {})

    def _operation_result(self, request: ArmRequest) -> Reply:
        operation = self._started(request)
        if operation.running:
            return Reply.of(202, None, self._headers(request, Style(202, (LOCATION,)), operation))
        if operation.error is not None:
            raise Refused(400, operation.error, nested=True)
        pool = self._world.pools.get(operation.pool)
        if operation.kind not in ("create", "update") or pool is None:
            return Reply(204)
        return Reply.of(200, self._pool_json(pool))

    # -- the cluster

    def _get_cluster(self, request: ArmRequest) -> Reply:
        return Reply.of(200, self._world.cluster.json(self._world.place, self._world.pools))

    def _switch_cluster(self, request: ArmRequest) -> Reply:
        running = request.call == "start_cluster"
        if self._world.running:
            self._check_exclusive()
        operation = self._world.switch(running=running)
        return Reply.of(202, None, self._headers(request, DELETE, operation))

    def _check_exclusive(self) -> None:
        operation = self._world.running[0]
        raise _refused(
            409,
            "OperationNotAllowed",
            f"Operation is not allowed: Another operation ({_handler(operation)}) is in progress, please wait for it "
            "to finish before starting a new operation.",
        )

    # -- compute

    def _usages(self, request: ArmRequest) -> Reply:
        families = {size.family for size in self._world.sizes.all()}
        return Reply.of(200, {"value": self._world.quota.usages(families, self._world.now)})

    def _skus(self, request: ArmRequest) -> Reply:
        location = self._world.place.location
        asked = request.query.get("$filter", "")
        value: list[Any] = []
        if not asked or f"'{location}'" in asked.lower():
            value = [size.in_sku_api(location) for size in self._world.sizes.all()]
            value.append({**_DISK, "locations": [location]})
        if not self._settings.sku_page:
            return Reply.of(200, {"value": value})
        start = int(request.query.get("$skiptoken", "0"))
        end = start + self._settings.sku_page
        page: Object = {"value": value[start:end]}
        if end < len(value):
            query = f"api-version={request.query['api-version']}&$filter={quote(asked)}&$skiptoken={end}"
            page["nextLink"] = f"{request.base}{request.path}?{query}"
        return Reply.of(200, page)


def _refused(status: int, code: str, message: str) -> Refused:
    """In the shape of AKS."""
    return Refused(status, ErrorDetail(code, message))


def _handler(operation: Operation) -> str:
    return "DeleteAgentPoolHandler.DELETE" if operation.kind == "delete" else "PutAgentPoolHandler.PUT"
