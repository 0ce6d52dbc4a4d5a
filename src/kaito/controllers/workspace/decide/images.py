"""The image of the container that serves.

The engine is the image's business: decide writes the same arguments for all, and chooses among images. Names:

- `<registry>/runtime-<line>:<tag>`: a runtime without weights.
- `<registry>/kaito-<preset>:<tag>-<line>`: the same with the weights of one preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaito.catalog import GpuSku, Machine, Preset
from kaito.catalog.lines import LINES, Line, line_for
from kaito.catalog.models import Runtime
from kaito.controllers.workspace.config import WorkspaceConfig


def serving_image(
    preset: Preset,
    runtime: Runtime,
    gpus: GpuSku | Machine | None,
    config: WorkspaceConfig,
    options: Mapping[str, Any],
    *,
    baked: bool = True,
) -> str:
    """The reference that the serving container names.

    `gpus`: the machine in use, None where it is not known; `options`: the Workspace's `presetOptions`, whose image is
    taken as it is; `baked`: whether the weights shall come with the image. Those of some presets are in none: they are
    served from the runtime's.
    """
    own = options.get("image")
    if own:
        return str(own)
    if preset.image is not None or not baked:
        return runtime_image(runtime, gpus, config)
    return f"{config.registry}/{preset.image_name}:{preset.tag}-{image_line(runtime, gpus).name}"


def runtime_image(runtime: Runtime, gpus: GpuSku | Machine | None, config: WorkspaceConfig) -> str:
    """The runtime's image, for weights that come from elsewhere."""
    return f"{config.registry}/runtime-{image_line(runtime, gpus).name}:{config.runtime_tag}"


def image_line(runtime: Runtime, gpus: GpuSku | Machine | None) -> Line:
    """The line for such GPUs; for those that are too old for all, which sizing refuses, the oldest line."""
    found = line_for(runtime, gpus.compute_capability if gpus is not None else None)
    return found or [line for line in LINES if line.runtime == runtime][-1]
