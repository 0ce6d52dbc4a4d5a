"""Services with a selector: observe and act; the decisions are in `endpoints`."""

from __future__ import annotations

from collections.abc import Iterable

from kaito.embedded.workloads.endpoints import (
    CONTROLLER,
    MANAGED_BY,
    SERVICE_LABEL,
    decide,
    pod_address,
    same,
)
from kaito.embedded.workloads.pods import Tree, wait_seen
from kaito.runtime.controller import Controller, ControllerOptions, Watch
from kaito.runtime.errors import AlreadyExists, NotFound
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import changed
from kaito.runtime.resources import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES, ObjectKey, Resource
from kaito.runtime.result import Result

WORKERS = 8
BY_SELECTOR = "workloads-selector"
"""Index of Services by `namespace/label=value` of one pair of their selector: finds candidates for a pod."""
BY_SERVICE = "workloads-service"
"""Index of EndpointSlices by `namespace/service`."""


def selector_of(service: CachedObject) -> dict[str, str]:
    spec = service.decode().get("spec") or {}
    return {} if spec.get("type") == "ExternalName" else dict(spec.get("selector") or {})


def _by_selector(service: CachedObject) -> Iterable[str]:
    selector = service.cached_view(selector_of)
    return [f"{service.meta.namespace}/{key}={selector[key]}" for key in sorted(selector)[:1]]


def _by_service(found: CachedObject) -> Iterable[str]:
    labels = found.meta.labels
    if labels.get(MANAGED_BY) != CONTROLLER or SERVICE_LABEL not in labels:
        return ()
    return (f"{found.meta.namespace}/{labels[SERVICE_LABEL]}",)


class EndpointsReconciler:
    def __init__(self, manager: Manager) -> None:
        self.client = manager.client
        self.services = manager.cache.informer(SERVICES)
        self.services.add_indexer(BY_SELECTOR, _by_selector)
        self.slices = manager.cache.informer(ENDPOINTSLICES)
        self.slices.add_indexer(BY_SERVICE, _by_service)
        self.endpoints = manager.cache.informer(ENDPOINTS)
        self.pods = manager.cache.informer(PODS)

    def services_of(self, pod: CachedObject) -> list[ObjectKey]:
        """The Services that select this pod."""
        labels, namespace = pod.meta.labels, pod.meta.namespace
        return [
            service.key
            for key, value in labels.items()
            for service in self.services.lister.by_index(BY_SELECTOR, f"{namespace}/{key}={value}")
            if service.cached_view(selector_of).items() <= labels.items()
        ]

    def service_of(self, found: CachedObject) -> list[ObjectKey]:
        """The Service of a slice or of an Endpoints object."""
        return [ObjectKey(found.meta.namespace, found.meta.labels.get(SERVICE_LABEL) or found.meta.name)]

    async def reconcile(self, key: ObjectKey) -> Result | None:
        service = self.services.lister.get(key.name, key.namespace)
        live = {each.meta.name: each for each in self.slices.lister.by_index(BY_SERVICE, str(key))}
        if service is None:
            await self._delete_endpoints(key, live)
            return None
        selector = service.cached_view(selector_of)
        if service.meta.deletion_timestamp is not None:
            return None
        if not selector:  # then somebody else writes its endpoints; only what is surely ours goes
            await self._drop(live.values())
            return None
        pods = [pod.cached_view(pod_address) for pod in self.pods.lister.list(key.namespace, selector)]
        slices, endpoints = decide(service.decode(), pods)
        written: list[Tree | None] = []
        for each in slices:
            name = each["metadata"]["name"]
            written += await self._write(ENDPOINTSLICES, each, live.pop(name, None))
        await self._drop(live.values())
        await wait_seen(self.slices, written)
        there = self.endpoints.lister.get(key.name, key.namespace)
        await wait_seen(self.endpoints, await self._write(ENDPOINTS, endpoints, there))
        return None

    async def _write(self, resource: Resource, wanted: Tree, live: CachedObject | None) -> list[Tree | None]:
        """Creates or updates; nothing where the live object says the same."""
        if live is None:
            try:
                return [await self.client.create(resource, wanted)]
            except AlreadyExists:
                there = await self.client.get(
                    resource, wanted["metadata"]["name"], wanted["metadata"]["namespace"]
                )
        else:
            there = live.decode()
        if same(wanted, there):
            return []
        version = there["metadata"]["resourceVersion"]
        body = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": version}}
        return [await self.client.update(resource, body)]

    async def _drop(self, slices: Iterable[CachedObject]) -> None:
        for each in slices:
            await self.client.delete(ENDPOINTSLICES, each.meta.name, each.meta.namespace)

    async def _delete_endpoints(self, key: ObjectKey, live: dict[str, CachedObject]) -> None:
        """The Service is gone. Slices go with it by ownership; Endpoints have no owner and go by name."""
        await self._drop(live.values())
        if self.endpoints.lister.get(key.name, key.namespace) is not None:
            try:
                await self.client.delete(ENDPOINTS, key.name, key.namespace)
            except NotFound:
                return


def _relevant(pod: CachedObject) -> object:
    return (pod.cached_view(pod_address).__repr__(), tuple(sorted(pod.meta.labels.items())))


def setup(manager: Manager) -> None:
    reconciler = EndpointsReconciler(manager)
    manager.add(
        Controller(
            "endpoints",
            reconciler.reconcile,
            primary=SERVICES,
            watches=[
                Watch(PODS, reconciler.services_of, predicates=[changed(_relevant)]),
                Watch(ENDPOINTSLICES, reconciler.service_of),
                Watch(ENDPOINTS, reconciler.service_of),
            ],
            options=ControllerOptions(workers=WORKERS),
        )
    )
