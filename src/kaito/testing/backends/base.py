"""What a test may ask of a backend, whichever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

API: Final = "api"
"""The API server with what belongs to it in every cluster: default ServiceAccounts, garbage collection, the end of
namespaces."""
WORKLOADS: Final = "workloads"
"""The controllers of Deployments, StatefulSets, Jobs and Services, and the scheduler."""
READY_PODS: Final = "ready-pods"
"""Nodes whose pods turn Running and Ready at once without a process: `READY_NODES`, and every Node made by
`simulated_node`. A Job's pods succeed. Implies WORKLOADS."""
PROCESSES: Final = "processes"
"""A node whose pods are processes of this machine; the embedded backend alone has one."""

EVERYWHERE: Final = frozenset({API, WORKLOADS, READY_PODS})
"""What every backend offers."""
READY_NODES: Final = ("ready-1", "ready-2")
"""The nodes that are there with READY_PODS: no GPUs, one pod network."""

CONTEXT: Final = "kaito-test"
"""Name of cluster, user and context in the written kubeconfigs."""

SERVICE_NETWORK: Final = "10.96.0.0/16"
"""Where both backends take cluster IPs from; its first address is the Service `kubernetes`."""


class BackendError(Exception):
    """A backend could not be had; says what is missing or what its programs said last."""


class Backend(Protocol):
    """One running API server with what was asked for."""

    @property
    def name(self) -> str:
        """`embedded` or `real`."""

    @property
    def url(self) -> str:
        """Where the API server listens; https on 127.0.0.1. The same for the backend's whole life."""

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of mode 0600 for a user who may do everything."""

    @property
    def offers(self) -> frozenset[str]:
        """What runs now: some of API, WORKLOADS, READY_PODS, PROCESSES."""

    async def restart(self, outage: float = 0.0) -> None:
        """Cuts every connection as a crash would, refuses new ones for `outage` seconds, then serves the same
        data at the same address. Returns when it serves."""

    async def compact(self) -> None:
        """Forgets the past: a watch that resumes from a version of before is answered with 410 Gone.

        Connections are cut, because kube-apiserver remembers events itself for as long as it runs.
        """

    def last_words(self) -> str:
        """The end of what its programs logged, for the report of a failed test; empty where nothing was."""


def simulated_node(name: str, *, gpus: int = 0, **labels: str) -> dict[str, object]:
    """A Node whose pods either backend simulates once it runs with READY_PODS; `gpus` are its nvidia.com/gpu.

    Labels whose names are no identifiers are added by the caller to `["metadata"]["labels"]`.
    """
    own = {
        "kaito.sh/instant-cloud": "true",
        "kaito.sh/simulated-pods": "true",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    if gpus:
        own["nvidia.com/gpu.count"] = str(gpus)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**own, **labels}},
    }
