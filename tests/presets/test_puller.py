"""kaito-pull: what it writes, that it writes it whole or not at all, and what it refuses."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kaito_presets import demo
from kaito_presets.oci import BadImage, ImageLayout
from kaito_presets.puller import layout_of, pull

Entry = tuple[str, bytes] | tarfile.TarInfo
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def make_layout(directory: Path, *layers: list[Entry], media_type: str = GZIP, nested: bool = False) -> Path:
    """An image layout with these layers; a TarInfo is added as it is."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    descriptors = []
    for layer in layers:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for entry in layer:
                if isinstance(entry, tarfile.TarInfo):
                    tar.addfile(entry)
                else:
                    info = tarfile.TarInfo(entry[0])
                    info.size = len(entry[1])
                    tar.addfile(info, io.BytesIO(entry[1]))
        content = buffer.getvalue()
        descriptors.append(
            put(gzip.compress(content) if media_type.endswith("gzip") else content, media_type)
        )
    manifest = {"schemaVersion": 2, "config": put(b"{}", "application/json"), "layers": descriptors}
    entry = put(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    if nested:
        inner = {"schemaVersion": 2, "manifests": [entry]}
        entry = put(json.dumps(inner).encode(), "application/vnd.oci.image.index.v1+json")
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def test_the_demo_adapter_arrives_byte_by_byte(tmp_path: Path) -> None:
    output = tmp_path / "adapter" / "pirate"
    assert "2 files" in pull(demo.adapter_oci_path(), output)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (output / name).read_bytes() == (demo.adapter_path() / name).read_bytes()
    assert sorted(path.name for path in output.parent.iterdir()) == ["pirate"]


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "pirate"
    pull(demo.adapter_oci_path(), output)
    before = (output / "adapter_config.json").stat().st_mtime_ns
    assert "there already" in pull(demo.adapter_oci_path(), output)
    assert (output / "adapter_config.json").stat().st_mtime_ns == before


def test_what_an_interrupted_or_other_pull_left_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "pirate"
    output.mkdir()
    (output / "adapter_model.safetensors").write_bytes(b"half")
    (tmp_path / ".pirate.killed" / "new").mkdir(parents=True)
    pull(demo.adapter_oci_path(), output)
    assert [path.name for path in tmp_path.iterdir()] == ["pirate"]
    assert (output / "adapter_model.safetensors").stat().st_size > 100_000
    pull(make_layout(tmp_path / "layout", [("data/new", b"1")]), output)
    assert [path.name for path in output.iterdir() if not path.name.startswith(".")] == ["new"]


@pytest.mark.parametrize(
    ("media_type", "nested"),
    [
        (GZIP, False),
        ("application/vnd.oci.image.layer.v1.tar", True),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", False),
    ],
)
def test_layers_and_indexes_of_the_usual_kinds(tmp_path: Path, media_type: str, nested: bool) -> None:
    layers: list[list[Entry]] = [
        [("data/a", b"old"), ("bin/sh", b"x"), ("data/.wh.gone", b"")],
        [("./data/a", b"new"), ("data/deep/b", b"2")],
    ]
    layout = make_layout(tmp_path / "layout", *layers, media_type=media_type, nested=nested)
    assert ImageLayout(layout).extract("data", tmp_path / "out") == ["a", "deep/b"]
    assert (tmp_path / "out" / "a").read_bytes() == b"new"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "deep"]


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (("data/../../escape", b"x"), "leads out of /data"),
        (("/data/x", b"x"), "leads out of /data"),
        (link("data/x", "/etc/passwd", tarfile.SYMTYPE), "link or a device"),
        (link("data/x", "data/y", tarfile.LNKTYPE), "link or a device"),
        (link("data/x", "", tarfile.CHRTYPE), "link or a device"),
    ],
)
def test_unsafe_entries_are_refused_and_nothing_is_left(tmp_path: Path, entry: Entry, sentence: str) -> None:
    layout = make_layout(tmp_path / "layout", [("data/fine", b"1"), entry])
    with pytest.raises(BadImage, match=sentence):
        pull(layout, tmp_path / "out" / "a")
    assert list((tmp_path / "out").iterdir()) == []


def test_size_is_limited(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", [("data/a", b"x" * 600), ("data/b", b"x" * 600)])
    with pytest.raises(BadImage, match="holds more than"):
        ImageLayout(layout).extract("data", tmp_path / "out", limit=1000)


def test_zstd_is_refused_by_name(tmp_path: Path) -> None:
    layout = make_layout(
        tmp_path / "layout", [("data/a", b"")], media_type="application/vnd.oci.image.layer.v1.tar+zstd"
    )
    with pytest.raises(BadImage, match="compressed with zstd"):
        pull(layout, tmp_path / "out")


def test_damaged_blobs_are_noticed(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    shutil.copytree(demo.adapter_oci_path(), layout)
    largest = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(BadImage, match="damaged: its content has another digest"):
        pull(layout, tmp_path / "out")
    largest.unlink()
    with pytest.raises(BadImage, match="is missing"):
        pull(layout, tmp_path / "out")


def test_an_image_without_payload_and_a_directory_without_image(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="no files under /data"):
        pull(make_layout(tmp_path / "layout", [("etc/x", b"1")]), tmp_path / "out")
    with pytest.raises(BadImage, match="not an OCI image layout"):
        pull(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ("", "takes images from layouts alone"),
        ('{"other": "oci:/x"}', "Map it to an OCI image layout"),
        ('{"r/a:1": "/x"}', "write oci:/path"),
        ("{", "KAITO_IMAGE_MAP is not JSON"),
        ("[]", "takes images from layouts alone"),
    ],
)
def test_unmapped_images_are_refused(mapping: str, sentence: str) -> None:
    with pytest.raises(BadImage, match=sentence):
        layout_of("r/a:1", mapping)


def run_pull(root: Path, *arguments: str, image_map: str = "{}") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kaito_presets.puller", *arguments],
        env={**os.environ, "KAITO_MOUNT_ROOT": str(root), "KAITO_IMAGE_MAP": image_map},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.processes
def test_the_command_pulls_below_the_mount_root(tmp_path: Path) -> None:
    placeholder = "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"
    mapping = json.dumps({placeholder: f"oci:{demo.adapter_oci_path()}"})
    done = run_pull(
        tmp_path, f"--image={placeholder}", "--output=/mnt/adapter/phi-3-adapter", image_map=mapping
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mnt" / "adapter" / "phi-3-adapter" / "adapter_config.json").is_file()


@pytest.mark.processes
def test_the_command_fails_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "termination-log").touch()
    failed = run_pull(tmp_path, "--image=r/a:1", "--output=/mnt/adapter/a")
    assert failed.returncode == 6
    assert failed.stderr.count("\n") == 1
    assert "kaito local up --image r/a:1=oci:" in failed.stderr
    assert (tmp_path / "dev" / "termination-log").read_text() in failed.stderr
    assert run_pull(tmp_path, "--image=x", "--output=y", "--bogus").returncode == 2
