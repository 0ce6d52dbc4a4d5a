"""What serving knows of a machine's GPUs, whoever told it: the catalogue, or the labels of a Node that is there.

NVIDIA's GPU feature discovery writes the labels (github.com/NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from kaito.api.labels import GPU_COUNT_LABEL, GPU_MEMORY_LABEL, GPU_PRODUCT_LABEL
from kaito.catalog.models import BFLOAT16_COMPUTE_CAPABILITY, GpuSku

CAPABILITY_LABELS: Final = (
    ("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor"),
    ("nvidia.com/cuda.compute.major", "nvidia.com/cuda.compute.minor"),
)
"""GPU feature discovery's own names, and those that the Go KAITO reads."""
MIG_CONFIG_LABEL: Final = "nvidia.com/mig.config"
MIG_STATE_LABEL: Final = "nvidia.com/mig.config.state"
MIG_OFF: Final = "all-disabled"
_MIG_PROFILE: Final = re.compile(r"([1-9]\d*)g\.(\d+)(?:\.\d+)?gb")
_WHOLE: Final = re.compile(r"\d{1,9}")


@dataclass(frozen=True, slots=True)
class Machine:
    """GPUs of one node. All are alike."""

    name: str
    """The size's, or "" where only labels are known."""
    model: str
    gpus: int
    memory_gib: float
    """Of one GPU."""
    compute_capability: float | None = None
    """None: not known; then nothing is decided by it."""

    @property
    def bfloat16(self) -> bool | None:
        """Whether the GPUs compute in bfloat16; None where the compute capability is not known."""
        if self.compute_capability is None:
            return None
        return self.compute_capability >= BFLOAT16_COMPUTE_CAPABILITY


def no_bfloat16(machine: Machine) -> str:
    """What becomes of bfloat16 there, as a clause; "" on GPUs that compute in it, and on those that are not known."""
    if machine.bfloat16 is not False:
        return ""
    return (
        f"{machine.model} has compute capability {machine.compute_capability:.1f}, and bfloat16 needs "
        f"{BFLOAT16_COMPUTE_CAPABILITY:.1f}: float16 is used"
    )


class UnreadableGpus(ValueError):
    """A Node's labels do not tell its GPUs; the message is a sentence that names the label."""


def machine_of_sku(sku: GpuSku) -> Machine:
    """Raises UnreadableGpus for a size that no runtime works on."""
    if sku.unusable:
        raise UnreadableGpus(f"{sku.name} cannot serve models: {sku.unusable}")
    return Machine(sku.name, sku.model, sku.gpus, sku.memory_per_gpu_gib, sku.compute_capability)


def machine_of_labels(labels: Mapping[str, str]) -> Machine:
    """The GPUs of a Node that is there already.

    Raises UnreadableGpus when product, count or memory is missing or no number, or the GPUs are split (MIG).
    """
    config = labels.get(MIG_CONFIG_LABEL, "")
    if config not in ("", MIG_OFF) and labels.get(MIG_STATE_LABEL) == "success":
        raise UnreadableGpus(f"the GPUs are split ({MIG_CONFIG_LABEL}={config}); whole ones are needed")
    product = labels.get(GPU_PRODUCT_LABEL, "")
    if not product:
        raise UnreadableGpus(
            f"the node has no label {GPU_PRODUCT_LABEL}: is GPU feature discovery installed?"
        )
    count, mebibytes = _number(labels, GPU_COUNT_LABEL), _number(labels, GPU_MEMORY_LABEL)
    return Machine("", product.replace("-", " "), count, mebibytes / 1024, _capability(labels))


def part_of(machine: Machine, gpus: int) -> Machine:
    """The machine as a pod sees it that gets only some of its GPUs. Raises UnreadableGpus for more than there are."""
    if not 1 <= gpus <= machine.gpus:
        raise UnreadableGpus(f"{gpus} GPUs are asked for, and a node has {machine.gpus}")
    return replace(machine, gpus=gpus)


def slice_of(machine: Machine, profile: str) -> Machine:
    """One MIG slice, such as `3g.40gb`, as a machine: one GPU of the memory that its name says.

    Raises UnreadableGpus for what is no profile's name, or is larger than the GPU.
    """
    found = _MIG_PROFILE.fullmatch(profile)
    memory = int(found[2]) if found else 0
    if memory == 0:
        raise UnreadableGpus(f"{profile!r} is no MIG profile; they look like 1g.10gb")
    if memory > machine.memory_gib + 1:  # names round up: 7g.80gb is all of an A100 with 80 GB
        raise UnreadableGpus(f"{profile} is larger than a GPU of {machine.memory_gib:g} GiB")
    return replace(machine, gpus=1, memory_gib=float(memory))


def _number(labels: Mapping[str, str], name: str) -> int:
    text = labels.get(name, "")
    if not _WHOLE.fullmatch(text) or int(text) == 0:
        raise UnreadableGpus(f"the label {name} is {text!r}, and a number above 0 is needed")
    return int(text)


def _capability(labels: Mapping[str, str]) -> float | None:
    for major, minor in CAPABILITY_LABELS:
        if _WHOLE.fullmatch(labels.get(major, "")):
            second = labels.get(minor, "0")
            return float(f"{labels[major]}.{second if _WHOLE.fullmatch(second) else 0}")
    return None
