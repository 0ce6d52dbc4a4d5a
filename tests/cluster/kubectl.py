"""kubectl as a user runs it, and the questions that the tests ask with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from cluster.places import Places
from kaito.runtime.clock import LoopClock

Object = dict[str, Any]
Answer = TypeVar("Answer")

LIMIT: Final = 180.0
"""Seconds for one command and for anything that is waited for; generous, because the machine may do other things."""
_PAUSE: Final = 0.5
_STATE: Final[Mapping[str, tuple[str, ...]]] = {
    "events.txt": ("get", "events", "-A", "--sort-by=.lastTimestamp"),
    "objects.txt": ("get", "all,workspaces,adapters,machines,nodeclaims,leases,nodes", "-A", "-o", "wide"),
    "objects.yaml": ("get", "all,workspaces,adapters,machines,nodeclaims,leases,nodes", "-A", "-o", "yaml"),
    "pods.txt": ("describe", "pods", "-A"),
}


class KubectlError(AssertionError):
    """A command failed."""


class Kubectl:
    """One kubectl on one cluster."""

    def __init__(self, places: Places, environment: Mapping[str, str]) -> None:
        self.places = places
        self.environment = {**os.environ, **environment}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self._program = shutil.which("kubectl", path=path) or "kubectl"

    def __call__(self, *arguments: str, given: str | None = None) -> str:
        """Its standard output. Raises KubectlError with what it said on the other."""
        done = self._run(arguments, given)
        if done.returncode:
            raise KubectlError(
                f"kubectl {' '.join(arguments)}: exit {done.returncode}: {done.stderr or done.stdout}"
            )
        return done.stdout

    def get(self, kind: str, name: str, namespace: str = "default") -> Object:
        """One object. Raises KubectlError where it is not there."""
        found: Object = json.loads(self("get", kind, name, "-n", namespace, "-o", "json"))
        return found

    def list(self, kind: str, *arguments: str) -> list[Object]:
        """Objects of all namespaces, or of those that the arguments name; none where there is no such kind."""
        done = self._run(("get", kind, "-o", "json", *(arguments or ("-A",))))
        if "doesn't have a resource type" in done.stderr:
            return []
        if done.returncode:
            raise KubectlError(f"kubectl get {kind}: {done.stderr}")
        found: list[Object] = json.loads(done.stdout)["items"]
        return found

    async def until(self, what: str, ask: Callable[[], Answer | None]) -> Answer:
        """Asks again until the answer is neither None nor False nor empty, and returns it.

        Raises:
            AssertionError: it never was within LIMIT.
        """
        clock = LoopClock()
        deadline = clock.now() + LIMIT
        while not (answer := ask()):
            assert clock.now() < deadline, f"{what}: not within {LIMIT:g} s"
            await clock.sleep(_PAUSE)
        return answer

    def inventory(self) -> set[str]:
        """Kind, version, namespace and name of everything there is, but for what the cluster writes about itself."""
        kinds = self("api-resources", "--verbs=list", "-o", "name").split()
        wanted = ",".join(kind for kind in kinds if kind.split(".")[0] not in _OF_THE_CLUSTER)
        columns = "KIND:.kind,VERSION:.apiVersion,NAMESPACE:.metadata.namespace,NAME:.metadata.name"
        return set(self("get", wanted, "-A", "--no-headers", "-o", f"custom-columns={columns}").splitlines())

    def keep_state(self, test: str) -> Path:
        """Writes what there is, and what was logged, into a folder of the logs."""
        folder = self.places.logs / "failed" / re.sub(r"[^\w.-]+", "-", test)
        folder.mkdir(parents=True, exist_ok=True)
        for name, arguments in _STATE.items():
            done = self._run(arguments)
            (folder / name).write_text(done.stdout + done.stderr)
        return folder

    def _run(self, arguments: tuple[str, ...], given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments],
            capture_output=True,
            text=True,
            input=given,
            env=self.environment,
            timeout=LIMIT,
        )


_OF_THE_CLUSTER: Final = frozenset(
    {
        "events",
        "componentstatuses",
        "endpoints",
        "endpointslices",
        "csinodes",
        "replicasets",
        "controllerrevisions",
    }
)
"""Kinds whose objects come and go with others, or tell of them."""
