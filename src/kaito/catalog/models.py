"""What the catalogue knows: models that are served by name (presets) and machines with GPUs (SKUs).

Plain validated data, no I/O. A field that nobody has stated is None, never a guess.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Runtime = Literal["transformers", "vllm", "mistralrs"]
Dtype = Literal["auto", "float16", "bfloat16", "float32"]
Cloud = Literal["azure", "aws", "arc"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63)]

BFLOAT16_COMPUTE_CAPABILITY = 8.0
"""NVIDIA GPUs below this compute capability have no bfloat16 arithmetic."""


LONGEST_NAME = 128
"""Characters of a name that are compared with the names here: none is nearly as long."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dimensions(_Frozen):
    """Shape of a decoder: the numbers of a Hugging Face config.json."""

    hidden_size: int = Field(gt=0)
    layers: int = Field(gt=0)
    attention_heads: int = Field(gt=0)
    key_value_heads: int = Field(gt=0)


class Preset(_Frozen):
    """A model that a Workspace may name in `inference.preset.name` or `tuning.preset.name`."""

    name: Name
    aliases: tuple[str, ...] = ()
    """Further names that mean this preset; the Hugging Face id always does."""
    repo: str | None = None
    """`org/name` on the Hugging Face hub; None for weights that live elsewhere."""
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """The commit that the figures here were read from; None where none is recorded."""
    gguf_repo: str | None = None
    """`org/name` of the publisher's own GGUF files, for machines without a GPU; None where there are none."""
    licence: str | None = None
    architecture: str | None = None
    """Class name in config.json, such as `Phi3ForCausalLM`."""
    parameters: int | None = Field(default=None, gt=0)
    weights_gib: float | None = Field(default=None, gt=0)
    """Size of the weight files in GiB."""
    gpu_memory_gib: float | None = Field(default=None, ge=0)
    """Memory of all GPUs together that serving needs, in GiB; None where only `weights_gib` is known."""
    disk_gib: int | None = Field(default=None, gt=0)
    """Disk that a node needs for image and weights, in GiB."""
    dimensions: Dimensions | None = None
    bytes_per_token: int | None = Field(default=None, gt=0)
    """Key-value cache for one token at 16 bit, in bytes."""
    context_tokens: int | None = Field(default=None, gt=0)
    runtimes: tuple[Runtime, ...] = Field(min_length=1)
    """What can serve it, best first."""
    dtype: Dtype = "auto"
    gpus: int = Field(default=1, ge=0)
    """GPUs that one serving process needs at least; 0: it runs on CPU."""
    tag: str
    """Tag of the image `<registry>/kaito-<name>`."""
    multi_node: bool = False
    """Whether one copy of the model may be spread over several nodes."""
    tuning: bool = False
    lora: bool = True
    """Whether LoRA adapters can be mounted."""
    gated: bool = False
    """Whether the hub asks for a token."""
    deprecated: bool = False

    @property
    def runtime(self) -> Runtime:
        """The runtime that serves it unless told otherwise."""
        return self.runtimes[0]

    @property
    def required_gpu_memory_gib(self) -> float:
        """GPU memory that serving cannot do without, in GiB; 0 where nothing is known or no GPU is used."""
        if self.gpus == 0:
            return 0.0
        return self.gpu_memory_gib or self.weights_gib or 0.0

    def answers_to(self) -> frozenset[str]:
        """Every lower-case name that means this preset."""
        return frozenset(name.lower() for name in (self.name, *self.aliases, self.repo or self.name))


class GpuSku(_Frozen):
    """A machine size of a cloud that has GPUs."""

    name: str
    cloud: Cloud
    gpus: int = Field(gt=0)
    memory_gib: float = Field(gt=0)
    """Memory of all its GPUs together, in GiB."""
    model: str
    nvme: bool | None = None
    compute_capability: float | None = Field(default=None, gt=0)
    retired: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    """Day the cloud stopped offering it."""

    @property
    def memory_per_gpu_gib(self) -> float:
        """Memory of one GPU in GiB."""
        return self.memory_gib / self.gpus

    @property
    def nvidia(self) -> bool:
        """Whether its GPUs are scheduled as `nvidia.com/gpu`."""
        return self.model.startswith("NVIDIA")

    @property
    def bfloat16(self) -> bool | None:
        """Whether its GPUs compute in bfloat16; None where the compute capability is not recorded."""
        if self.compute_capability is None:
            return None
        return self.compute_capability >= BFLOAT16_COMPUTE_CAPABILITY


class Catalog(_Frozen):
    """All presets and SKUs. Lookups ignore letter case; a name that means two entries is refused on loading."""

    presets: tuple[Preset, ...] = ()
    skus: tuple[GpuSku, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Catalog:
        seen: dict[str, str] = {}
        for preset in self.presets:
            for name in preset.answers_to():
                if name in seen:
                    raise ValueError(f"presets {seen[name]} and {preset.name} both answer to {name}")
                seen[name] = preset.name
        skus = [sku.name.lower() for sku in self.skus]
        twice = sorted({name for name in skus if skus.count(name) > 1})
        if twice:
            raise ValueError(f"SKUs listed twice: {', '.join(twice)}")
        return self

    @cached_property
    def _preset_index(self) -> dict[str, Preset]:
        return {name: preset for preset in self.presets for name in preset.answers_to()}

    @cached_property
    def _sku_index(self) -> dict[str, GpuSku]:
        return {sku.name.lower(): sku for sku in self.skus}

    def preset(self, name: str) -> Preset | None:
        """The preset of that name, alias or Hugging Face id, or None."""
        return self._preset_index.get(name.strip().lower())

    def sku(self, name: str) -> GpuSku | None:
        """The SKU of that name, or None."""
        return self._sku_index.get(name.strip().lower())

    def nearest_presets(self, name: str, limit: int = 3) -> list[str]:
        """Names of usable presets most like `name`, best first; the first of all if none is alike."""
        usable = [preset.name for preset in self.presets if not preset.deprecated]
        return _nearest(name.rsplit("/", 1)[-1], usable, limit)

    def nearest_skus(self, name: str, limit: int = 3) -> list[str]:
        """Names of SKUs most like `name`, best first; of two that are as alike the one still on offer."""
        skus = sorted(self.skus, key=lambda sku: sku.retired is not None)
        return _nearest(name, [sku.name for sku in skus], limit)

    def skus_for(self, preset: Preset, cloud: Cloud, limit: int = 3) -> list[str]:
        """Names of the smallest SKUs on offer in that cloud whose GPUs hold the preset, smallest first."""
        fitting = [
            sku
            for sku in self.skus
            if sku.cloud == cloud
            and sku.retired is None
            and sku.nvidia
            and sku.gpus >= preset.gpus
            and sku.memory_gib >= preset.required_gpu_memory_gib
        ]
        fitting.sort(key=lambda sku: (sku.memory_gib, sku.gpus, sku.name))
        return [sku.name for sku in fitting[:limit]]


def _nearest(name: str, names: Iterable[str], limit: int) -> list[str]:
    known = {each.lower(): each for each in names}
    found = difflib.get_close_matches(name[:LONGEST_NAME].strip().lower(), known, n=limit, cutoff=0.5)
    return [known[each] for each in found] or list(known.values())[:limit]
