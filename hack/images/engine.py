"""Drives the tool that builds images, buildah or docker: few commands, in their two dialects."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tool = Literal["buildah", "docker"]

_PROBE = """
import json, os, platform
status = "/var/lib/dpkg/status"
print(json.dumps({
    "python": platform.python_version(), "machine": platform.machine(),
    "dpkg": open(status, encoding="utf-8").read() if os.path.exists(status) else "",
}))
"""


class BuildError(Exception):
    """What could not be built, and what to do about it."""


@dataclass(frozen=True)
class Base:
    """What a base image holds."""

    name: str
    python: str
    """Version of its python3, such as 3.12.11."""
    machine: str
    """Processor as `uname -m` names it."""
    dpkg: str
    """The contents of /var/lib/dpkg/status; empty where it is no Debian."""


@dataclass(frozen=True)
class Built:
    """An image in the tool's store."""

    name: str
    id: str
    """Digest of its configuration, which names every layer's content: equal ids are equal images."""


@dataclass(frozen=True)
class Engine:
    """One of the two tools."""

    tool: Tool

    @classmethod
    def find(cls, wanted: str) -> Engine:
        """The tool of that name, or with an empty name the first there is. Raises BuildError when it is missing."""
        if wanted not in ("", "buildah", "docker"):
            raise BuildError(f"TOOL={wanted}: write buildah or docker.")
        for tool in ("buildah", "docker"):
            if wanted in ("", tool) and shutil.which(tool) is not None:
                return cls(tool)
        missing = wanted or "buildah or docker"
        raise BuildError(f"{missing} is not installed (Debian, Ubuntu: apt-get install buildah).")

    def probe(self, base: str) -> Base:
        """What is in the base image. Raises BuildError when it can't be fetched or has no python3."""
        try:
            text = self._run_probe(base)
        except BuildError as error:
            raise BuildError(
                f"the base image {base} cannot be fetched or run: {error} Name another one with BASE=…, or, without "
                "an image hub, one made here: BASE=$(hack/images/debian-base.sh)"
            ) from None
        try:
            found = json.loads(text)
        except ValueError:
            raise BuildError(f"{base}: expected a base image with python3, found {text[:200]!r}.") from None
        return Base(base, found["python"], found["machine"], found["dpkg"])

    def _run_probe(self, base: str) -> str:
        if self.tool == "docker":
            return _output(["docker", "run", "--rm", "--entrypoint=python3", base, "-c", _PROBE])
        container = _output(["buildah", "from", "--quiet", "--pull=missing", base]).strip()
        try:
            return _output(["buildah", "run", "--isolation=chroot", container, "--", "python3", "-c", _PROBE])
        finally:
            _output(["buildah", "rm", container])

    def build(self, context: Path, name: str, arguments: Mapping[str, str], epoch: int) -> Built:
        """Builds `context`/Dockerfile. The build has no network, and `epoch` stands for every time in the result."""
        with tempfile.TemporaryDirectory() as work:
            written = Path(work) / "id"
            command = build_command(self.tool, context, name, arguments, epoch, written)
            _output(command, environment={"SOURCE_DATE_EPOCH": str(epoch)})
            return Built(name, written.read_text(encoding="utf-8").strip())

    def tag(self, name: str, another: str) -> None:
        """Gives an image a second name."""
        _output([self.tool, "tag", name, another])

    def push(self, name: str) -> str:
        """Pushes to the registry that the name begins with; returns the digest there.

        A registry on this machine is spoken to by http, as docker does by itself.
        """
        if self.tool == "docker":
            _output(["docker", "push", "--quiet", name])
            digests = _output(["docker", "image", "inspect", '--format={{join .RepoDigests " "}}', name])
            return digests.split()[0].partition("@")[2]
        with tempfile.TemporaryDirectory() as work:
            digest = Path(work) / "digest"
            tls = f"--tls-verify={'false' if on_this_machine(name) else 'true'}"
            _output(["buildah", "push", "--quiet", tls, f"--digestfile={digest}", name, f"docker://{name}"])
            return digest.read_text(encoding="utf-8").strip()


def build_command(
    tool: Tool, context: Path, name: str, arguments: Mapping[str, str], epoch: int, id_file: Path
) -> list[str]:
    """The command that builds `context`/Dockerfile as `name` and writes the image's id to `id_file`."""
    options = [f"--build-arg={key}={value}" for key, value in sorted(arguments.items())]
    options += [f"--iidfile={id_file}", "--no-cache", f"--tag={name}"]
    if tool == "docker":
        # BuildKit takes the image's own times from this argument; those of files need an exporter that not every
        # installation has, so there the digests of two builds differ.
        options += [f"--build-arg=SOURCE_DATE_EPOCH={epoch}", "--network=none", "--quiet"]
        return ["docker", "build", *options, str(context)]
    options += [
        "--isolation=chroot",
        "--pull=false",
        "--identity-label=false",
        f"--timestamp={epoch}",
        "--quiet",
    ]
    return ["buildah", "bud", *options, str(context)]


def on_this_machine(name: str) -> bool:
    """Whether an image's name begins with a registry on this machine, which needs no certificate."""
    host = name.partition("/")[0]
    return host.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")


def _output(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    if done.returncode != 0:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        raise BuildError(
            f"{' '.join(command[:2])} failed with exit code {done.returncode}; its last words are above."
        )
    return done.stdout
