"""Wiring of the workspace controller into a manager."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kaito import __version__
from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.catalog import load_catalog
from kaito.catalog.models import CatalogSource
from kaito.controllers.workspace.act import Actor
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.metrics import WorkspaceMetrics
from kaito.controllers.workspace.needs import Lookup, Resolver
from kaito.controllers.workspace.node_facts import read_facts
from kaito.controllers.workspace.observe import LOOKS, WORKSPACE_PODS, Observer, pod_keys, pool_keys
from kaito.controllers.workspace.reconciler import WorkspaceReconciler
from kaito.controllers.workspace.slim import (
    apart_from_version,
    slim_budget,
    slim_child,
    slim_look,
    slim_node,
    slim_pod,
    slim_pool,
)
from kaito.runtime.controller import Controller, ControllerOptions, Watch
from kaito.runtime.events import EventRecorder
from kaito.runtime.handlers import by_owner
from kaito.runtime.manager import Manager
from kaito.runtime.objects import CachedObject
from kaito.runtime.predicates import Event, EventType, changed
from kaito.runtime.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    SERVICES,
    STATEFULSETS,
)

FIELD_MANAGER: Final = "kaito-workspace"
NO_LOOKUPS: Final[Mapping[str, Lookup]] = MappingProxyType({})


def setup(
    manager: Manager,
    config: WorkspaceConfig | None = None,
    catalog: CatalogSource | None = None,
    lookups: Mapping[str, Lookup] = NO_LOOKUPS,
) -> None:
    """Add the workspace controller to a manager. `lookups` answer what only the network knows, by the Need's kind.

    Raises ValueError for a `stand_in_weights` that the catalogue does not know, CatalogError for a bad catalogue.
    """
    config = config or WorkspaceConfig()
    catalog = catalog or load_catalog()
    if config.stand_in_weights and catalog.current.preset(config.stand_in_weights) is None:
        nearest = ", ".join(catalog.current.nearest_presets(config.stand_in_weights))
        raise ValueError(f"stand_in_weights: {config.stand_in_weights} is not a preset; nearest: {nearest}")
    client = manager.client.named(f"{FIELD_MANAGER}/{__version__}", field_manager=FIELD_MANAGER)
    recorder = EventRecorder(client, "workspace-controller", manager.clock)
    manager.add(recorder)
    observer = Observer(manager.cache, config)
    actor = Actor(client, recorder, manager.clock, config)
    metrics = WorkspaceMetrics(catalog, manager.clock)
    manager.metrics.add(metrics)
    resolver = Resolver(lookups, manager.clock)
    reconciler = WorkspaceReconciler(observer, actor, catalog, config, manager.clock, metrics, resolver)
    controller = Controller(
        "workspace",
        reconciler.reconcile,
        primary=WORKSPACES,
        owns=(ADAPTERS,),
        watches=_watches(observer, config),
        predicates=(lambda event: not own_write(event, actor),),
        options=ControllerOptions(workers=config.workers),
    )
    resolver.wakes(controller.enqueue)
    manager.add(controller)
    manager.add(resolver)
    # Not a Watch: that would keep a second, whole copy of every ConfigMap beside the observer's hashes.
    config_maps = observer.informer(CONFIGMAPS)
    assert config_maps is not None  # the observer watches them
    config_maps.add_handler(_ConfigChanges(controller, observer))


def own_write(event: Event, actor: Actor) -> bool:
    """Whether nothing has happened but our own writing of a status.

    A deletion that the watch missed shows that very version, and is news.
    """
    return event.type is EventType.UPDATE and event.obj.resource == WORKSPACES and actor.wrote(event.obj)


def _watches(observer: Observer, config: WorkspaceConfig) -> list[Watch]:
    watches = [
        Watch(ADAPTERS, observer.keys_of_adapter),
        Watch(
            PODS, pod_keys, (changed(apart_from_version),), label_selector=WORKSPACE_PODS, transform=slim_pod
        ),
        Watch(
            PODS,
            by_owner(WORKSPACES),
            (changed(apart_from_version),),
            label_selector=LOOKS,
            transform=slim_look,
        ),
        Watch(NODES, observer.keys_of_node, (changed(read_facts),), transform=slim_node),
        Watch(SERVICES, by_owner(WORKSPACES), (changed(apart_from_version),), transform=slim_child),
        *(
            Watch(resource, observer.keys_of_namesake, (changed(apart_from_version),), transform=slim_child)
            for resource in (DEPLOYMENTS, STATEFULSETS, SERVICES)
        ),
        Watch(
            PODDISRUPTIONBUDGETS,
            observer.keys_of_budget,
            (changed(apart_from_version),),
            transform=slim_budget,
        ),
    ]
    if config.node_provisioner.claims is not None:
        watches.append(Watch(config.node_provisioner.claims, observer.keys_of_claim))
    if config.node_provisioner.pools is not None:
        pools = config.node_provisioner.pools
        watches.append(Watch(pools, pool_keys, (changed(apart_from_version),), transform=slim_pool))
    return watches


class _ConfigChanges:
    """Brings back the Workspaces whose ConfigMap appears, changes or goes."""

    def __init__(self, controller: Controller, observer: Observer) -> None:
        self._controller = controller
        self._observer = observer

    def on_add(self, obj: CachedObject, initial: bool) -> None:
        self._enqueue(obj)

    def on_update(self, old: CachedObject, new: CachedObject) -> None:
        self._enqueue(new)

    def on_delete(self, obj: CachedObject, stale: bool) -> None:
        self._enqueue(obj)

    def _enqueue(self, config_map: CachedObject) -> None:
        for key in self._observer.keys_of_config(config_map):
            self._controller.enqueue(key)
