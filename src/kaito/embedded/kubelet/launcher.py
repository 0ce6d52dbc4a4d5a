"""Starts one container of a pod, watches over its run, and records its end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from kaito.embedded.kubelet import containers, lifecycle, prober
from kaito.embedded.kubelet.containers import ContainerRun
from kaito.embedded.kubelet.deps import Deps
from kaito.embedded.kubelet.environment import MissingReference
from kaito.embedded.kubelet.images import CommandRefused, ImageEntry
from kaito.embedded.kubelet.probes import ProbeKind, ProbeSpec, ProbeState
from kaito.embedded.kubelet.processes import StartFailed
from kaito.embedded.kubelet.records import ContainerRecord, Termination
from kaito.embedded.kubelet.sandbox import Sandbox
from kaito.embedded.kubelet.volumes import MountFailed
from kaito.runtime.logs import get_logger

log = get_logger(__name__)

START_ERROR: Final = 128
"""Exit code of a container whose program could not be started, as container engines report it."""
CONFIG_RETRY: Final = 5.0
"""Seconds until a ConfigMap or Secret that was missing is looked for again."""

_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*(?::\w[\w.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,})?"
)

Object = dict[str, Any]


class ContainerTask:
    """One attempt to run one container. Changes the container's record; `notify` tells the worker."""

    def __init__(
        self,
        pod: Object,
        container: Object,
        record: ContainerRecord,
        sandbox: Sandbox,
        deps: Deps,
        notify: Callable[[], None],
    ) -> None:
        self._pod = pod
        self._container = container
        self._record = record
        self._sandbox = sandbox
        self._deps = deps
        self._notify = notify
        self._task: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._probes: asyncio.Task[None] | None = None
        self._asker: prober.Asker | None = None
        self._started: Callable[[ContainerRun], None] = lambda run: None
        self.run: ContainerRun | None = None

    def begin(self, started: Callable[[ContainerRun], None], gone: Callable[[], None]) -> None:
        """Start in a task of its own; `started` is called when the program runs, `gone` when all has ended."""
        self._started = started
        name = f"container {self._record.name} of {self._pod['metadata']['name']}"
        self._task = asyncio.create_task(self._live(), name=name)
        self._task.add_done_callback(lambda task: self._done(task, gone))

    def _done(self, task: asyncio.Task[None], gone: Callable[[], None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            error = task.exception()
            log.error("container failed inside the kubelet", container=self._record.name, cause=repr(error))
            self._record.end(self._not_started(f"internal error of the kubelet: {error!r}"))
            self._hold_back()
        gone()

    # Stopping

    def stop(self, grace: float, message: str) -> None:
        """End the container within `grace` seconds; returns at once and may be called again."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(grace, message), name=f"stop {self._record.name}")

    async def _stop(self, grace: float, message: str) -> None:
        if self.run is None or self.run.process is None:
            if self._task is not None:
                self._task.cancel()
            return
        self._deps.event(self._pod, "Normal", "Killing", message)
        if self._probes is not None:
            self._probes.cancel()
        left = grace
        hook = (self._container.get("lifecycle") or {}).get("preStop")
        if hook and self._asker is not None and grace > 0:
            before = self._deps.clock.now()
            answer = await self._asker.act(hook, grace)
            if not answer.ok:
                self._deps.event(
                    self._pod, "Warning", "FailedPreStopHook", f"PreStopHook failed: {answer.message}"
                )
            left = max(2.0, grace - (self._deps.clock.now() - before))
        await self.run.process.stop(left)

    async def kill(self) -> None:
        """End it now; returns when nothing of it is left."""
        if self._stopping is not None:
            self._stopping.cancel()
            await asyncio.gather(self._stopping, return_exceptions=True)
        if self._task is None:
            return
        if self.run is not None and self.run.process is not None:
            await self.run.process.kill()
        else:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # Running

    async def _live(self) -> None:
        entry = self._resolve_image()
        if entry is None:
            if self._record.waiting_reason == "ErrImagePull":
                await self._deps.clock.sleep(lifecycle.ERR_PULL_SHOWN)
                message = f'Back-off pulling image "{self._record.image}": {self._deps.images.refusal()}'
                self._record.wait("ImagePullBackOff", message)
                self._deps.event(
                    self._pod, "Normal", "BackOff", f'Back-off pulling image "{self._record.image}"'
                )
                self._deps.event(self._pod, "Warning", "Failed", "Error: ImagePullBackOff")
            return
        try:
            if await self._start(entry):
                await self._watch_over()
        finally:
            if self.run is not None and self.run.process is not None and not self.run.process.ended:
                await self.run.process.kill()
                await self.run.wait()

    def _resolve_image(self) -> ImageEntry | None:
        """The image's entry, or None after the record says why there is none."""
        record, image = self._record, self._record.image
        if not _REFERENCE.fullmatch(image):
            message = (
                f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}": invalid '
                f"reference format: the repository must be lower case"
            )
            record.retry_at = self._deps.clock.now() + lifecycle.MAX_BACK_OFF
            record.wait("InvalidImageName", message)
            self._deps.event(self._pod, "Warning", "InspectFailed", message)
            self._deps.event(self._pod, "Warning", "Failed", "Error: InvalidImageName")
            return None
        entry = self._deps.images.find(image)
        if entry is not None:
            record.pull_attempts = 0
            self._deps.event(
                self._pod, "Normal", "Pulled", f'Container image "{image}" already present on machine'
            )
            return entry
        record.pull_attempts += 1
        record.retry_at = self._deps.clock.now() + lifecycle.pull_back_off(record.pull_attempts)
        refusal = f'failed to pull image "{image}": {self._deps.images.refusal()}'
        record.wait("ErrImagePull", refusal)
        self._deps.event(self._pod, "Normal", "Pulling", f'Pulling image "{image}"')
        self._deps.event(self._pod, "Warning", "Failed", refusal[0].upper() + refusal[1:])
        self._deps.event(self._pod, "Warning", "Failed", "Error: ErrImagePull")
        self._notify()
        return None

    def _not_started(self, message: str) -> Termination:
        return Termination(START_ERROR, "StartError", self._deps.clock.wall(), message=message)

    def _hold_back(self) -> None:
        """Decide when the container may start again, if it may."""
        record = self._record
        ran = record.terminated.ran_seconds if record.terminated else 0.0
        record.back_off = lifecycle.next_back_off(record.back_off, ran, record.restart_count)
        record.retry_at = self._deps.clock.now() + record.back_off

    async def _start(self, entry: ImageEntry) -> bool:
        """Start the program; False after the record says why it does not run."""
        record, deps = self._record, self._deps
        restart = record.restart_count + (1 if record.terminated or record.last else 0)
        try:
            if self._sandbox.stale:
                node = str(self._pod["spec"].get("nodeName", ""))
                await self._sandbox.prepare(self._pod, deps.allocatable(node), deps.client)
            around = self._sandbox.surroundings(
                deps.proxy_url(self._pod["metadata"]["namespace"]), deps.parent_env, deps.proxy_https
            )
            self.run = await containers.start(
                self._pod["metadata"]["uid"], self._container, restart, entry, around, deps.clock
            )
        except (MissingReference, MountFailed) as error:
            record.retry_at = deps.clock.now() + CONFIG_RETRY
            record.wait("CreateContainerConfigError", str(error))
            deps.event(self._pod, "Warning", "Failed", f"Error: {error}")
            self._sandbox.stale = True
            return False
        except (CommandRefused, StartFailed) as error:
            deps.event(
                self._pod, "Warning", "Failed", f"Error: failed to start container {record.name}: {error}"
            )
            record.restart_count = restart
            record.end(self._not_started(str(error)))
            self._hold_back()
            return False
        self._started(self.run)
        deps.event(self._pod, "Normal", "Created", f"Created container: {record.name}")
        record.run(deps.clock.wall(), self.run.container_id)
        record.restart_count = restart
        deps.event(self._pod, "Normal", "Started", f"Started container {record.name}")
        return True

    async def _watch_over(self) -> None:
        """From the start of the program to its end."""
        assert self.run is not None
        run, record = self.run, self._record
        self._asker = prober.Asker(
            self._container,
            run,
            self._sandbox.address,
            self._sandbox.ports,
            self._deps.session,
            self._deps.clock,
        )
        self._probes = asyncio.create_task(self._probe(self._asker), name=f"probes of {record.name}")
        try:
            exit_ = await run.wait()
        finally:
            self._probes.cancel()
            await asyncio.gather(self._probes, return_exceptions=True)
        ended = containers.termination(run, self._container, exit_, self._deps.clock)
        record.end(replace(ended, started_at=record.running_since))
        self._hold_back()

    async def _probe(self, asker: prober.Asker) -> None:
        hook = (self._container.get("lifecycle") or {}).get("postStart")
        if hook:
            answer = await asker.act(hook, None)
            if not answer.ok:
                message = f"PostStartHook failed: {answer.message}"
                self._deps.event(self._pod, "Warning", "FailedPostStartHook", message)
                self.stop(self._grace, "FailedPostStartHook")
                return
        if not self._container.get(ProbeKind.STARTUP.field):
            self._became_started()
        self._notify()
        await prober.watch(self._container, asker.probe, self._report, self._deps.clock)

    def _became_started(self) -> None:
        self._record.started = True
        self._record.ready = not self._container.get(ProbeKind.READINESS.field)

    def _report(self, spec: ProbeSpec, state: ProbeState, answer: prober.Answer) -> None:
        """Act on a probe's answer."""
        record = self._record
        before = (record.started, record.ready)
        if not answer.ok:
            message = f"{spec.kind.value} probe failed: {answer.message}"
            self._deps.event(self._pod, "Warning", "Unhealthy", message)
        match spec.kind:
            case ProbeKind.STARTUP if state.passing:
                self._became_started()
            case ProbeKind.READINESS if state.passing is not None:
                record.ready = state.passing
        if state.passing is False and spec.kind is not ProbeKind.READINESS:
            grace = self._grace if spec.termination_grace is None else spec.termination_grace
            kind = spec.kind.value.lower()
            self.stop(grace, f"Container {record.name} failed {kind} probe, will be restarted")
        if (record.started, record.ready) != before:
            self._notify()

    @property
    def _grace(self) -> float:
        """The pod's grace period for a stop that is not its deletion, seconds."""
        grace = self._pod["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if grace is None else float(grace)
