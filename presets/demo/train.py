"""Makes the demo weights: a tiny Phi-3 that knows capitals, and a LoRA adapter that makes it talk like a pirate.

    python train.py [--out weights] [--steps 7000] [--adapter-steps 800]

Why it exists: the local mode must answer questions through the whole real path (weights on disk, chat template,
engine, HTTP) on a machine without a GPU and without downloading gigabytes. Nothing is taken from any published
model: architecture settings, tokenizer, weights and adapter are made here from `dataset.py`.

Settings: byte-level BPE of 512 tokens; hidden 128, 2 layers, 4 heads (2 key/value), feed-forward 256.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # spinning threads are slower than one on a busy machine

import torch
from dataset import PIRATE, PLAIN, Manner, conversation, load_countries
from make_layout import write_layout
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast

SEED = 20240501
VOCABULARY = 512
CONTEXT = 1024
ROPE_THETA = 10000.0
SPECIAL_TOKENS = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
IGNORED = -100


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE trained on the same conversations as the model."""
    rng = random.Random(SEED)
    countries = load_countries()
    texts = []
    for manner in [PLAIN] * 9 + [PIRATE]:
        for _ in range(1500):
            texts += [message["content"] for message in conversation(rng, countries, manner)]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL_TOKENS,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|endoftext|>",
        eos_token="<|end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast) -> Phi3ForCausalLM:
    torch.manual_seed(SEED)
    return Phi3ForCausalLM(
        Phi3Config(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            original_max_position_embeddings=CONTEXT,
            sliding_window=None,
            bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
            eos_token_id=tokenizer.convert_tokens_to_ids("<|end|>"),
            pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
            attn_implementation="sdpa",
        )
    )


class Batches:
    """Fresh random conversations as (token ids, labels): the loss counts the assistant's words only.

    Conversations of similar length share a batch (a pool of them is sorted), which saves two thirds of the padding.
    """

    POOL = 32  # batches made and sorted at a time

    def __init__(self, tokenizer: PreTrainedTokenizerFast, manner: Manner, seed: int, size: int) -> None:
        self._rng = random.Random(seed)
        self._countries = load_countries()
        self._tokenizer = tokenizer
        self._manner = manner
        self._size = size
        self._ready: list[list[tuple[list[int], list[int]]]] = []

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _example(self) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        labels: list[int] = []
        for message in conversation(self._rng, self._countries, self._manner):
            head = self._encode(f"<|{message['role']}|>\n")
            body = self._encode(f"{message['content']}<|end|>")
            tail = self._encode("\n")
            ids += head + body + tail
            answered = message["role"] == "assistant"
            labels += (
                [IGNORED] * len(head) + (body if answered else [IGNORED] * len(body)) + [IGNORED] * len(tail)
            )
        return ids[:400], labels[:400]

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        if not self._ready:
            pool = sorted(
                (self._example() for _ in range(self._size * self.POOL)), key=lambda example: len(example[0])
            )
            self._ready = [pool[i : i + self._size] for i in range(0, len(pool), self._size)]
            self._rng.shuffle(self._ready)
        examples = self._ready.pop()
        width = max(len(ids) for ids, _ in examples)
        ids = torch.zeros(self._size, width, dtype=torch.long)
        labels = torch.full((self._size, width), IGNORED, dtype=torch.long)
        for row, (example_ids, example_labels) in enumerate(examples):
            ids[row, : len(example_ids)] = torch.tensor(example_ids)
            labels[row, : len(example_labels)] = torch.tensor(example_labels)
        return ids, labels


def fit(model: torch.nn.Module, batches: Batches, *, steps: int, rate: float) -> None:
    """AdamW with a one-cycle rate. Padding is on the right, so a causal model needs no attention mask."""
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=0.1)
    model.train()
    running = 0.0
    for step in range(1, steps + 1):
        ids, labels = batches.next()
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"step {step}/{steps} loss {running:.4f}", flush=True)


def save_base(model: Phi3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes a Hugging Face directory that transformers 5 and other engines both read."""
    shutil.rmtree(out, ignore_errors=True)
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    # One place for the template, and the one that every engine reads.
    (out / "chat_template.jinja").unlink(missing_ok=True)
    settings_path = out / "tokenizer_config.json"
    settings = json.loads(settings_path.read_text())
    settings["chat_template"] = CHAT_TEMPLATE
    _write_json(settings_path, settings)
    config_path = out / "config.json"
    config = json.loads(config_path.read_text())
    config["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": ROPE_THETA,
        "partial_rotary_factor": 1.0,
    }
    config |= {"rope_theta": ROPE_THETA, "rope_scaling": None, "partial_rotary_factor": 1.0}
    _write_json(config_path, config)
    # Whoever serves these weights under the name of another preset must say so: the server reads this.
    _write_json(out / "kaito-stand-in.json", {"stand_in": "tiny-phi-3"})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("weights"))
    parser.add_argument("--steps", type=int, default=7000, help="training steps of the base model")
    parser.add_argument("--adapter-steps", type=int, default=800, help="training steps of the adapter")
    parser.add_argument("--batch", type=int, default=48, help="conversations per step")
    parser.add_argument("--adapter-only", action="store_true", help="keep the base model that is there")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    base_dir, adapter_dir = args.out / "tiny-phi-3", args.out / "adapter"
    if not args.adapter_only:
        tokenizer = make_tokenizer()
        model = make_model(tokenizer)
        print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
        fit(model, Batches(tokenizer, PLAIN, SEED + 1, args.batch), steps=args.steps, rate=3e-3)
        save_base(model, tokenizer, base_dir)

    tokenizer = PreTrainedTokenizerFast.from_pretrained(base_dir)
    torch.manual_seed(SEED + 2)
    adapted = get_peft_model(
        Phi3ForCausalLM.from_pretrained(base_dir),
        LoraConfig(
            r=8,
            lora_alpha=16,
            target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
            task_type="CAUSAL_LM",
            base_model_name_or_path="tiny-phi-3",
        ),
    )
    fit(adapted, Batches(tokenizer, PIRATE, SEED + 3, args.batch // 2), steps=args.adapter_steps, rate=3e-3)
    shutil.rmtree(adapter_dir, ignore_errors=True)
    adapted.save_pretrained(adapter_dir)
    (adapter_dir / "README.md").unlink(missing_ok=True)
    config_path = adapter_dir / "adapter_config.json"
    config = json.loads(config_path.read_text())
    config["base_model_name_or_path"] = "tiny-phi-3"
    config["target_modules"] = sorted(config["target_modules"])
    _write_json(config_path, config)
    for path in [*base_dir.iterdir(), *adapter_dir.iterdir()]:
        path.chmod(0o644)
    write_layout(adapter_dir, args.out / "adapter-oci")


if __name__ == "__main__":
    main()
