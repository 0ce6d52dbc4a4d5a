"""What the catalogue knows: models that are served by name (presets) and machines with GPUs (SKUs).

Plain validated data, no I/O. A field that nobody has stated is None, never a guess.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

Runtime = Literal["transformers", "vllm", "mistralrs"]
Dtype = Literal["auto", "float16", "bfloat16", "float32"]
CacheDtype = Literal["auto", "fp8"]
Task = Literal["text-generation", "image-text-to-text", "any-to-any"]
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
    head_dim: int | None = Field(default=None, gt=0)
    """Where it is not hidden_size / attention_heads."""
    kv_lora_rank: int | None = Field(default=None, gt=0)
    """Multi-head latent attention (MLA): the cache holds this many numbers, and `rope_head_dim`, for all heads."""
    rope_head_dim: int | None = Field(default=None, gt=0)

    @property
    def head_size(self) -> int:
        """Numbers in one key or value of one head."""
        return self.head_dim or self.hidden_size // self.attention_heads

    @property
    def latent(self) -> int | None:
        """Numbers that MLA keeps for one token in one layer; None for other attention."""
        return None if self.kv_lora_rank is None else self.kv_lora_rank + (self.rope_head_dim or 0)

    @model_validator(mode="after")
    def _heads_share(self) -> Dimensions:
        if self.kv_lora_rank is None and self.attention_heads % self.key_value_heads:
            raise ValueError("attention_heads is no multiple of key_value_heads")
        return self


class AttentionLayers(_Frozen):
    """How the layers of a hybrid model remember: `full` cache every token, `sliding` the last `window`, `recurrent`
    keep a state of fixed size for a sequence (Mamba, gated delta nets). Layers that are none of these keep nothing."""

    full: int = Field(ge=0)
    sliding: int = Field(default=0, ge=0)
    window: int | None = Field(default=None, gt=0)
    """Tokens."""
    recurrent: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _window_is_stated(self) -> AttentionLayers:
        if (self.sliding > 0) != (self.window is not None):
            raise ValueError("window goes with sliding layers")
        return self


class Quantization(_Frozen):
    """How the weights are stored in fewer bits than 16, by the name that the model's config.json has for it."""

    method: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    bits: int | None = Field(default=None, gt=0, lt=16)


class TransformersSettings(_Frozen):
    """What the Transformers runtime is told about a model."""

    chat_template: str | None = None
    """Name of the template for copies of the weights that bring none; vLLM and mistralrs take it then, too."""


class VllmSettings(_Frozen):
    """What vLLM is told about a model, by the names of its flags; None: vLLM's default."""

    load_format: str | None = None
    config_format: str | None = None
    tokenizer_mode: str | None = None
    reasoning_parser: str | None = None
    tool_call_parser: str | None = None
    chat_template: str | None = None
    """Name of a template that replaces the weights' own, because theirs does not declare tools as the parser reads
    calls. Without its ending."""
    kv_cache_dtype: CacheDtype = "auto"
    gdn_prefill_backend: str | None = None
    enable_expert_parallel: bool = False
    flashinfer_autotune: bool | None = None
    lora: bool = True
    """Whether vLLM can mount LoRA adapters on the model."""


class Preset(_Frozen):
    """A model that a Workspace may name in `inference.preset.name` or `tuning.preset.name`."""

    name: Name
    aliases: tuple[str, ...] = ()
    """Further names that mean this preset; the Hugging Face id always does."""
    repo: str | None = None
    """`org/name` on the Hugging Face hub; None for weights that live elsewhere."""
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    """The commit that the figures here were read from; None where none is recorded."""
    earlier_revisions: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")], ...] = ()
    """Commits that images with older tags were made from."""
    gguf_repo: str | None = None
    """`org/name` of the publisher's own GGUF files, for machines without a GPU; None where there are none."""
    licence: str | None = None
    architecture: str | None = None
    """Class name in config.json, such as `Phi3ForCausalLM`."""
    task: Task | None = None
    """What the hub says it is for."""
    parameters: int | None = Field(default=None, gt=0)
    mixture_of_experts: bool | None = None
    """Whether a token uses only some of the weights (all of them are in memory all the same); None: not recorded."""
    active_parameters: int | None = Field(default=None, gt=0)
    """Of a mixture of experts: those that one token uses, as its name says."""
    weights_gib: float | None = Field(default=None, gt=0)
    """Size of the weight files that are loaded, in GiB."""
    quantization: Quantization | None = None
    gpu_memory_gib: float | None = Field(default=None, ge=0)
    """Memory of all GPUs together that serving needs, in GiB; None where only `weights_gib` is known."""
    disk_gib: int | None = Field(default=None, gt=0)
    """Disk that a node needs for image and weights, in GiB."""
    dimensions: Dimensions | None = None
    attention_layers: AttentionLayers | None = None
    """None: every layer has full attention, or it is not recorded which has."""
    bytes_per_token: int | None = Field(default=None, gt=0)
    """Key-value cache for one token at 16 bit, in bytes, if every layer had full attention."""
    context_tokens: int | None = Field(default=None, gt=0)
    runtimes: tuple[Runtime, ...] = Field(min_length=1)
    """What can serve it, best first."""
    dtype: Dtype = "auto"
    gpus: int = Field(default=1, ge=0)
    """GPUs that one serving process needs at least; 0: it runs on CPU."""
    image: str | None = None
    """Name of the image behind the registry; None: `kaito-<name>`, which has the weights in it."""
    tag: str
    """Tag of the image."""
    download: bool = False
    """Whether the weights come from the hub when the server starts."""
    private: bool = False
    """Whether there is no public image: the user brings one, in `presetOptions.image`."""
    transformers: TransformersSettings = TransformersSettings()
    vllm: VllmSettings = VllmSettings()
    multi_node: bool = False
    """Whether one copy of the model may be spread over several nodes."""
    tuning: bool = False
    """Whether it can be fine-tuned."""
    tuning_gpu_memory_gib: float | None = Field(default=None, gt=0)
    """GPU memory that fine-tuning is said to need, in GiB; stated generously, so nothing is refused for it."""
    tuning_disk_gib: int | None = Field(default=None, gt=0)
    lora: bool = True
    """Whether LoRA adapters can be mounted."""
    gated: bool = False
    """Whether the hub asks for a token."""
    deprecated: bool = False

    @model_validator(mode="after")
    def _layers_add_up(self) -> Preset:
        kinds, dims = self.attention_layers, self.dimensions
        if kinds is None:
            return self
        if dims is None or kinds.full + kinds.sliding + kinds.recurrent > dims.layers:
            raise ValueError("attention_layers are more than dimensions.layers")
        return self

    @property
    def image_name(self) -> str:
        """Name of its image, without registry and tag."""
        return self.image or f"kaito-{self.name}"

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
    """As the cloud's API writes it: claims ask for it by this name."""
    aliases: tuple[str, ...] = ()
    """Other names that people write."""
    cloud: Cloud
    gpus: int = Field(gt=0)
    memory_gib: float = Field(gt=0)
    """Memory of all its GPUs together, in GiB."""
    model: str
    nvme: bool | None = None
    """Whether it has local disks of its own; None: not recorded."""
    compute_capability: float | None = Field(default=None, gt=0)
    """By NVIDIA's table of its GPUs."""
    processor: Literal["amd64", "arm64"] = "amd64"
    retired: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$")
    """Day the cloud stopped offering it."""
    replacement: str | None = None
    """The size to use instead of a retired one, where somebody chose it."""

    @property
    def memory_per_gpu_gib(self) -> float:
        """Memory of one GPU in GiB."""
        return self.memory_gib / self.gpus

    @property
    def nvidia(self) -> bool:
        """Whether its GPUs are scheduled as `nvidia.com/gpu`."""
        return self.model.startswith("NVIDIA")

    @property
    def unusable(self) -> str:
        """Why no model can be served on it, as the end of a sentence; "" where models can."""
        if not self.nvidia:
            return f"its accelerators are {self.model}, and every runtime here needs NVIDIA GPUs"
        if self.processor != "amd64":
            return f"its processors are {self.processor}, and the images of the runtimes are for amd64"
        return ""

    @property
    def bfloat16(self) -> bool | None:
        """Whether its GPUs compute in bfloat16; None where the compute capability is not recorded."""
        if self.compute_capability is None:
            return None
        return self.compute_capability >= BFLOAT16_COMPUTE_CAPABILITY

    def answers_to(self) -> frozenset[str]:
        """Every lower-case name that means this size."""
        return frozenset(name.lower() for name in (self.name, *self.aliases))


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
        counted = Counter(name for sku in self.skus for name in sku.answers_to())
        twice = sorted(name for name, times in counted.items() if times > 1)
        if twice:
            raise ValueError(f"SKUs listed twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _replacements_exist(self) -> Catalog:
        names = {sku.name for sku in self.skus if sku.retired is None}
        for sku in self.skus:
            if sku.replacement is not None and sku.replacement not in names:
                raise ValueError(f"SKU {sku.name}: its replacement {sku.replacement} is not on offer")
        return self

    @property
    def current(self) -> Catalog:
        """Itself: a catalogue that does not change is a source of one."""
        return self

    @cached_property
    def _preset_index(self) -> dict[str, Preset]:
        return {name: preset for preset in self.presets for name in preset.answers_to()}

    @cached_property
    def _sku_index(self) -> dict[str, GpuSku]:
        return {name: sku for sku in self.skus for name in sku.answers_to()}

    def preset(self, name: str) -> Preset | None:
        """The preset of that name, alias or Hugging Face id, or None."""
        return self._preset_index.get(name.strip().lower())

    def sku(self, name: str) -> GpuSku | None:
        """The SKU of that name or alias, or None."""
        return self._sku_index.get(name.strip().lower())

    def nearest_presets(self, name: str, limit: int = 3) -> list[str]:
        """Names of usable presets most like `name`, best first; the first of all if none is alike."""
        usable = [preset.name for preset in self.presets if not preset.deprecated]
        return _nearest(name.rsplit("/", 1)[-1], usable, limit)

    def nearest_skus(self, name: str, limit: int = 3, cloud: Cloud | None = None) -> list[str]:
        """Names of SKUs that serve models, most like `name` first; of two that are as alike the one still on offer.

        `cloud` leaves the others out.
        """
        skus = [sku for sku in self.skus if cloud in (None, sku.cloud) and not sku.unusable]
        skus.sort(key=lambda sku: (sku.retired is not None, sku.cloud != "azure"))
        return _nearest(name, [sku.name for sku in skus], limit)


class CatalogSource(Protocol):
    """Where whoever lives long gets the catalogue of the moment."""

    @property
    def current(self) -> Catalog: ...


def _nearest(name: str, names: Iterable[str], limit: int) -> list[str]:
    known = {each.lower(): each for each in names}
    found = difflib.get_close_matches(name[:LONGEST_NAME].strip().lower(), known, n=limit, cutoff=0.5)
    return [known[each] for each in found] or list(known.values())[:limit]
