"""Adapters as files: directories, layers and image layouts, good ones and bad ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIG: Mapping[str, Any] = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["qkv_proj", "o_proj"],
    "base_model_name_or_path": "microsoft/Phi-3-mini-4k-instruct",
}
CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"


def config(**changes: Any) -> bytes:
    return json.dumps({**CONFIG, **changes}).encode()


def safetensors(tensors: Mapping[str, tuple[str, Sequence[int]]] | None = None, *, cut: int = 0) -> bytes:
    """A safetensors file of zeros: name to (number format, shape). cut: bytes left out at the end."""
    if tensors is None:
        prefix = "base_model.model.model.layers.0.self_attn"
        tensors = {
            f"{prefix}.{module}.lora_{side}.weight": ("F16", shape)
            for module in ("qkv_proj", "o_proj")
            for side, shape in (("A", (2, 8)), ("B", (8, 2)))
        }
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        size = {"F16": 2, "BF16": 2, "F32": 4}[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    content = json.dumps(header).encode()
    whole = struct.pack("<Q", len(content)) + content + bytes(end)
    return whole[: len(whole) - cut]


def write_directory(path: Path, files: Mapping[str, bytes] | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in (files or {CONFIG_NAME: config(), WEIGHTS_NAME: safetensors()}).items():
        (path / name).write_bytes(content)
    return path


def layer(files: Mapping[str, bytes | str | None], *, packed: bool = True) -> bytes:
    """A tar archive: bytes are a file, text is a symbolic link, None is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return gzip.compress(buffer.getvalue(), mtime=0) if packed else buffer.getvalue()


def payload(**changes: bytes | str | None) -> dict[str, bytes | str | None]:
    return {"data": None, f"data/{CONFIG_NAME}": config(), f"data/{WEIGHTS_NAME}": safetensors(), **changes}


class Layout:
    """An OCI image layout under construction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True)

    def blob(self, content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (self.path / "blobs" / "sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content), **more}

    def manifest(self, *layers: bytes, media_type: str = GZIP_LAYER, **more: Any) -> dict[str, Any]:
        described = [self.blob(each, media_type) for each in layers]
        content = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": described}).encode()
        return self.blob(content, OCI_MANIFEST, **more)

    def index(self, *manifests: Mapping[str, Any]) -> Path:
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(manifests)}))
        return self.path
