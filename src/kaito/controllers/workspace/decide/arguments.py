"""The command line of `kaito-serve`, which every runtime understands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kaito.catalog import GpuSku, Preset
from kaito.controllers.workspace.decide import serving
from kaito.controllers.workspace.decide.adapters import AdapterUse
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.vllm import vllm_settings
from kaito.controllers.workspace.names import headless_name

ADAPTERS_DIRECTORY: Final = "/mnt/adapter"
CONFIG_DIRECTORY: Final = "/mnt/config"
WEIGHTS_DIRECTORY: Final = "/workspace/weights"
CONFIG_FILE: Final = "inference_config.yaml"
RENDEZVOUS_PORT: Final = 29500
TUNED: Final = ("interactivity", "throughput")
"""What vLLM may be tuned for; `balanced` is what it is without being told."""


def serve_arguments(
    plan: Plan, preset: Preset, adapters: Sequence[AdapterUse], sku: GpuSku | None
) -> list[str]:
    """What the server is told; `sku` is the machine size in use."""
    arguments = [
        f"--preset={preset.name}",
        f"--served-model-name={preset.name}",
        f"--weights={WEIGHTS_DIRECTORY}",
    ]
    if plan.choice is not None:
        arguments += serving.arguments(plan.choice, preset)
        if plan.choice.runtime == "vllm":
            arguments += vllm_settings(preset, plan.machine)
        if plan.choice.runtime == "vllm" and plan.performance_mode in TUNED:
            arguments.append(f"--performance-mode={plan.performance_mode}")
    if plan.config_map is not None:
        arguments.append(f"--config={CONFIG_DIRECTORY}/{CONFIG_FILE}")
    if plan.distributed:
        first = f"{plan.name}-0.{headless_name(plan.name)}.{plan.namespace}.svc.cluster.local"
        arguments += [f"--nodes={plan.count}", f"--rendezvous={first}:{RENDEZVOUS_PORT}"]
    if adapters:
        arguments.append(f"--adapters-dir={ADAPTERS_DIRECTORY}")
        arguments += [f"--adapter={use.wanted.name}={use.wanted.strength}" for use in adapters]
    return arguments
