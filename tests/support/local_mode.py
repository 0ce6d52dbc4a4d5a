"""A local mode as a user has it: started with the command line, used through kubectl and HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.apiserver import kubectl_binaries

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
KAITO = Path(sys.executable).with_name("kaito")
PLACEHOLDER = "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"
START_LIMIT_SECONDS = 90


def pause(seconds: float) -> None:
    """Waits for another process; only for tests without an event loop."""
    threading.Event().wait(seconds)


def kubectl_on_hand() -> str:
    """The kubectl that a user of this machine would get."""
    return str(kubectl_binaries()[0])


@dataclass
class LocalMode:
    """A running `kaito local up`, with the environment in which a user's second window would be."""

    root: Path
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.root.parent),
            "KUBECACHEDIR": str(self.root.parent / "kubectl-cache"),
            "TERM": "dumb",
        }

    def kubectl(
        self, *arguments: str, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [kubectl_on_hand(), *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, (
            f"kubectl {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        )
        return done

    def kaito(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(KAITO), *arguments],
            env=self.environment,
            cwd=self.root.parent,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
        )

    def wait_ready(self, workspace: str, *, limit: str = "90s") -> None:
        try:
            self.kubectl(
                "wait", f"workspace/{workspace}", "--for=condition=WorkspaceReady", f"--timeout={limit}"
            )
        except AssertionError as error:
            told = self.kubectl("describe", "workspace", workspace, check=False).stdout
            pods = self.kubectl("get", "machine,node,deployment,pod,event", "-A", check=False).stdout
            raise AssertionError(f"{error}\n{told}\n{pods}") from None

    def logs(self) -> str:
        return "\n".join(f"== {log.name}\n{log.read_text()[-4000:]}" for log in self.root.glob("logs/*.log"))


def start_local_mode(root: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> LocalMode:
    """`kaito local up --dir ROOT ARGUMENTS…`, returned when it has printed how to use it."""
    output = root.parent / f"{root.name}.out"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [str(KAITO), "local", "up", f"--dir={root}", *arguments],
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=root.parent,
            env={**os.environ, **(environment or {})},
        )
    mode = LocalMode(root, process, output)
    deadline = time.perf_counter() + START_LIMIT_SECONDS
    while "export KUBECONFIG=" not in output.read_text():
        if process.poll() is not None or time.perf_counter() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(f"kaito local up did not start:\n{output.read_text()}\n{mode.logs()}")
        pause(0.1)
    return mode


def stop_local_mode(mode: LocalMode) -> None:
    if mode.process.poll() is None:
        mode.process.terminate()
        mode.process.wait(timeout=40)
