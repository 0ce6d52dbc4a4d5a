"""Random weights, random adapters, and how to ask an engine."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from kaito_presets import demo
from kaito_presets.engines import Finish, Piece, Prompt, Sampling
from kaito_presets.engines.transformers.engine import TransformersEngine

WORDS = [
    "capital",
    "France",
    "Spain",
    "what",
    "is",
    "the",
    "of",
    "Arr",
    "matey",
    "Paris",
    "Madrid",
    "Rome",
    "hello",
]


def make_model(directory: Path, **settings: Any) -> Path:
    """A random Phi-3 of about 300 kB in `directory`, with the demo model's tokenizer and chat template."""
    torch.manual_seed(0)
    values = {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 4, "pad_token_id": 0, "sliding_window": None,
    } | settings  # fmt: skip
    config = transformers.Phi3Config(**values)
    transformers.Phi3ForCausalLM(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo.weights_path() / name, directory / name)
    return directory


@dataclass(frozen=True)
class AdapterSpec:
    """What a random adapter is like."""

    rank: int
    alpha: int
    seed: int
    targets: Sequence[str] = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
    rslora: bool = False


def make_adapter(base: Path, directory: Path, spec: AdapterSpec) -> None:
    """A random LoRA, saved by PEFT."""
    torch.manual_seed(spec.seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        target_modules=list(spec.targets),
        use_rslora=spec.rslora,
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    with pefts_warnings_ignored():
        peft.get_peft_model(model, config).save_pretrained(directory)


@contextmanager
def pefts_warnings_ignored() -> Iterator[None]:
    """PEFT uses what the newest transformers announces to remove."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def make_engine(weights: Path, **settings: Any) -> TransformersEngine:
    values = {"max_model_len": None, "dtype": "float32", "max_num_seqs": 16} | settings
    return TransformersEngine(weights, **values)


async def ask(
    engine: TransformersEngine, prompt: Prompt, adapter: str | None = None, **settings: Any
) -> tuple[str, Finish]:
    """The whole answer."""
    values = {"max_tokens": 24} | settings
    pieces = []
    async for item in engine.generate(prompt, Sampling(**values), adapter):
        if isinstance(item, Finish):
            return "".join(pieces), item
        assert isinstance(item, Piece)
        pieces.append(item.text)
    raise AssertionError("no Finish")


def prompts(count: int) -> list[str]:
    """Texts of very different lengths."""
    return [
        " ".join(WORDS[(start * 7 + index) % len(WORDS)] for index in range(1 + (start * 11) % 29))
        for start in range(count)
    ]


def generated(model: Any, weights: Path, prompt: str, new: int = 24) -> str:
    """What the library's own generate() answers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights)
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        tokens = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=new,
            do_sample=False,
        )
    return str(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
