"""The life of one pod, from being bound to this node until it is gone.

One task per pod. Each turn looks at the records, asks `lifecycle.plan` what comes next, does it, and writes the status
if it differs from what was written last. Everything that happens to the pod (an exit, a probe's verdict, an update
of the object, a timer) only sets `_wake`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kaito.embedded.kubelet import lifecycle
from kaito.embedded.kubelet.containers import ContainerRun, log_path
from kaito.embedded.kubelet.deps import Deps
from kaito.embedded.kubelet.launcher import ContainerTask
from kaito.embedded.kubelet.records import ContainerRecord, Role, records_of, restore
from kaito.embedded.kubelet.resolve import PodView
from kaito.embedded.kubelet.sandbox import Sandbox, all_containers
from kaito.embedded.kubelet.status import PodFacts, changed, pod_status
from kaito.embedded.kubelet.volumes import MountFailed
from kaito.runtime.clock import parse_time
from kaito.runtime.errors import ApiError, Conflict, Invalid, NotFound, TransportError
from kaito.runtime.logs import get_logger
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import PODS

log = get_logger(__name__)

DEFAULT_GRACE: Final = 30.0
MOUNT_RETRY: Final = 5.0
API_RETRY: Final = 2.0
STAND_IN_ANNOTATION: Final = "kaito.sh/stand-in-weights"
OVER: Final = ("Succeeded", "Failed")

Object = dict[str, Any]


@dataclass(slots=True)
class _Verdict:
    """A phase that was decided about the pod as a whole."""

    phase: str = ""
    reason: str = ""
    message: str = ""


class PodWorker:
    """Runs one pod. `update` and `forget` are called by the kubelet; `run` is its task."""

    def __init__(self, pod: CachedObject, deps: Deps) -> None:
        self.pod: Object = pod.decode()
        self.key = pod.key
        self.uid = pod.meta.uid
        self.deps = deps
        status = self.pod.get("status") or {}
        self.records: dict[str, ContainerRecord] = records_of(self.pod["spec"])
        address = status.get("podIP") or ""
        if address:
            deps.addresses.reserve(address)
        self.sandbox = Sandbox(deps.directory / "pods" / self.uid, address or deps.addresses.take())
        self.tasks: dict[str, ContainerTask] = {}
        self.runs: dict[str, ContainerRun] = {}
        self._status: Object = status
        self._annotated = False
        self._started_at = parse_time(status["startTime"]) if status.get("startTime") else deps.clock.wall()
        self._over_before = status.get("phase") in OVER
        self._verdict = _Verdict()
        self._wake = asyncio.Event()
        self._forgotten = False
        self._halted = False
        if status.get("containerStatuses"):
            restore(self.records, status, deps.clock.wall())

    # Called by the kubelet

    def update(self, pod: CachedObject) -> None:
        """A new version of the object."""
        self.pod = pod.decode()
        self._wake.set()

    def forget(self) -> None:
        """The object is gone: stop at once and write nothing more."""
        self._forgotten = True
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    @property
    def containers(self) -> list[Object]:
        return all_containers(self.pod)

    def container(self, name: str) -> Object | None:
        return next((c for c in self.containers if c["name"] == name), None)

    def log_file(self, name: str, restart: int) -> Path:
        """Where the output of one run of a container is."""
        return log_path(self.sandbox.directory, name, restart)

    # Its task

    async def run(self) -> None:
        """Until the pod is gone."""
        try:
            if not self._over_before:
                await self._prepare()
            while not self._leaving:
                self._wake.clear()
                wake_at = None if self._over_before or self._halted else await self._turn()
                await self._sleep(wake_at)
            if not self._forgotten:
                await self._terminate()
        finally:
            await self._kill_all()
        self.sandbox.remove(self.deps.addresses, self.deps.ports)

    @property
    def _leaving(self) -> bool:
        return self._forgotten or bool(self.pod["metadata"].get("deletionTimestamp"))

    async def _sleep(self, wake_at: float | None) -> None:
        """Until something happens or `wake_at` (clock seconds)."""
        delay = None if wake_at is None else max(0.0, wake_at - self.deps.clock.now())
        with contextlib.suppress(TimeoutError):
            async with self.deps.clock.timeout(delay):
                await self._wake.wait()

    async def _prepare(self) -> None:
        """Make the sandbox; tries again until it works or the pod is deleted."""
        while not self._leaving:
            self._wake.clear()
            try:
                await self.sandbox.prepare(self.pod, self.deps.allocatable(self._node), self.deps.client)
                return
            except MountFailed as error:
                self.deps.event(self.pod, "Warning", "FailedMount", str(error))
                await self._write_status(sandbox_ready=False)
            except (ApiError, TransportError) as error:
                log.warning("pod waits for the API server", pod=str(self.key), cause=str(error))
            await self._sleep(self.deps.clock.now() + MOUNT_RETRY)

    @property
    def _node(self) -> str:
        return str(self.pod["spec"].get("nodeName", ""))

    async def _turn(self) -> float | None:
        """One pass; when to look again at the latest (clock seconds)."""
        now = self.deps.clock.now()
        deadline = self._deadline(now)
        over = lifecycle.Plan(stop=tuple(self.tasks))
        plan = over if self._verdict.phase else lifecycle.plan(self.records, now)
        for name in plan.back_off:
            self._back_off(self.records[name])
        for name in plan.stop:
            if name in self.tasks:
                self.tasks[name].stop(self._grace, f"Stopping container {name}")
        for name in plan.start:
            if name not in self.tasks:
                self._launch(name)
        written = await self._write_status()
        times = [t for t in (plan.wake_at, deadline) if t is not None]
        if not written:
            times.append(now + API_RETRY)
        return min(times, default=None)

    def _deadline(self, now: float) -> float | None:
        """Enforce `activeDeadlineSeconds`; when it will be due, if it is not over yet (clock seconds)."""
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        if limit is None or self._verdict.phase or self._phase in OVER:
            return None
        left = float(limit) - (self.deps.clock.wall() - self._started_at).total_seconds()
        if left > 0:
            return now + left
        message = "Pod was active on the node longer than the specified deadline"
        self._verdict = _Verdict("Failed", "DeadlineExceeded", message)
        self.deps.event(self.pod, "Normal", "DeadlineExceeded", message)
        return None

    def _back_off(self, record: ContainerRecord) -> None:
        where = f"{self.key.name}_{self.key.namespace}({self.uid})"
        record.wait(
            "CrashLoopBackOff",
            f"back-off {_go_duration(record.back_off)} restarting failed container={record.name} pod={where}",
        )
        message = f"Back-off restarting failed container {record.name} in pod {where}"
        self.deps.event(self.pod, "Warning", "BackOff", message)

    def _launch(self, name: str) -> None:
        container = self.container(name)
        assert container is not None
        self.sandbox.assign_ports([container], self.deps.ports)
        task = ContainerTask(self.pod, container, self.records[name], self.sandbox, self.deps, self._wake.set)
        self.tasks[name] = task
        task.begin(lambda run: self.runs.__setitem__(name, run), lambda: self._gone(name, task))

    def _gone(self, name: str, task: ContainerTask) -> None:
        """The container's task has ended."""
        if self.tasks.get(name) is task:
            del self.tasks[name]
        self._wake.set()

    # Status

    @property
    def _phase(self) -> str:
        return self._verdict.phase or lifecycle.phase(self.records)

    def _desired(self, sandbox_ready: bool) -> Object:
        facts = PodFacts(
            self.sandbox.address,
            self._started_at,
            sandbox_ready,
            self._verdict.reason,
            self._verdict.message,
            self._verdict.phase,
        )
        live = (self.pod.get("status") or {}).get("conditions") or ()
        own = {c["type"]: c for c in self._status.get("conditions") or ()}
        previous = {c["type"]: own.get(c["type"], c) for c in live} | own
        gates = [g["conditionType"] for g in self.pod["spec"].get("readinessGates") or ()]
        foreign = {c["type"]: c for c in live if c["type"] in gates}
        before = {**self._status, "conditions": list((previous | foreign).values())}
        return pod_status(self.records, facts, before, self.deps.clock.wall(), gates)

    async def _write_status(self, *, sandbox_ready: bool = True) -> bool:
        """Write what differs from the status written last; False when it could not be written."""
        desired = self._desired(sandbox_ready)
        difference = changed(desired, self._status)
        stand_in = self.deps.stand_in(self.pod)
        if not difference and (self._annotated or not stand_in):
            return True
        patch: Object = {"metadata": {"uid": self.uid}, "status": difference}
        if stand_in:
            patch["metadata"]["annotations"] = {STAND_IN_ANNOTATION: stand_in}
        try:
            await self.deps.client.patch(
                PODS, self.key.name, self.key.namespace, patch=patch, subresource="status"
            )
        except (NotFound, Conflict, Invalid) as error:
            if not isinstance(error, NotFound):
                log.warning("pod status refused", pod=str(self.key), cause=str(error))
            return isinstance(error, NotFound)
        except (ApiError, TransportError) as error:
            log.warning("pod status not written, trying again", pod=str(self.key), cause=str(error))
            return False
        self._status = {**self._status, **desired}
        self._annotated = bool(stand_in)
        return True

    # The end

    @property
    def _grace(self) -> float:
        metadata = self.pod["metadata"]
        grace = metadata.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = self.pod["spec"].get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE if grace is None else float(grace)

    async def _terminate(self) -> None:
        """Stop everything within the grace period, then take the object away."""
        sidecars = {r.name for r in self.records.values() if r.role is Role.SIDECAR}
        for group in ([n for n in self.tasks if n not in sidecars], *([n] for n in reversed(list(sidecars)))):
            for name in group:
                if name in self.tasks:
                    self.tasks[name].stop(self._grace, f"Stopping container {name}")
            while any(name in self.tasks for name in group) and not self._forgotten:
                self._wake.clear()
                await self._wake.wait()
        while not self._forgotten:
            self._wake.clear()
            if not self._over_before:
                await self._write_status(sandbox_ready=False)
            try:
                await self.deps.client.delete(
                    PODS, self.key.name, self.key.namespace, uid=self.uid, grace_period=0, propagation=None
                )
                return
            except Conflict:
                return
            except (ApiError, TransportError) as error:
                log.warning("pod not deleted yet, trying again", pod=str(self.key), cause=str(error))
            await self._sleep(self.deps.clock.now() + API_RETRY)

    async def _kill_all(self) -> None:
        for task in list(self.tasks.values()):
            await task.kill()

    async def stop_all(self, grace: float) -> None:
        """The kubelet itself ends: stop the containers, start and write nothing more."""
        self._halted = True
        processes = [run.process for run in self.runs.values() if run.process and not run.process.ended]
        await asyncio.gather(*(process.stop(grace) for process in processes))

    def view(self) -> PodView:
        """The pod as the address book sees it."""
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        conditions = {c["type"]: c["status"] for c in self._status.get("conditions") or ()}
        return PodView(
            metadata["namespace"],
            metadata["name"],
            metadata.get("labels") or {},
            self.sandbox.address,
            conditions.get("Ready") == "True" and not metadata.get("deletionTimestamp"),
            str(spec.get("hostname") or metadata["name"]),
            str(spec.get("subdomain") or ""),
            self.containers,
            self.sandbox.ports,
        )


def _go_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return (f"{minutes}m" if minutes else "") + f"{rest}s"
