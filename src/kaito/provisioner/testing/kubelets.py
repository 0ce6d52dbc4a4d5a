"""The machines of the fake's agent pools as Nodes of a cluster.

Does what kubelets, the GPU device plugin, the node controller and Azure's cloud controller manager do together: a
machine that comes up registers, becomes Ready, shows its GPUs; one that falls silent becomes NotReady; one that is gone
loses its Node. Nodes that somebody deletes do not come back before the machine starts anew, as with real kubelets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from kaito.provisioner.testing import nodes
from kaito.provisioner.testing.arm import FakeArm
from kaito.provisioner.testing.nodes import Boot, Facets
from kaito.provisioner.testing.state import NEVER, VirtualMachine
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import AlreadyExists, ApiError, Conflict, NotFound, TransportError
from kaito.runtime.resources import NODES

RETRY: Final = 5.0
"""Seconds until a kubelet tries again after the API server did not answer."""
_log = logging.getLogger(__name__)


class FakeKubelets:
    """Runs from `async with` to its end, or as `run()` in a task of the caller.

    client: of the cluster that the machines join. labels, annotations: further ones of each Node, for whatever runs
    the pods there.

    Attributes that may be set at any time; call `look()` afterwards
        default, boots: how machines come up, and by the name of their pool.
        silent: pools whose machines have stopped reporting.
        gpu_operator: GPUs also appear where AKS was told to install no driver.
        grace: seconds until a silent machine's Node is NotReady. removal: seconds after that until the Node of a
        machine that is gone is removed.
        forgets_stopped: Nodes of a stopped cluster are removed too.
    """

    def __init__(
        self,
        arm: FakeArm,
        client: Client,
        clock: Clock,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self._arm = arm
        self._client = client
        self._clock = clock
        self._labels = dict(labels or {})
        self._annotations = dict(annotations or {})
        self.default = Boot()
        self.boots: dict[str, Boot] = {}
        self.silent: set[str] = set()
        self.gpu_operator = False
        self.grace = 40.0
        self.removal = 5.0
        self.forgets_stopped = False
        self._known: dict[str, Facets] = {}
        """Of each Node, by name: what was written last."""
        self._deleted: set[str] = set()
        """Nodes that somebody else deleted."""
        self._silent_since: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name="fake kubelets")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self) -> None:
        """Something was set: act on it now."""
        self._changed.set()

    async def run(self) -> None:
        """For ever."""
        forget = self._arm.world.watch(self.look)
        try:
            await self._until_answered(self._read_existing)
            while True:
                self._changed.clear()
                await self._until_answered(self._step)
                await self._wait(self._next())
        finally:
            forget()

    async def _until_answered(self, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
                return
            except (ApiError, TransportError) as error:
                _log.info("fake kubelets: %s; next try in %g s", error, RETRY)
                await self._clock.sleep(RETRY)

    async def _wait(self, until: float) -> None:
        timer = None
        if until != NEVER:
            timer = self._clock.call_later(max(until - self._clock.now(), 0.0), self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _read_existing(self) -> None:
        selector = f"{nodes.CLUSTER_LABEL}={self._arm.place.node_group}"
        for found in await self._client.list(NODES, label_selector=selector):
            self._known[found["metadata"]["name"]] = nodes.found_facets(found)

    async def _step(self) -> None:
        now = self._clock.now()
        present = {
            name: machine
            for machine in self._arm.world.machines()
            for name in nodes.names(machine, self._boot(machine))
        }
        for name, machine in present.items():
            await self._tend(name, machine, now)
        for name in [name for name in self._known if name not in present]:
            await self._bury(name, now)
        self._deleted &= present.keys()

    async def _tend(self, name: str, machine: VirtualMachine, now: float) -> None:
        """A machine that is there."""
        if not machine.running or machine.pool in self.silent:
            self._deleted.discard(name)  # whoever starts it again registers it again
            await self._bury(name, now, gone=not machine.running and self.forgets_stopped)
            return
        wanted = nodes.facets(machine, self._boot(machine), now, gpu_operator=self.gpu_operator)
        if wanted is None:  # not up yet; a Node of its name is an earlier machine's
            await self._bury(name, now)
            return
        self._silent_since.pop(name, None)
        if name in self._deleted or wanted == self._known.get(name):
            return
        if name not in self._known:
            await self._register(name, machine, wanted)
        else:
            await self._report(name, wanted, nodes.status(machine, wanted, self._clock.wall()), machine)

    async def _bury(self, name: str, now: float, *, gone: bool = True) -> None:
        """A machine that does not report any more; gone: for good."""
        if name not in self._known:
            return
        since = self._silent_since.setdefault(name, now)
        known = self._known[name]
        if now >= since + self.grace and known.ready != "Unknown":
            status = {"conditions": nodes.conditions("Unknown", self._clock.wall())}
            await self._report(name, known._replace(ready="Unknown"), status, None)
        if gone and now >= since + self.grace + self.removal:
            await self._client.delete(NODES, name)
            self._known.pop(name, None)
            self._silent_since.pop(name, None)

    async def _register(self, name: str, machine: VirtualMachine, wanted: Facets) -> None:
        wall = self._clock.wall()
        body = nodes.node(name, machine, self._arm.place, wanted, wall)
        body["metadata"]["labels"] |= self._labels
        body["metadata"]["annotations"] = dict(self._annotations)
        try:
            await self._client.create(NODES, body)
        except AlreadyExists:
            await self._report(name, wanted, nodes.status(machine, wanted, wall), machine)
        else:
            self._known[name] = wanted

    async def _report(
        self, name: str, wanted: Facets, status: Mapping[str, Any], machine: VirtualMachine | None
    ) -> None:
        """Write status, provider id and the taints that go with it."""
        try:
            await self._client.patch_status(NODES, name, None, status)
            await self._write_spec(name, wanted, machine)
        except NotFound:
            self._known.pop(name, None)
            self._silent_since.pop(name, None)
            self._deleted.add(name)
            return
        self._known[name] = wanted

    async def _write_spec(self, name: str, wanted: Facets, machine: VirtualMachine | None) -> None:
        while True:
            found = await self._client.get(NODES, name)
            spec = found.get("spec") or {}
            patch: dict[str, Any] = {}
            if machine is not None and wanted.provider_id and "providerID" not in spec:
                patch["providerID"] = machine.provider_id
            before = list(spec.get("taints") or ())
            after = nodes.taints(before, wanted)
            if after != before:
                patch["taints"] = after
            if not patch:
                return
            version = {"resourceVersion": found["metadata"]["resourceVersion"]}
            try:
                await self._client.patch(NODES, name, patch={"metadata": version, "spec": patch})
            except Conflict:
                continue
            return

    def _next(self) -> float:
        """Clock seconds of the next thing to do."""
        now = self._clock.now()
        coming = [self._arm.world.next_change()]
        for machine in self._arm.world.machines():
            coming += nodes.moments(machine, self._boot(machine))
        for since in self._silent_since.values():
            coming += (since + self.grace, since + self.grace + self.removal)
        return min((moment for moment in coming if moment > now), default=NEVER)

    def _boot(self, machine: VirtualMachine) -> Boot:
        return self.boots.get(machine.pool, self.default)
