"""What a serving pod needs for its weights: the volume they are in, and init containers that put or check them there.

A download is split over several init containers, each of which goes on where the one before it ended. Each leaves a
sentence when it ends, which the kubelet puts into the pod's status: that is how far a download is, told without a right
to write anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kaito.catalog import Preset
from kaito.catalog.tensors import expectation
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.weights_source import (
    TOKEN_KEY,
    Baked,
    Hub,
    NodePath,
    Pulled,
    Volume,
    WeightsSource,
)
from kaito.controllers.workspace.model import Object
from kaito.controllers.workspace.names import part_name
from kaito.controllers.workspace.slim import WEIGHTS_CONTAINER

DIRECTORY: Final = "/workspace/weights"
VOLUME: Final = "weights"
PROGRAM: Final = "kaito-weights"
DOCKER_CONFIGS: Final = "/root/.docker/config.d"
SMALL_GIB: Final = 2
SHARES: Final = 4
"""Containers that a download is split over, and below what size it is not: each takes a second to start."""
SPARE_GIB: Final = 2
"""Room in a volume of its own beside the files: file systems keep some of it."""


@dataclass(frozen=True, slots=True)
class WeightsPart:
    """Parts of a pod. The mounts are the serving container's; the server finds the files where it always does."""

    volumes: tuple[Object, ...] = ()
    mounts: tuple[Object, ...] = ()
    init_containers: tuple[Object, ...] = ()


def weights_part(source: WeightsSource, preset: Preset, config: WorkspaceConfig) -> WeightsPart:
    """Empty where the image that serves has the weights in it."""
    if isinstance(source, Baked):
        return WeightsPart()
    fetched = isinstance(source, Hub | Pulled)
    mount = {"name": VOLUME, "mountPath": DIRECTORY}
    volumes = [_volume(source, preset)]
    secrets = source.secrets if isinstance(source, Pulled) else ()
    volumes += [docker_config(name) for name in dict.fromkeys(secrets)]
    return WeightsPart(
        volumes=tuple(volumes),
        mounts=({**mount, "readOnly": True},),
        init_containers=tuple(
            {
                **_program(name, arguments, config),
                **_environment(source, config),
                "volumeMounts": [
                    mount if fetched else {**mount, "readOnly": True},
                    *(_docker_mount(secret) for secret in dict.fromkeys(secrets)),
                ],
            }
            for name, arguments in _runs(source, preset)
        ),
    )


def look_part(source: Pulled | Volume, preset: Preset, config: WorkspaceConfig) -> WeightsPart:
    """What looks at weights and fetches none: one container, with the secrets or the volume that a server's pod has."""
    arguments = ["--look", f"--expect={_expected(preset)}"]
    if preset.vllm.load_format == "mistral":
        arguments.append("--format=mistral")
    if isinstance(source, Pulled):
        secrets = list(dict.fromkeys(source.secrets))
        volumes = [docker_config(name) for name in secrets]
        mounts = [_docker_mount(name) for name in secrets]
        arguments.insert(1, f"--image={source.image}")
    else:
        volumes = [_volume(source, preset)]
        mounts = [{"name": VOLUME, "mountPath": DIRECTORY, "readOnly": True}]
        arguments.insert(1, f"--check={DIRECTORY}")
    container = {**_program(WEIGHTS_CONTAINER, arguments, config), "volumeMounts": mounts}
    return WeightsPart(volumes=tuple(volumes), init_containers=(container,))


def _program(name: str, arguments: Sequence[str], config: WorkspaceConfig) -> Object:
    return {
        "name": name,
        "image": f"{config.registry}/puller:{config.puller_tag}",
        "command": [PROGRAM],
        "args": list(arguments),
    }


def _expected(preset: Preset) -> str:
    return orjson.dumps(expectation(preset), option=orjson.OPT_SORT_KEYS).decode()


def docker_config(secret: str) -> Object:
    """The volume that holds a pull secret as docker's config.json."""
    items = [{"key": ".dockerconfigjson", "path": "config.json"}]
    return {"name": part_name("docker-config", secret), "secret": {"secretName": secret, "items": items}}


def _docker_mount(secret: str) -> Object:
    return {
        "name": part_name("docker-config", secret),
        "mountPath": f"{DOCKER_CONFIGS}/{secret}",
        "readOnly": True,
    }


def _volume(source: WeightsSource, preset: Preset) -> Object:
    match source:
        case Volume(volume):
            return {**{key: value for key, value in volume.items() if key != "name"}, "name": VOLUME}
        case NodePath(path):
            return {"name": VOLUME, "hostPath": {"path": path, "type": "Directory"}}
        case Hub(storage_class=str(name)) | Pulled(storage_class=str(name)):
            return {"name": VOLUME, "ephemeral": {"volumeClaimTemplate": {"spec": _claim(name, preset)}}}
        case _:
            return {"name": VOLUME, "emptyDir": {}}


def _claim(storage_class: str, preset: Preset) -> Object:
    """A volume that lives as long as its pod. Its size is that of the files, or what a node's disk is asked for."""
    gib = preset.weights_gib + SPARE_GIB if preset.weights_gib is not None else preset.disk_gib or 100
    return {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": f"{int(gib) + 1}Gi"}},
    }


def _environment(source: WeightsSource, config: WorkspaceConfig) -> Object:
    entries: list[dict[str, Any]] = []
    if isinstance(source, Hub):
        if source.secret is not None:
            # Not optional: a Secret or key that is missing is said by the kubelet, by name.
            reference = {"name": source.secret, "key": TOKEN_KEY}
            entries.append({"name": TOKEN_KEY, "valueFrom": {"secretKeyRef": reference}})
        if config.hub_endpoint:
            entries.append({"name": "HF_ENDPOINT", "value": config.hub_endpoint})
    return {"env": entries} if entries else {}


def _runs(source: WeightsSource, preset: Preset) -> Sequence[tuple[str, list[str]]]:
    """Name and arguments of each init container, in order."""
    expect = f"--expect={_expected(preset)}"
    match source:
        case Hub():
            arguments = [
                f"--repository={source.repository}",
                *([f"--revision={source.revision}"] if source.revision else []),
                *([f"--format={preset.vllm.load_format}"] if preset.vllm.load_format == "mistral" else []),
                f"--output={DIRECTORY}",
                # What the catalogue records of a preset is not held against the preset's own weights.
                *([expect] if source.own else []),
            ]
            shares = _shares(preset)
            if shares == 1:
                return [(WEIGHTS_CONTAINER, arguments)]
            return [
                (f"{WEIGHTS_CONTAINER}-{share}-of-{shares}", [*arguments, f"--share={share}/{shares}"])
                for share in range(1, shares + 1)
            ]
        case Pulled(image):
            return [(WEIGHTS_CONTAINER, [f"--image={image}", f"--output={DIRECTORY}", expect])]
        case NodePath(own=False):
            return [(WEIGHTS_CONTAINER, [f"--check={DIRECTORY}"])]
        case _:
            return [(WEIGHTS_CONTAINER, [f"--check={DIRECTORY}", expect])]


def _shares(preset: Preset) -> int:
    return 1 if preset.weights_gib is not None and preset.weights_gib < SMALL_GIB else SHARES
