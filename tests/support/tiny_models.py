"""The demo's tiny Phi-3 as models of other architectures, which answer the same.

Phi-3 keeps the projections of a layer in two fused tensors. Cut apart they are those of a Llama; with biases of zero,
those of a Qwen2.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from kaito_presets.demo import weights_path

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
Tensors = dict[str, tuple[list[int], bytes]]
"""Name to shape and 32-bit floats, rows first."""


def repository(architecture: str = "LlamaForCausalLM", **config: Any) -> dict[str, bytes]:
    """File name to content, as a repository of the hub has them. config: what config.json says instead."""
    found = {path.name: path.read_bytes() for path in weights_path().iterdir() if "stand-in" not in path.name}
    settings = {**json.loads(found["config.json"]), "architectures": [architecture]}
    tensors = _read(found["model.safetensors"])
    if architecture != "Phi3ForCausalLM":
        tensors = _cut(tensors, settings, biases=architecture == "Qwen2ForCausalLM")
        settings["model_type"] = "qwen2" if architecture == "Qwen2ForCausalLM" else "llama"
        settings["attention_bias"] = settings["mlp_bias"] = False
    settings |= config
    found["config.json"] = json.dumps(
        {key: each for key, each in settings.items() if each is not ...}
    ).encode()
    return {**found, "model.safetensors": _written(tensors)}


def _cut(tensors: Tensors, config: dict[str, Any], *, biases: bool) -> Tensors:
    head = config["hidden_size"] // config["num_attention_heads"]
    keys = config["num_key_value_heads"] * head
    found: Tensors = {}
    for name, (shape, data) in tensors.items():
        if ".qkv_proj." in name:
            queries = shape[0] - 2 * keys
            parts = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        elif ".gate_up_proj." in name:
            parts = {"gate_proj": shape[0] // 2, "up_proj": shape[0] // 2}
        else:
            found[name] = shape, data
            continue
        start, row = 0, len(data) // shape[0]
        for part, rows in parts.items():
            place = name.replace("qkv_proj", part).replace("gate_up_proj", part)
            found[place] = [rows, shape[1]], data[start * row : (start + rows) * row]
            start += rows
            if biases and part in ("q_proj", "k_proj", "v_proj"):
                found[place.replace(".weight", ".bias")] = [rows], bytes(4 * rows)
    return found


def _read(content: bytes) -> Tensors:
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    body = content[8 + length :]
    return {
        name: (entry["shape"], body[slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _written(tensors: Tensors) -> bytes:
    header, at = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + b"".join(data for _, data in tensors.values())
