"""A whole operator in one file: it keeps a ConfigMap `greeting-NAME` for every Greeting.

Run it against the cluster of your kubeconfig, after `kubectl apply -f crd.yaml` and `kubectl apply -f
greeting.yaml`:

    python greeter.py

then `kubectl get configmaps,greetings` and `kubectl edit greeting hello`. Read it from top to bottom; it is
told as a story.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from kaito.runtime import (
    CachedObject,
    Client,
    Connection,
    Controller,
    EventRecorder,
    LoopClock,
    Manager,
    ManagerOptions,
    ObjectKey,
    Resource,
    Result,
    configure_logging,
    get_logger,
    is_controlled_by,
    set_controller,
)
from kaito.runtime.resources import CONFIGMAPS

# What we look after. A Resource is all that the runtime wants to know about a type.
GREETINGS = Resource("sample.kaito.sh", "v1", "greetings", "Greeting")

log = get_logger("sample")


# First, what is: one frozen value, read from caches alone.
@dataclass(frozen=True)
class Observed:
    greeting: dict[str, Any]
    configmap: CachedObject | None


# Then, what should be: a pure function of what is. All rules of this operator are here, and a test needs
# nothing but this function to check them.
@dataclass(frozen=True)
class Decision:
    configmap: dict[str, Any] | None  # to be applied; None where nothing is wrong
    status: dict[str, Any]


def decide(observed: Observed) -> Decision:
    greeting, live = observed.greeting, observed.configmap
    metadata = greeting["metadata"]
    name = f"greeting-{metadata['name']}"
    text = f"Hello, {greeting['spec']['who']}!"
    if live is not None and not is_controlled_by(live.meta, metadata["uid"]):
        problem = f"ConfigMap {name} belongs to somebody else; rename it or this Greeting"
        return Decision(None, {"ready": False, "message": problem})
    wanted: dict[str, Any] = {
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "data": {"greeting": text},
    }
    set_controller(wanted, greeting, GREETINGS)  # goes when the Greeting goes
    is_there = live is not None and live.decode().get("data") == wanted["data"]
    return Decision(None if is_there else wanted, {"ready": True, "message": text})


# Last, make it so: the only place that writes, and it writes only what differs. When nothing does, a
# reconcile costs no request at all.
class GreetingReconciler:
    def __init__(self, manager: Manager) -> None:
        self.client = manager.client.named("sample-operator/1.0", field_manager="sample-operator")
        self.greetings = manager.cache.lister(GREETINGS)
        self.configmaps = manager.cache.lister(CONFIGMAPS)
        self.events = EventRecorder(self.client, "sample-operator", manager.clock)

    async def reconcile(self, key: ObjectKey) -> Result | None:
        found = self.greetings.get(key.name, key.namespace)
        if found is None or found.meta.deletion_timestamp:
            return None  # gone; the garbage collector takes the ConfigMap along
        observed = Observed(found.decode(), self.configmaps.get(f"greeting-{key.name}", key.namespace))
        decision = decide(observed)
        if decision.configmap is not None:
            await self.client.apply(CONFIGMAPS, decision.configmap)
            self.events.event(found, "Normal", "Greeted", decision.status["message"])
            log.info("greeted", who=observed.greeting["spec"]["who"])
        if observed.greeting.get("status") != decision.status:
            await self.client.patch_status(GREETINGS, key.name, key.namespace, decision.status)
        return None


# The manager starts the caches, then the controller, and stops them in the opposite order.
def setup(manager: Manager) -> None:
    reconciler = GreetingReconciler(manager)
    manager.add(reconciler.events)
    manager.add(Controller("greeting", reconciler.reconcile, primary=GREETINGS, owns=[CONFIGMAPS]))


async def main() -> None:
    configure_logging("human")
    clock = LoopClock()
    connection = Connection.from_default(clock=clock)
    try:
        options = ManagerOptions(health_address="127.0.0.1:8081", metrics_address="127.0.0.1:8081")
        manager = Manager(Client(connection.transport, clock=clock), clock=clock, options=options)
        setup(manager)
        await manager.run_until_signal()
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
