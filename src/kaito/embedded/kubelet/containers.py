"""One run of one container: its root, environment, process, log and those attached to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito.embedded.kubelet import images
from kaito.embedded.kubelet.attach import Hub
from kaito.embedded.kubelet.environment import base_env, expand, manifest_env, world_env
from kaito.embedded.kubelet.images import ImageEntry
from kaito.embedded.kubelet.logs import LogWriter, tail_text
from kaito.embedded.kubelet.mounts import build_root, inside, plan_mounts
from kaito.embedded.kubelet.processes import Exit, OnOutput, Process, ProcessSpec
from kaito.embedded.kubelet.records import Termination
from kaito.embedded.kubelet.volumes import VolumeSources, env_sources
from kaito.runtime.clock import Clock

MESSAGE_LIMIT = 4096
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048
"""Kubernetes' limits for termination messages, from the file and from the log."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container finds around it.

    `ports` maps the pod's container ports to ports of 127.0.0.1; `proxy_url` includes the pod's credential;
    `parent_env` is what INHERITED variables are taken from.
    """

    directory: Path
    home: Path
    temporary: Path
    volumes: Mapping[str, Path]
    sources: VolumeSources
    ports: Mapping[int, int]
    proxy_url: str
    parent_env: Mapping[str, str]
    proxy_https: bool = False


@dataclass(slots=True)
class ContainerRun:
    """A container that has been started. `env`, `root` and `cwd` also serve `kubectl exec`."""

    name: str
    container_id: str
    entry: ImageEntry
    env: dict[str, str]
    root: Path
    cwd: Path
    log: LogWriter
    hub: Hub
    tty: bool
    stdin: bool
    stdin_once: bool
    clock: Clock
    process: Process | None = None
    execs: set[Process] = field(default_factory=set)

    def feed(self, stream: int, data: bytes) -> None:
        self.log.write(stream, data)
        self.hub.feed(stream, data)

    async def exec(self, argv: Sequence[str], *, stdin: bool, tty: bool, on_output: OnOutput) -> Process:
        """Start another program in the container. Raises StartFailed.

        A debugging aid: beside the image's own commands any program of this machine can be run.
        """
        words = [*self.entry.commands.get(Path(argv[0]).name, argv[:1]), *argv[1:]]
        spec = ProcessSpec(words, self.env, str(self.cwd), stdin, tty)
        process = await Process.start(spec, on_output, self.clock)
        self.execs.add(process)
        return process

    async def wait(self) -> Exit:
        """The end of the container, after which nothing started in it is left."""
        assert self.process is not None
        exit_ = await self.process.wait()
        for process in self.execs:
            await process.kill()
        self.execs.clear()
        self.log.close()
        self.hub.close()
        return exit_


async def start(
    pod_uid: str,
    container: Mapping[str, Any],
    restart: int,
    entry: ImageEntry,
    around: Surroundings,
    clock: Clock,
) -> ContainerRun:
    """Start the container for the `restart`-th time.

    Raises MissingReference (environment), MountFailed, CommandRefused and StartFailed.
    """
    name = container["name"]
    own_ports = [int(p["containerPort"]) for p in container.get("ports") or ()]
    root = around.directory / "roots" / name
    world = world_env(
        str(root),
        {number: around.ports[number] for number in own_ports if number in around.ports},
        around.proxy_url,
        around.proxy_https,
    )
    manifest = manifest_env(container, env_sources(around.sources))
    env = {
        **base_env(around.parent_env, str(around.home), str(around.temporary)),
        "HOSTNAME": around.sources.pod["metadata"]["name"],
        **entry.env,
        **manifest,
        **world,
    }
    argv = images.argv_for(
        entry,
        [expand(word, env) for word in container.get("command") or ()],
        [expand(word, env) for word in container.get("args") or ()],
    )
    build_root(root, plan_mounts(container, around.volumes, entry.contents, env), around.directory)
    cwd = inside(root, str(container.get("workingDir") or "/"))
    cwd.mkdir(parents=True, exist_ok=True)
    last_words = message_file(root, container)
    last_words.parent.mkdir(parents=True, exist_ok=True)
    last_words.write_bytes(b"")  # programs write their reason into it only where it is there
    tty, stdin = bool(container.get("tty")), bool(container.get("stdin"))
    digest = hashlib.sha256(f"{pod_uid}/{name}/{restart}".encode()).hexdigest()
    run = ContainerRun(
        name,
        f"kaito://{digest}",
        entry,
        env,
        root,
        cwd,
        LogWriter(log_path(around.directory, name, restart), clock),
        Hub(keep=stdin),
        tty,
        stdin,
        bool(container.get("stdinOnce")),
        clock,
    )
    try:
        run.process = await Process.start(ProcessSpec(argv, env, str(cwd), stdin, tty), run.feed, clock)
    except BaseException:
        run.log.close()
        raise
    run.hub.source = run.process
    return run


def log_path(pod_directory: Path, container: str, restart: int) -> Path:
    return pod_directory / "logs" / container / f"{restart}.log"


def message_file(root: Path, container: Mapping[str, Any]) -> Path:
    """Where the program may leave its last words."""
    return inside(root, str(container.get("terminationMessagePath") or "/dev/termination-log"))


def termination(run: ContainerRun, container: Mapping[str, Any], exit_: Exit, clock: Clock) -> Termination:
    """The record of the end, with the program's own message if it left one."""
    message = ""
    path = message_file(run.root, container)
    if path.is_file():
        message = path.read_bytes()[:MESSAGE_LIMIT].decode("utf-8", "replace")
        path.unlink()
    if not message and exit_.code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        message = tail_text(run.log.path, FALLBACK_LINES, FALLBACK_BYTES)
    return Termination(
        exit_.code,
        "Error" if exit_.code else "Completed",
        clock.wall(),
        signal=exit_.signal,
        message=message,
        container_id=run.container_id,
    )
