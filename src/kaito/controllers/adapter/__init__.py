"""The adapter controller: reads what Adapters point at and writes the facts to their status, nothing else.

setup(manager, AdapterOptions(image_map={"registry.example/adapter:1": Path("/layouts/adapter")}))
"""

from __future__ import annotations

from typing import Final

from kaito import __version__
from kaito.api.resources import ADAPTERS
from kaito.controllers.adapter.decide import AdapterOptions
from kaito.controllers.adapter.metrics import AdapterMetrics
from kaito.controllers.adapter.reconciler import AdapterReconciler
from kaito.runtime.controller import Controller, ControllerOptions
from kaito.runtime.events import EventRecorder
from kaito.runtime.manager import Manager

FIELD_MANAGER: Final = "kaito-adapter"
USER_AGENT: Final = f"{FIELD_MANAGER}/{__version__}"
WORKERS: Final = 4
"""Adapters read at the same time; each reads one file after the other in a thread."""

__all__ = ["FIELD_MANAGER", "USER_AGENT", "AdapterOptions", "setup"]


def setup(manager: Manager, options: AdapterOptions) -> None:
    """Adds the controller to the manager."""
    client = manager.client.named(USER_AGENT, field_manager=FIELD_MANAGER)
    recorder = EventRecorder(client, FIELD_MANAGER, manager.clock)
    manager.add(recorder)
    adapters = manager.cache.informer(ADAPTERS)
    metrics = AdapterMetrics()
    manager.metrics.add(metrics)
    reconciler = AdapterReconciler(client, recorder, manager.clock, adapters, options, metrics)
    manager.add(
        Controller(
            FIELD_MANAGER,
            reconciler.reconcile,
            primary=ADAPTERS,
            options=ControllerOptions(workers=WORKERS),
        )
    )
