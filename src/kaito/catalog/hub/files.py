"""Which of a repository's files are its weights, and how large they are.

Only files at the top count: a second copy in a directory (`original/`, `metal/`) is not loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kaito.catalog.hub.errors import unsupported

GIB: Final = 2**30
_SHARD: Final = re.compile(r"(.+)-\d{5}-of-\d{5}\.(safetensors|bin)")


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files that a server loads."""

    names: tuple[str, ...]
    size: int
    """Bytes."""
    mistral: bool = False
    """In Mistral's own layout (`consolidated*.safetensors`), which vLLM is told to read."""
    hugging_face: bool = True
    """Whether they, or others beside them, are in the layout of Hugging Face transformers."""

    @property
    def gib(self) -> float:
        """GiB with two decimals, as the catalogue has them; never 0."""
        return max(0.01, round(self.size / GIB, 2))


def weight_files(sizes: Mapping[str, int], id: str) -> WeightFiles:
    """What is loaded of the files (name to bytes). Raises HubError with a sentence where nothing can be."""
    top = {name: size for name, size in sizes.items() if "/" not in name}
    tensors = {name: size for name, size in top.items() if name.endswith(".safetensors")}
    own = {name: size for name, size in tensors.items() if name.startswith("consolidated")}
    rest = {name: size for name, size in tensors.items() if name not in own and name.startswith("model")}
    if not rest:
        rest = {
            name: size for name, size in tensors.items() if name not in own and not name.startswith("adapter")
        }
    if own:
        return _of(own, mistral=True, hugging_face=bool(rest))
    if rest:
        return _of(_one_copy(rest, "model.safetensors.index.json" in top))
    pickled = {name: size for name, size in top.items() if re.fullmatch(r"pytorch_model.*\.bin", name)}
    if pickled:
        return _of(_one_copy(pickled, "pytorch_model.bin.index.json" in top))
    if "adapter_config.json" in top:
        raise unsupported(
            f"{id} is a LoRA adapter, not a model: name its base model in inference.preset.name, and the adapter in "
            "inference.adapters"
        )
    raise unsupported(f"{id} has no weights: neither *.safetensors nor pytorch_model*.bin at its top")


def _one_copy(files: Mapping[str, int], index: bool) -> dict[str, int]:
    """Either the shards that an index lists, or the files that are none."""
    shards = {name: size for name, size in files.items() if _SHARD.fullmatch(name)}
    if shards and (index or len(shards) == len(files)):
        return shards
    return {name: size for name, size in files.items() if name not in shards} or dict(files)


def _of(files: Mapping[str, int], *, mistral: bool = False, hugging_face: bool = True) -> WeightFiles:
    return WeightFiles(tuple(sorted(files)), sum(files.values()), mistral, hugging_face)
