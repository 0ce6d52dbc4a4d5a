"""Loads a Hugging Face directory: the model in the right format, its tokenizer, and how much memory is left."""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.cache_utils import DynamicCache

from kaito_presets.engines import BadWeights, Memory
from kaito_presets.engines.transformers import dtypes

#: Share of the memory free after loading that answers may fill: the rest is for a step's activations.
KV_SHARE_GPU = 0.8
#: On a CPU the memory belongs to everybody on the machine.
KV_SHARE_CPU = 0.5
#: Layers whose cache is keys and values of every token. Others (recurrent states) can't be batched this way.
_ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
_FILES = ("*.safetensors", "config.json", "tokenizer.json|tokenizer.model|tekken.json|vocab.json")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """context is the model's own limit in tokens (None: it doesn't say), kv_tokens what memory holds of them."""

    model: Any = field(repr=False)
    encode: Callable[[str, bool], list[int]]
    decode: Callable[[list[int]], str]
    ends: frozenset[int]
    context: int | None
    kv_tokens: int
    memory: Memory
    keeps_scores: bool
    """Whether the model can be asked for the last token's scores alone."""
    takes_positions: bool
    """Whether the model takes position_ids (others count the mask)."""
    takes_whole_mask: bool
    """Whether a step's mask may be given as attention uses it, (rows, 1, 1, columns). Making it from which columns are
    used is a tenth of a small model's step."""


def load(weights: Path, dtype: str) -> Loaded:
    """Raises BadWeights."""
    _check_files(weights)
    transformers.utils.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(weights, local_files_only=True)
    except Exception as error:
        raise BadWeights(f"config.json in the weights directory can't be used: {_line(error)}") from error
    text = config.get_text_config()
    strange = sorted(set(getattr(text, "layer_types", None) or ()) - _ATTENTION)
    if strange:
        raise BadWeights(
            f"This model has layers of type {', '.join(strange)}, which the transformers engine can't batch; "
            "serve it with the vLLM engine."
        )
    model = _model(weights, config, dtype)
    encode, decode, end = _tokenizer(weights)
    parameters = inspect.signature(model.forward).parameters
    share = KV_SHARE_CPU if model.device.type == "cpu" else KV_SHARE_GPU
    room, token = int(_free_bytes(model.device.type) * share), _token_bytes(model)
    return Loaded(
        model=model,
        encode=encode,
        decode=decode,
        ends=_ends(model.generation_config.eos_token_id, text.eos_token_id, end),
        context=getattr(text, "max_position_embeddings", None),
        kv_tokens=max(1, room // token),
        memory=Memory(_weights_bytes(model), room, token, str(model.dtype).removeprefix("torch.")),
        keeps_scores="logits_to_keep" in parameters,
        takes_positions="position_ids" in parameters,
        takes_whole_mask="position_ids" in parameters and _sees_everything(text) and _takes_whole_mask(model),
    )


def _check_files(weights: Path) -> None:
    if not weights.is_dir():
        raise BadWeights("There is no weights directory; check the volume, or give --weights=DIRECTORY.")
    missing = [
        names.replace("|", " or ")
        for names in _FILES
        if not any(any(weights.glob(name)) for name in names.split("|"))
    ]
    if not missing:
        return
    other = ""
    if any(weights.glob("*.gguf")):
        other = " GGUF files are served by the mistralrs engine."
    elif any(weights.glob("*.bin")):
        other = " Weights in .bin files run code when they are read: save them as safetensors."
    raise BadWeights(f"The weights directory is not complete (missing: {', '.join(missing)}).{other}")


def _model(weights: Path, config: Any, asked: str) -> Any:
    capability = None
    if torch.cuda.is_available():
        capability = min(
            torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count())
        )
    own = str(getattr(config, "dtype", None) or config.get_text_config().dtype or "").removeprefix("torch.")
    name, notice = dtypes.choose(asked, own or None, capability)
    if notice:
        log.warning("%s", notice)
    options: dict[str, Any] = {}
    if capability is not None:
        options["device_map"] = "auto" if torch.cuda.device_count() > 1 else {"": 0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                weights,
                config=config,
                dtype=getattr(torch, name),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, by name
                **options,
            )
    except torch.OutOfMemoryError as error:
        raise BadWeights(
            "The weights do not fit in the GPU's memory; choose a larger instance type."
        ) from error
    except Exception as error:
        raise BadWeights(f"The weights can't be loaded: {_line(error)}") from error
    wrong = sorted(f"{key} is missing" for key in report["missing_keys"])
    wrong += sorted(
        f"{key} is of shape {list(there)}, not {list(meant)}"
        for key, there, meant in report["mismatched_keys"]
    )
    if wrong:  # the library would fill them with random numbers
        more = f" (and {len(wrong) - 1} more tensors)" if len(wrong) > 1 else ""
        raise BadWeights(f"The weights do not belong to config.json: {wrong[0]}{more}.")
    log.info("Computing in %s on %s.", name, _devices(capability))
    return model.eval()


def _devices(capability: tuple[int, int] | None) -> str:
    if capability is None:
        return f"the CPU, {torch.get_num_threads()} threads"
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"


def _tokenizer(
    weights: Path,
) -> tuple[Callable[[str, bool], list[int]], Callable[[list[int]], str], int | None]:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(weights, local_files_only=True)
    except Exception as error:
        raise BadWeights(f"The tokenizer in the weights directory can't be used: {_line(error)}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:

        def encode(text: str, special: bool) -> list[int]:
            return [int(token) for token in tokenizer.encode(text, add_special_tokens=special)]

        def decode(tokens: list[int]) -> str:
            return str(tokenizer.decode(tokens, skip_special_tokens=True))

        return encode, decode, tokenizer.eos_token_id
    backend.no_truncation()
    backend.no_padding()

    def encode_fast(text: str, special: bool) -> list[int]:
        return [int(token) for token in backend.encode(text, add_special_tokens=special).ids]

    def decode_fast(tokens: list[int]) -> str:
        return str(backend.decode(tokens, skip_special_tokens=True))

    return encode_fast, decode_fast, tokenizer.eos_token_id


def _ends(*found: int | list[int] | None) -> frozenset[int]:
    ends: set[int] = set()
    for value in found:
        ends |= {value} if isinstance(value, int) else set(value or ())
    return frozenset(ends)


def _weights_bytes(model: Any) -> int:
    """Shared ones (an output layer that is the embedding) count once."""
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    return int(sum(tensors.values()))


def _token_bytes(model: Any) -> int:
    """Bytes that one token's keys and values take in all layers: measured, so that it is right for any architecture."""
    tokens = 8
    try:
        with torch.inference_mode():
            cache = DynamicCache()
            model(
                input_ids=torch.zeros((1, tokens), dtype=torch.long, device=model.device),
                past_key_values=cache,
                use_cache=True,
            )
        return int(sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)) // tokens
    except Exception as error:
        raise BadWeights(f"The model does not compute: {_line(error)}") from error


def _sees_everything(text: Any) -> bool:
    """Whether each token sees all tokens before it, in every layer."""
    kinds = set(getattr(text, "layer_types", None) or ("full_attention",))
    return kinds == {"full_attention"} and not getattr(text, "sliding_window", None)


def _takes_whole_mask(model: Any) -> bool:
    """Tried, not guessed: a step of two rows of different lengths must come out the same with either mask."""
    if getattr(model.config.get_text_config(), "_attn_implementation", None) != "sdpa":
        return False
    used = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], device=model.device)
    places = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]], device=model.device)
    tokens = torch.arange(10, device=model.device).reshape(2, 5) % int(
        model.config.get_text_config().vocab_size
    )

    def step(mask: Any) -> Any:
        cache = DynamicCache()
        begun = {"use_cache": True, "past_key_values": cache}
        model(input_ids=tokens[:, :4], attention_mask=used[:, :4], position_ids=places[:, :4], **begun)
        return model(input_ids=tokens[:, 4:], attention_mask=mask, position_ids=places[:, 4:], **begun).logits

    try:
        with torch.inference_mode():
            usual, whole = step(used), step(used[:, None, None, :].bool())
    except Exception as error:  # whatever it is, the usual mask works
        log.debug("This model wants the usual mask: %s", _line(error))
        return False
    return bool(torch.allclose(usual.float(), whole.float(), rtol=1e-2, atol=1e-3))


def _free_bytes(device: str) -> int:
    if device == "cuda":
        return sum(int(torch.cuda.mem_get_info(index)[0]) for index in range(torch.cuda.device_count()))
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines.get("MemAvailable", lines["MemFree"]).split()[0]) * 1024
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, used = Path("/sys/fs/cgroup", limit), Path("/sys/fs/cgroup", usage)
        if most.is_file() and used.is_file() and most.read_text().strip().isdecimal():
            free = min(free, int(most.read_text()) - int(used.read_text()))
    return max(0, free)


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
