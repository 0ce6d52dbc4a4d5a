"""Reads an image from an OCI image layout (a directory with oci-layout, index.json and blobs/), every digest checked.

What comes out of an image is written only below the given directory, whatever the layers say: entries that are links
or devices, or whose names lead elsewhere, are refused, and there is a limit to the total size.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

#: Bytes. Manifests and indexes are small; a larger one is not what it says.
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
#: Bytes that an adapter may have in all. Rank-256 adapters of the largest presets stay below this.
MAX_PAYLOAD_BYTES = 16 * 1024**3
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_IMAGES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
#: Media types of manifests and indexes that are understood.
MANIFESTS = (*_IMAGES, *_INDEXES)
_DIGEST = re.compile(r"^sha256:([0-9a-f]{64})$")
_CHUNK = 1024 * 1024


class BadImage(ValueError):
    """The image can't be used. str() is a sentence for the user."""


class NotThere(BadImage):
    """There is no such image."""


def manifest_of(
    document: dict[str, Any], open_entry: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """The manifest itself, where `document` may be an index of several; `open_entry` reads what an index names."""
    for _ in range(3):  # an index may hold an index
        entries = document.get("manifests")
        if not isinstance(entries, list):
            break
        images = [
            entry
            for entry in entries
            if isinstance(entry, dict) and entry.get("mediaType", _IMAGES[0]) in MANIFESTS
        ]
        if not images:
            raise BadImage("The image's index names no image.")
        document = open_entry(images[0])
    if not isinstance(document.get("layers"), list):
        raise BadImage("There is no image manifest (a manifest has layers).")
    if not all(map(_is_layer, document["layers"])):
        raise BadImage("The image's manifest is damaged: each of its layers has a digest and a size.")
    return document


def _is_layer(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    digest, size = entry.get("digest"), entry.get("size", 0)
    return isinstance(digest, str) and isinstance(size, int) and not isinstance(size, bool) and size >= 0


class ImageLayout:
    """One image of a layout directory."""

    def __init__(self, directory: Path) -> None:
        """Raises BadImage when `directory` is not an image layout."""
        self._directory = directory
        if not (directory / "oci-layout").is_file() or not (directory / "index.json").is_file():
            raise BadImage(
                f"{directory} is not an OCI image layout (it has no oci-layout and index.json). "
                "Make one for example with: skopeo copy docker://IMAGE oci:DIRECTORY"
            )

    def manifest(self) -> dict[str, Any]:
        """The image's manifest; of an image for several platforms, the first (adapters are the same on all)."""
        index = self._json((self._directory / "index.json").read_bytes(), "index.json")
        return manifest_of(
            index, lambda entry: self._json(self._small_blob(entry), f"the manifest {entry.get('digest')}")
        )

    def extract(self, inside: str, target: Path, *, limit: int = MAX_PAYLOAD_BYTES) -> list[str]:
        """Writes the files below the image's directory `inside` to `target`; later layers win. Returns their names.

        Raises BadImage: damaged or unsupported layers, unsafe entries, more than `limit` bytes, nothing there.
        """
        written: set[str] = set()
        left = limit
        for layer in self.manifest()["layers"]:
            with tarfile.open(self.verified_blob(layer), mode=tar_mode(layer)) as tar:
                try:
                    for member, name in members(tar, inside):
                        left -= member.size
                        if left < 0:
                            raise BadImage(
                                f"The image holds more than {limit / 1024**3:g} GiB under /{inside}."
                            )
                        write_member(tar, member, target / name)
                        written.add(name)
                except (tarfile.TarError, EOFError, OSError) as error:
                    raise BadImage(f"The layer {layer['digest']} can't be unpacked: {error}") from error
        if not written:
            raise BadImage(f"The image has no files under /{inside}; put the adapter's files there.")
        return sorted(written)

    def _json(self, raw: bytes, what: str) -> dict[str, Any]:
        try:
            document = json.loads(raw)
        except ValueError as error:
            raise BadImage(f"In the image layout, {what} is not JSON.") from error
        if not isinstance(document, dict):
            raise BadImage(f"In the image layout, {what} is not a JSON object.")
        return document

    def _blob(self, descriptor: dict[str, Any]) -> tuple[Path, str]:
        digest = str(descriptor.get("digest"))
        match = _DIGEST.match(digest)
        if match is None:
            raise BadImage(f"The digest {digest} is not a sha256 digest.")
        path = self._directory / "blobs" / "sha256" / match[1]
        if not path.is_file():
            raise BadImage(f"The image layout is incomplete: the blob {digest} is missing.")
        return path, match[1]

    def _small_blob(self, descriptor: dict[str, Any]) -> bytes:
        path, expected = self._blob(descriptor)
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BadImage(f"The manifest sha256:{expected} is too large to be one.")
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != expected:
            raise BadImage(f"The blob sha256:{expected} is damaged: its content has another digest.")
        return raw

    def blob(self, descriptor: dict[str, Any]) -> Path:
        """The file of a layer, unread. Raises BadImage."""
        return self._blob(descriptor)[0]

    def verified_blob(self, descriptor: dict[str, Any]) -> Path:
        path, expected = self._blob(descriptor)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != expected:
            raise BadImage(f"The blob sha256:{expected} is damaged: its content has another digest.")
        return path


def tar_mode(layer: dict[str, Any]) -> Any:
    """tarfile's mode for a layer's media type."""
    kind = str(layer.get("mediaType"))
    if kind.endswith(("+gzip", ".tar.gzip")):
        return "r:gz"
    if kind.endswith((".tar", "+tar")):
        return "r:"
    if kind.endswith("zstd"):
        raise BadImage(
            "The image's layers are compressed with zstd, which this version can't read yet; push it again with gzip."
        )
    raise BadImage(
        f"The image has a layer of type {kind}, which this version can't read; use a tar or tar+gzip layer."
    )


def members(tar: Iterable[tarfile.TarInfo], inside: str) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """The regular files below `inside` ("": all) with their names relative to it. Raises BadImage for unsafe ones."""
    prefix = PurePosixPath(inside).parts
    for member in tar:
        parts = PurePosixPath(member.name).parts
        parts = tuple(part for part in parts if part not in ("/", "."))
        if parts[: len(prefix)] != prefix or member.isdir():
            continue
        name = "/".join(parts[len(prefix) :])
        if parts[-1].startswith(".wh."):
            continue  # a whiteout: removes what a lower layer has, which here is overwritten or harmless
        if ".." in parts or member.name.startswith("/") or not name:
            raise BadImage(f"The image holds the entry {member.name!r}, whose name leads out of /{inside}.")
        if not member.isreg():
            raise BadImage(
                f"The image holds {member.name!r}, which is a link or a device; only plain files are taken."
            )
        yield member, name


def write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # a regular file
    path.parent.mkdir(parents=True, exist_ok=True)
    with source, path.open("wb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
