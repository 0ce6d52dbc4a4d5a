"""A model of the hub as an entry of the catalogue, from what the hub says of it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from kaito.catalog.hub.errors import unsupported
from kaito.catalog.hub.files import WeightFiles, weight_files
from kaito.catalog.hub.gguf import gguf_preset, only_gguf
from kaito.catalog.hub.settings import vllm_settings
from kaito.catalog.hub.shape import Shape, read_shape
from kaito.catalog.models import Preset, Runtime, Task

IMAGE: Final = "kaito-base"
TAG: Final = "0.5.0"
"""What pods of models pull whose weights come from the hub: as in the catalogue's own entries."""
DISK_BESIDE_WEIGHTS: Final = 80
"""GiB of a node's disk for images and everything else. Go KAITO."""
UNSTATED_CONTEXT: Final = 2048
"""Tokens of a model whose config.json states no length: what vLLM and the Go KAITO take then. Mistral's own format has
another default, which sizing does not need to know."""
LONGEST_NAME: Final = 63
LONGEST_ID: Final = 96
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_UNNAMED: Final = {
    "mistral-large-3": "MistralLarge3ForCausalLM",
    "ministral-3": "Mistral3ForConditionalGeneration",
}
"""Architecture of models whose files name none, by how their name begins. Go KAITO."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the hub said of a model at one revision."""

    info: Mapping[str, Any]
    """`/api/models/…?blobs=true`."""
    config: Mapping[str, Any]
    """config.json, or params.json of a model in Mistral's own layout."""
    config_name: str = "config.json"


def is_hub_id(name: str) -> bool:
    """Whether the name may be that of a repository of models: `org/name`."""
    return len(name) <= LONGEST_ID and _ID.fullmatch(name) is not None and ".." not in name


def true_id(info: Mapping[str, Any], asked: str) -> str:
    """The id as its owner writes it, or as it was asked for."""
    said = info.get("id")
    return said if isinstance(said, str) and is_hub_id(said) else asked


def sizes_of(info: Mapping[str, Any], id: str) -> dict[str, int]:
    """Bytes of each file. Raises HubError where the hub's list has another shape."""
    siblings = info.get("siblings")
    if not isinstance(siblings, list):
        raise unsupported(f"the hub's answer about {id} lists no files")
    found: dict[str, int] = {}
    for each in siblings:
        name = each.get("rfilename") if isinstance(each, dict) else None
        size = each.get("size") if isinstance(each, dict) else None
        if not isinstance(name, str):
            raise unsupported(f"the hub's answer about {id} lists a file without a name")
        found[name] = size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else 0
    return found


def preset_of(id: str, answers: Answers) -> Preset:
    """The entry. Raises HubError with a sentence: no weights, a shape that is not told, an architecture that no runtime
    here serves."""
    info = answers.info
    id = true_id(info, id)
    what = f"{answers.config_name} of {id}"
    revision = _text(info.get("sha")) or ""
    if not _COMMIT.fullmatch(revision):
        raise unsupported(f"the hub does not say at which commit {id} is")
    sizes = sizes_of(info, id)
    beside = {
        "name": short_name(id),
        "repo": id,
        "revision": revision,
        "licence": _licence(info),
        "task": _task(info),
        "image": IMAGE,
        "tag": TAG,
        "download": True,
        "gated": info.get("gated") not in (None, False),
    }
    if only_gguf(sizes):
        return _checked(id, lambda: gguf_preset(beside, info))
    files = weight_files(sizes, id)
    if files.size == 0:
        raise unsupported(f"the hub does not say how large the weights of {id} are")
    shape = read_shape(answers.config, what)
    repository = id.split("/", 1)[1].lower()
    architecture = shape.architecture or next(
        (value for start, value in _UNNAMED.items() if repository.startswith(start)), None
    )
    runtimes = _runtimes(id, architecture, files)
    return _checked(
        id,
        lambda: Preset(
            **beside,
            architecture=architecture,
            parameters=_parameters(info),
            mixture_of_experts=shape.experts,
            weights_gib=files.gib,
            quantization=shape.quantization,
            disk_gib=int(files.gib + DISK_BESIDE_WEIGHTS),
            dimensions=shape.dimensions,
            attention_layers=shape.layers,
            bytes_per_token=_bytes_per_token(shape),
            context_tokens=shape.context_tokens or (None if files.mistral else UNSTATED_CONTEXT),
            runtimes=runtimes,
            dtype="auto" if shape.quantization is not None else shape.dtype,
            vllm=vllm_settings(repository, architecture, mistral=files.mistral),
            multi_node="vllm" in runtimes,
        ),
    )


def _checked(id: str, made: Callable[[], Preset]) -> Preset:
    """The entry. Raises HubError where its parts contradict one another."""
    try:
        return made()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise unsupported(
            f"what the hub says of {id} does not fit together: {where}: {first['msg']}"
        ) from None


def short_name(id: str) -> str:
    """A preset's name for it: the repository's, in the letters that names may have."""
    plain = re.sub(r"[^a-z0-9.-]+", "-", id.split("/", 1)[1].lower())
    return plain.strip("-.")[:LONGEST_NAME].strip("-.") or "model"


@cache
def known_architectures() -> Mapping[Runtime, frozenset[str]]:
    """What each runtime serves, by its engine's own tables (hack/architectures.py)."""
    tables = json.loads((Path(__file__).parent / "architectures.json").read_text(encoding="utf-8"))
    return {runtime: frozenset(tables[runtime]["architectures"]) for runtime in _HUB_RUNTIMES}


_HUB_RUNTIMES: Final[tuple[Runtime, ...]] = ("vllm", "transformers")
"""In the order in which they are taken."""


def _runtimes(id: str, architecture: str | None, files: WeightFiles) -> tuple[Runtime, ...]:
    if architecture is None and files.mistral:
        return ("vllm",)  # which tells it from params.json
    if architecture is None:
        raise unsupported(f"config.json of {id} names no architecture, so no runtime knows how to serve it")
    known = known_architectures()
    found = tuple(
        runtime
        for runtime in _HUB_RUNTIMES
        if architecture in known[runtime] and (runtime == "vllm" or files.hugging_face)
    )
    if not found:
        raise unsupported(
            f"the architecture of {id} is {architecture}, which neither vLLM nor Transformers serves as a model that "
            "writes text"
        )
    return found


def _bytes_per_token(shape: Shape) -> int:
    dims = shape.dimensions
    numbers = dims.latent if dims.latent is not None else 2 * dims.key_value_heads * dims.head_size
    return numbers * dims.layers * 2


def _licence(info: Mapping[str, Any]) -> str | None:
    card = info.get("cardData")
    card = card if isinstance(card, dict) else {}
    stated = card.get("license")
    stated = _text(stated[0] if isinstance(stated, list) and stated else stated)
    if stated == "other":
        return _text(card.get("license_name")) or stated
    if stated is None:
        tags = info.get("tags")
        named = (each for each in (tags if isinstance(tags, list) else ()) if isinstance(each, str))
        stated = next((each.removeprefix("license:") for each in named if each.startswith("license:")), None)
    return stated


def _task(info: Mapping[str, Any]) -> Task | None:
    stated = info.get("pipeline_tag")
    return next((known for known in get_args(Task) if known == stated), None)


def _parameters(info: Mapping[str, Any]) -> int | None:
    tensors = info.get("safetensors")
    total = tensors.get("total") if isinstance(tensors, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else None


def _text(value: object) -> str | None:
    return value.strip()[:256] or None if isinstance(value, str) else None
