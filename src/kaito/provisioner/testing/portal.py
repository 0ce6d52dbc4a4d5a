"""What other people do to the cluster, at once and without asking the provisioner."""

from __future__ import annotations

from typing import Any

from kaito.provisioner.testing import pool_rules
from kaito.provisioner.testing.messages import ErrorDetail
from kaito.provisioner.testing.state import Pool
from kaito.provisioner.testing.world import World


class Portal:
    """A person with the portal open. Pools that are named must exist: KeyError."""

    def __init__(self, world: World) -> None:
        self._world = world

    def create_pool(self, name: str, vm_size: str = "Standard_D4s_v5", **properties: Any) -> Pool:
        """A pool of theirs, there and running; properties as in JSON (`nodeLabels=…`, `tags=…`)."""
        pool_rules.check_name(name)
        sent = {"properties": {"vmSize": vm_size, **properties}}
        checked, size = pool_rules.checked(sent, self._world.sizes, self._world.place.location)
        return self._world.insert(name, checked, size)

    def delete_pool(self, name: str) -> None:
        """It is gone, whatever ran on it."""
        self._world.remove(name)

    def start_deleting(self, name: str) -> None:
        """It goes away in its time."""
        self._world.delete(name)

    def change_pool(self, name: str, **properties: Any) -> None:
        """Properties as in JSON; the etag changes."""
        self._world.update(name, **properties)

    def fail_pool(self, name: str, code: str, message: str) -> None:
        """It is Failed and has no machines, whoever made it so."""
        self._world.set_state(name, "Failed", ErrorDetail(code, message))

    def set_state(self, name: str, state: str) -> None:
        """Provisioning state of a pool, with no operation behind it: half deleted, stuck, upgraded."""
        self._world.set_state(name, state)

    def set_cluster(self, *, running: bool = True, state: str = "Succeeded") -> None:
        """Power and provisioning state of the cluster, with no operation behind them."""
        self._world.set_cluster(running=running, state=state)

    def delete_cluster(self) -> None:
        self._world.set_cluster(running=False, state="Deleting", exists=False)
