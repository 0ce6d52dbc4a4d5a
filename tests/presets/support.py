"""Helpers of these tests: a real server process, edited adapters, a GGUF file made from the demo weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaito_presets import demo, tensors

READY = "Ready: serving"
#: Seconds to wait for a line of a server's log. Importing torch takes long on a busy machine.
PATIENCE = 240


class ServerProcess:
    """`kaito-serve` as a container would start it, on any free port of 127.0.0.1."""

    def __init__(self, root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._seen = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kaito_presets.server.main", *arguments],
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith(("KAITO_", "HF_"))},
                "KAITO_MOUNT_ROOT": str(root),
                "KAITO_BIND_HOST": "127.0.0.1",
                "KAITO_PORT": "0",
                **(env or {}),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._seen:
                self.lines.append(line)
                self._seen.notify_all()
        with self._seen:
            self.lines.append("")
            self._seen.notify_all()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for(self, text: str) -> None:
        """Until a line of the log holds `text`; fails when the process ends first."""
        with self._seen:
            if not self._seen.wait_for(lambda: text in self.log or self.lines[-1:] == [""], timeout=PATIENCE):
                raise AssertionError(f"no {text!r} in the log after {PATIENCE} s:\n{self.log}")
        assert text in self.log, self.log

    @property
    def url(self) -> str:
        self.wait_for("Uvicorn running on")
        match = re.search(r"Uvicorn running on (http://127\.0\.0\.1:\d+)", self.log)
        assert match is not None
        return match[1]

    def ready(self) -> ServerProcess:
        self.wait_for(READY)
        return self

    def exit_code(self) -> int:
        """Waits for the end of a process that ends by itself."""
        code = self.process.wait(timeout=60)
        self._finish()
        return code

    def stop(self) -> int:
        """SIGTERM, as the kubelet does it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.exit_code()

    def _finish(self) -> None:
        self._reader.join(timeout=10)
        assert self.process.stderr is not None
        self.process.stderr.close()


def container_root(directory: Path, *, adapters: Mapping[str, Path] | None = None) -> Path:
    """A root with the demo weights and adapters at the places of the pod's volumes."""
    root = directory / "root"
    for place, source in demo.stand_in_contents("phi-3-mini-4k-instruct").items():
        target = Path(root, *Path(place).parts[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    for name, source in (adapters or {}).items():
        target = root / "mnt" / "adapter" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    return root


def copy_adapter(target: Path, **changes: Any) -> Path:
    """A copy of the demo adapter with other settings in adapter_config.json."""
    shutil.copytree(demo.adapter_path(), target)
    path = target / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return target


def get(url: str) -> tuple[int, bytes]:
    """Status and body, without an exception for error codes."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def write_gguf(path: Path) -> None:
    """The demo model as a GGUF file (version 3, 32-bit floats), tokenizer and template inside."""
    weights = demo.weights_path()
    config = json.loads((weights / "config.json").read_text())
    tokenizer = json.loads((weights / "tokenizer.json").read_text())
    settings = json.loads((weights / "tokenizer_config.json").read_text())
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    head = config["hidden_size"] // config["num_attention_heads"]
    values: dict[str, Any] = {
        "general.architecture": "phi3",
        "general.name": "tiny capitals",
        "phi3.context_length": config["max_position_embeddings"],
        "phi3.embedding_length": config["hidden_size"],
        "phi3.feed_forward_length": config["intermediate_size"],
        "phi3.block_count": config["num_hidden_layers"],
        "phi3.attention.head_count": config["num_attention_heads"],
        "phi3.attention.head_count_kv": config["num_key_value_heads"],
        "phi3.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "phi3.rope.dimension_count": head,
        "phi3.rope.freq_base": float(config["rope_theta"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.token_type": [3 if index in special else 1 for index in range(len(vocabulary))],
        "tokenizer.ggml.merges": [
            merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]
        ],
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.unknown_token_id": config["bos_token_id"],
        "tokenizer.ggml.padding_token_id": config["pad_token_id"],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": settings["chat_template"],
    }
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    inner = {
        "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output", "mlp.gate_up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for layer in range(config["num_hidden_layers"]):
        names |= {f"model.layers.{layer}.{theirs}": f"blk.{layer}.{ours}" for theirs, ours in inner.items()}
    arrays = {
        f"{names[name.removesuffix('.weight')]}.weight": array
        for name, array in tensors.read(weights / "model.safetensors").items()
    }

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def typed(value: Any) -> bytes:
        if isinstance(value, bool):
            return struct.pack("<I?", 7, value)
        if isinstance(value, int):
            return struct.pack("<II", 4, value)
        if isinstance(value, float):
            return struct.pack("<If", 6, value)
        if isinstance(value, str):
            return struct.pack("<I", 8) + text(value)
        kind = 8 if isinstance(value[0], str) else 5
        items = [text(item) if kind == 8 else struct.pack("<i", item) for item in value]
        return struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)

    infos, position = b"", 0
    for name, array in arrays.items():
        shape = tuple(reversed(array.shape))
        infos += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, position)
        position += -(-array.nbytes // 32) * 32
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(arrays), len(values))
    header += b"".join(text(key) + typed(value) for key, value in values.items()) + infos
    with path.open("wb") as file:
        file.write(header + b"\0" * (-len(header) % 32))
        for array in arrays.values():
            raw = array.astype("<f4").tobytes()
            file.write(raw + b"\0" * (-len(raw) % 32))
