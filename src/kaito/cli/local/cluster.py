"""One local mode from start to stop; `kaito local up`, `kaito demo` and the tests drive it."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from kaito.cli.local.images import image_map_options
from kaito.cli.local.options import LocalOptions
from kaito.cli.local.state import CONTEXT, LocalDirectory, RunningLock
from kaito.cli.local.supervisor import ManagedProcess, ProcessSpec, Supervisor
from kaito.embedded.processes.names import KUBELET_TOKEN_VARIABLE
from kaito.runtime.clock import Clock

STAND_IN = "tiny-phi-3"
"""The preset whose small weights answer here for those of the Phi-3 family."""


def _first_objects() -> Callable[[Path, Clock, LocalOptions], Awaitable[None]]:
    """Takes about as long to load as the API server to start: done meanwhile."""
    from kaito.cli.local.first_objects import install

    return install


Progress = Callable[[str, str, float], None]
"""Called as (part, detail, seconds it took) when a part serves."""


class LocalCluster:
    """Starts the three processes in order and holds the folder's lock until stop()."""

    def __init__(self, directory: LocalDirectory, clock: Clock, options: LocalOptions | None = None) -> None:
        self.directory = directory
        self.options = options or LocalOptions()
        self._clock = clock
        self._supervisor = Supervisor(clock)
        self._lock: RunningLock | None = None
        self.url = ""

    async def start(self, progress: Progress = lambda part, detail, seconds: None) -> None:
        """Starts everything; returns when it serves.

        Raises:
            CliError: the folder is in use, or a part did not start. What had started is ended.
        """
        self.directory.prepare()
        self._lock = RunningLock(self.directory)
        for old_log in self.directory.logs.glob("*.log"):
            old_log.unlink()
        token = secrets.token_urlsafe(32)
        try:
            await self._start_parts(token, progress)
        except BaseException:
            await self.stop()
            raise
        self._write_state()

    async def _start_parts(self, token: str, progress: Progress) -> None:
        begun = self._clock.now()
        api, install = await asyncio.gather(
            self._child(
                "api-server",
                ["-m", "kaito.embedded.processes.apiserver", f"--kubeconfig={self.directory.kubeconfig}"],
                token,
            ),
            asyncio.to_thread(_first_objects),
        )
        self.url = str(api.facts["url"])
        progress("API server", self.url, self._clock.now() - begun)

        begun = self._clock.now()
        await install(self.directory.kubeconfig, self._clock, self.options)
        kinds = ["Workspace", "Adapter", "Machine", "NodeClaim"]
        kinds += [str(crd["spec"]["names"]["kind"]) for crd in self.options.crds]
        progress("custom resources", ", ".join(kinds), self._clock.now() - begun)
        if not self.options.operator:
            return

        begun = self._clock.now()
        node, _operator = await asyncio.gather(
            self._child("node", self._node_arguments(), token),
            self._child("operator", self._operator_arguments(), ""),
        )
        progress("node", "workload controllers, scheduler, kubelet", self._clock.now() - begun)
        progress("operator", "workspace, machine and adapter controllers", self._clock.now() - begun)
        del node

    async def _child(self, name: str, arguments: list[str], kubelet_token: str) -> ManagedProcess:
        environment = {KUBELET_TOKEN_VARIABLE: kubelet_token} if kubelet_token else {}
        log = self.directory.logs / f"{name}.log"
        return await self._supervisor.start(ProcessSpec(name, arguments, log, environment))

    def _node_arguments(self) -> list[str]:
        return [
            "-m",
            "kaito.cli.local.node",
            f"--kubeconfig={self.directory.kubeconfig}",
            f"--state={self.directory.pods}",
            *image_map_options(self.options.images),
            *[f"--weights={preset}={path}" for preset, path in self.options.weights.items()],
            f"--downloads={self.directory.downloads}",
        ]

    def _operator_arguments(self) -> list[str]:
        return [
            "-m",
            "kaito.cli",
            "operator",
            f"--kubeconfig={self.directory.kubeconfig}",
            f"--context={CONTEXT}",
            "--cloud-provider=instant",
            f"--node-provisioner={self.options.node_provisioner}",
            *([] if self.options.weights else [f"--stand-in-weights={STAND_IN}"]),
            f"--held-weights={','.join(self.options.weights)}",
            "--metrics-bind-address=127.0.0.1:0",
            "--health-probe-bind-address=0",
            "--webhook-register",
            "--webhook-bind-address=127.0.0.1:0",
            "--log-format=human",
            *image_map_options(self.options.images),
        ]

    def _write_state(self) -> None:
        self.directory.write_state(
            {
                "pid": os.getpid(),
                "url": self.url,
                "started": self._clock.wall().isoformat(timespec="seconds"),
                "processes": self._supervisor.pids,
                "stand_in_weights": self.options.operator,
                "real_weights": sorted(self.options.weights),
            }
        )

    async def wait(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set. Raises CliError when a process ended by itself."""
        await self._supervisor.wait(stop)

    async def stop(self, on_stopping: Callable[[str], None] = lambda name: None) -> None:
        """Ends everything and frees the folder. Idempotent."""
        await self._supervisor.stop(on_stopping)
        if self._lock is not None:
            self.directory.state_file.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None
