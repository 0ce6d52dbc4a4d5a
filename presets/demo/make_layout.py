"""Packs an adapter directory as an OCI image layout: one gzip layer that holds the files under /data.

    python make_layout.py weights/adapter weights/adapter-oci

That is the form in which adapters travel to a registry, and what `kaito-pull` reads. Times, owners and order are
fixed, so the same files give the same digests.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

FILES = ("adapter_config.json", "adapter_model.safetensors")


def _layer(adapter: Path) -> tuple[bytes, str]:
    """The compressed layer, and the digest of the tar inside it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folder = tarfile.TarInfo("data")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name in FILES:
            content = (adapter / name).read_bytes()
            entry = tarfile.TarInfo(f"data/{name}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    plain = buffer.getvalue()
    return gzip.compress(plain, 9, mtime=0), hashlib.sha256(plain).hexdigest()


def _put(layout: Path, content: bytes, media_type: str) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    blob = layout / "blobs" / "sha256" / digest
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def write_layout(adapter: Path, layout: Path) -> None:
    """Replaces `layout` by an image layout that holds the adapter. Raises FileNotFoundError if a file is missing."""
    layer, plain_digest = _layer(adapter)
    shutil.rmtree(layout, ignore_errors=True)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain_digest}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _put(layout, _json(config), "application/vnd.oci.image.config.v1+json"),
        "layers": [_put(layout, layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [_put(layout, _json(manifest), "application/vnd.oci.image.manifest.v1+json")],
    }
    (layout / "index.json").write_bytes(_json(index))
    (layout / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    write_layout(Path(sys.argv[1]), Path(sys.argv[2]))
