"""Runs an image as a kubelet has runc run it: its own user, read-only root, no capabilities, /tmp in memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Image:
    """An image in buildah's store, mounted."""

    name: str
    config: dict[str, Any]
    root: Path
    _container: str = field(repr=False)

    @classmethod
    def mount(cls, name: str) -> Image:
        described = json.loads(buildah("inspect", "--type=image", name))
        container = buildah("from", "--pull=never", name).strip()
        root = Path(buildah("mount", container).strip())
        return cls(name, described["OCIv1"]["config"], root, container)

    def unmount(self) -> None:
        buildah("umount", self._container)
        buildah("rm", self._container)

    def start(
        self,
        bundle: Path,
        *arguments: str,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        mounts: Mapping[Path, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Starts the entry point (or `command`) with these arguments in this machine's network.

        `bundle` is an empty directory; `mounts` are directories of this machine and where they appear, writable.
        """
        entry = list(command or self.config["Entrypoint"])
        bundle.mkdir(parents=True)
        spec = self._spec([*entry, *arguments], environment or {}, mounts or {})
        (bundle / "config.json").write_text(json.dumps(spec))
        runc = shutil.which("runc") or "/usr/sbin/runc"
        name = f"kaito-test-{uuid.uuid4().hex[:12]}"
        return subprocess.Popen(
            [runc, f"--root={bundle / 'state'}", "run", f"--bundle={bundle}", name],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def run(self, bundle: Path, *arguments: str, **more: Any) -> tuple[int, str]:
        """Runs to the end; the exit code and what was written."""
        process = self.start(bundle, *arguments, **more)
        output, _ = process.communicate()
        return process.returncode, output

    def _spec(
        self, arguments: list[str], environment: Mapping[str, str], mounts: Mapping[Path, str]
    ) -> dict[str, Any]:
        user, group = self.config["User"].split(":")
        given = [f"{key}={value}" for key, value in environment.items()]
        quiet = ["nosuid", "noexec", "nodev"]
        bound = [
            {"destination": inside, "type": "bind", "source": str(outside), "options": ["bind", "rw"]}
            for outside, inside in mounts.items()
        ]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": int(user), "gid": int(group)},
                "args": arguments,
                "env": [*self.config["Env"], *given],
                "cwd": self.config.get("WorkingDir") or "/",
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.root), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "mode=755"],
                },
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [*quiet, "mode=1777"]},
                *bound,
            ],
            # No network namespace: what listens does so on this machine's loopback.
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
        }


def buildah(*arguments: str) -> str:
    """buildah's output. Raises CalledProcessError, with its words, when it fails."""
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, env={**os.environ})
    if done.returncode != 0:
        raise AssertionError(f"buildah {' '.join(arguments)}: {done.stderr}")
    return done.stdout
