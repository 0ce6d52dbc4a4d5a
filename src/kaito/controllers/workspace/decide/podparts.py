"""The parts of a serving pod that follow from the model and the machine alone: who it runs as, how it is asked whether
it works, what it needs of a node beside GPUs, and where its pods had better not all be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from kaito.api.labels import GPU_RESOURCE, HOSTNAME_LABEL, ZONE_LABEL
from kaito.catalog import Preset
from kaito.controllers.workspace.model import Object

USER: Final = 65532
"""User and group of every container: that of the images. A fixed number, because an image that names none runs as root,
and is then refused. Volumes that can have a group get this one."""
POD_SECURITY: Final[Object] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Object] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
SCRATCH: Final = "/tmp"
"""The one directory of its own that a container may write to; the images have their HOME there."""

SECONDS_PER_GIB: Final = 18
FIRST_READINESS: Final = 900
SHORTEST_READINESS: Final = 1800
LONGEST_READINESS: Final = 10800
"""Seconds a model may take to start: 15 minutes and 18 s per GiB of weights, 30 minutes to 3 hours. Go KAITO."""
ROLLOUT_SECONDS: Final = 600
"""After how long without progress a Deployment counts as stuck: Kubernetes' own default."""

DRAIN: Final = 30
"""Seconds from SIGTERM to the end: the servers stop by themselves within 25 (kaito_presets.server.run)."""
LEAVE: Final = 5
"""Seconds that a pod which is not the only one still answers after it was asked to go, until nobody sends it anything
more: addresses are taken out of Services while the pod is already told."""

SERVER_CPU: Final = "250m"
SERVER_MIB: Final = 1024
"""What a serving process is given of a node at least: Python and its libraries. A choice of ours; with it a pod is not
among the first that a node in need throws out, and it fits beside the weights on every size that has GPUs."""
BYTES: Final[Mapping[str, int]] = {"float32": 4}
"""Of one number, where it is not 2."""


def startup_seconds(preset: Preset) -> int:
    """How long the model may take until it answers, in seconds."""
    allowed = FIRST_READINESS + math.ceil(SECONDS_PER_GIB * (preset.weights_gib or 0))
    return max(SHORTEST_READINESS, min(LONGEST_READINESS, allowed))


def rollout_seconds(preset: Preset | None) -> int:
    """After how long without progress a Deployment counts as stuck: not before its pods may have fetched the weights,
    in an image or by themselves, and loaded them. A user's own pods: Kubernetes' default."""
    return ROLLOUT_SECONDS + (2 * startup_seconds(preset) if preset is not None else 0)


def resources(preset: Preset, gpus: int) -> Object:
    """What the serving container asks of its node.

    GPUs are limited, as Kubernetes wants it. Nothing else is: a limit on CPU slows down what feeds the GPUs, and mapped
    weights count as memory of whoever read them first.
    """
    amounts = {"cpu": SERVER_CPU, "memory": f"{memory_mib(preset)}Mi"}
    if not gpus:
        return {"requests": amounts}
    return {"requests": {**amounts, GPU_RESOURCE: str(gpus)}, "limits": {GPU_RESOURCE: str(gpus)}}


def memory_mib(preset: Preset) -> int:
    """Memory of the node that the server needs: on GPUs the process alone, without them weights and cache as well."""
    if preset.gpus > 0:
        return SERVER_MIB
    weights = (preset.weights_gib or 0) * 2**30 or (preset.parameters or 0) * BYTES.get(preset.dtype, 2)
    cache = (preset.bytes_per_token or 0) * (preset.context_tokens or 0) * BYTES.get(preset.dtype, 2) // 2
    return SERVER_MIB + math.ceil((weights + cache) / 2**20)


def neighbours(selector: Mapping[str, str]) -> Object:
    """Pod affinity of the parts of one model: near one another, if it can be, since they talk at every token."""
    term = {"topologyKey": ZONE_LABEL, "labelSelector": {"matchLabels": dict(selector)}}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}


def spread(selector: Mapping[str, str]) -> list[Object]:
    """Topology spread of copies of one model: on different nodes and in different zones, if it can be."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(selector)},
        }
        for key in (HOSTNAME_LABEL, ZONE_LABEL)
    ]


def contained(container: Mapping[str, Any]) -> Object:
    """An init container with what every container of ours has: no rights, and a directory to write to."""
    mounts = [*(container.get("volumeMounts") or ()), {"name": "tmp", "mountPath": SCRATCH}]
    return {**container, "securityContext": CONTAINER_SECURITY, "volumeMounts": mounts}
