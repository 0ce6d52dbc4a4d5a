"""Looks at weights without fetching them: config.json and the headers of the weight files, nothing else.

What a pull would put in place is worked out from the manifest: a layer that is a file, by its annotation; an archive
that is not compressed, by walking its headers; one that is compressed, by reading it from the start as far as
`parts.MOST_FETCHED` goes. A compressed layer that is longer can't be looked at; its config.json is compared all the
same where it comes first, so that weights of another model are noticed.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Final, Protocol, cast

from kaito_presets import paths
from kaito_presets.headers import FIRST_BYTES
from kaito_presets.oci import BadImage, ImageLayout, members, tar_mode
from kaito_presets.puller import layout_of, registry_of
from kaito_presets.registry import Indivisible, Registry
from kaito_presets.weights import artifact, gguf
from kaito_presets.weights.check import MAX_JSON_BYTES, Found, Unfit, check_config, inspect
from kaito_presets.weights.files import Directory
from kaito_presets.weights.parts import LONGEST_READ, MIB, MOST_FETCHED, Budget, Part, Unseen, Window, of_file

#: Bytes fetched at once of an archive that is walked, and of one that is read through.
_WALK_AHEAD: Final = MIB
_READ_AHEAD: Final = 8 * MIB
#: Bytes read of a compressed layer that is too long to be read through: config.json comes first where names are sorted.
_GLANCE: Final = 64 * MIB
#: Bytes that a compressed layer may unpack to, and that are kept of it.
_MOST_UNPACKED: Final = 8 * 1024 * MIB
_MOST_KEPT: Final = 128 * MIB
#: Files of one image. Images of whole systems have a third of that.
_MOST_FILES: Final = 200_000
_LOOKED_AT: Final = re.compile(r"config\.json|model\.safetensors\.index\.json|.*\.(safetensors|gguf)")
_GZIP: Final = b"\x1f\x8b"
#: How archives begin that are compressed with bzip2, xz and zstd, which an artifact's may be.
_OTHERWISE: Final = (b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an image: its bytes, and how parts of it are read."""

    size: int
    read: Part


class Blobs(Protocol):
    """Where an image is."""

    def manifest(self) -> dict[str, Any]: ...

    def part(self, layer: dict[str, Any]) -> Part:
        """Reads parts of a layer. Raises BadImage, as the parts do."""


class Remote:
    """A registry. `digest`: of the manifest, once it was read."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.digest: str | None = None

    def manifest(self) -> dict[str, Any]:
        found, self.digest = self._registry.manifest_and_digest()
        return found

    def part(self, layer: dict[str, Any]) -> Part:
        digest = str(layer.get("digest"))
        return lambda start, length: self._registry.part(digest, start, length) if length else b""


class Local:
    """An OCI image layout on disk, which has no digest that could be asked for."""

    digest: None = None

    def __init__(self, layout: ImageLayout) -> None:
        self._layout = layout

    def manifest(self) -> dict[str, Any]:
        return self._layout.manifest()

    def part(self, layer: dict[str, Any]) -> Part:
        return of_file(self._layout.blob(layer))


class Tree:
    """What a pull would put in place, as `files.Files`."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    def names(self) -> Sequence[str]:
        return sorted({name.partition("/")[0] for name in self._entries})

    def size(self, name: str) -> int:
        return self._entries[name].size if name in self._entries else 0

    def read(self, name: str, start: int, length: int) -> bytes:
        return self._entries[name].read(start, length) if name in self._entries else b""


def at_directory(directory: str, expected: Mapping[str, Any], *, mistral: bool = False) -> dict[str, Any]:
    """What a directory of a container holds, as JSON. Raises Unfit, OSError (FileNotFoundError: nothing is there)."""
    path = paths.resolve(directory)
    if not path.is_dir():
        raise FileNotFoundError(f"There is no directory {directory}.")
    return _told(inspect(Directory(path), directory, expected, mistral=mistral), None)


def at_image(image: str, expected: Mapping[str, Any], *, mistral: bool = False) -> dict[str, Any]:
    """What an image holds, as JSON. Raises Unfit, Unseen (both with a sentence), BadImage, OSError."""
    images = os.environ.get("KAITO_IMAGE_MAP")
    blobs: Remote | Local
    blobs = Remote(registry_of(image)) if images is None else Local(ImageLayout(layout_of(image, images)))
    return _told(in_blobs(blobs, image, expected, mistral=mistral), blobs.digest)


def _told(found: Found, digest: str | None) -> dict[str, Any]:
    answer = {"bytes": found.size, "files": len(found.loaded), "quantization": found.quantization}
    return answer if digest is None else {**answer, "digest": digest}


def in_blobs(blobs: Blobs, image: str, expected: Mapping[str, Any], *, mistral: bool = False) -> Found:
    """What is in an image that fits; raises as `at_image`."""
    budget, tree, unseen = Budget(MOST_FETCHED), dict[str, Entry](), ""
    for layer in blobs.manifest()["layers"]:
        seen = _seen(layer, blobs, budget)
        if seen.why:
            tree = {}  # what is below may be overwritten by what was not seen
            unseen = seen.why
        tree |= seen.entries
    try:
        if unseen:
            check_config(Tree(tree), image, expected)
            raise Unseen(unseen)
        if not tree:
            raise Unfit(artifact.nothing_in(artifact.INSIDE))
        return inspect(Tree(tree), image, expected, mistral=mistral)
    except (Unseen, Indivisible) as error:
        raise Unseen(
            f"{image} can't be looked at before it is pulled: {error}. Weights can be that are pushed as files (oras "
            "push), or in a layer that is not compressed."
        ) from error


@dataclass(slots=True)
class _Seen:
    """Files of a layer. why: what ended it early, as the end of a sentence; "" where all of it was seen."""

    entries: dict[str, Entry]
    why: str = ""


def _seen(layer: dict[str, Any], blobs: Blobs, budget: Budget) -> _Seen:
    """The files that a pull would take of a layer. Raises Unfit for what it would refuse, BadImage, OSError."""
    digest, size = layer.get("digest"), int(layer.get("size") or 0)
    part = budget.counted(blobs.part(layer))
    with _refusals():
        name = artifact.file_name(layer)
        if name is not None and not artifact.is_archive(layer):
            return _Seen({name: Entry(size, part)})
        mode = tar_mode(layer) if name is None else ""
    archive = _Archive()
    why = ""
    try:
        first = part(0, min(4, size)) if not mode else b""
        if first.startswith(_OTHERWISE):
            raise Unseen("it is compressed, and not with gzip")
        if mode == "r:gz" or first.startswith(_GZIP):
            _read_through(archive, part, size, budget)
        else:
            _walk(archive, part, size)
    except (Unseen, Indivisible) as error:
        why = f"its layer {digest}: {error}"
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Unfit(f"The layer {digest} can't be unpacked: {error}.") from error
    with _refusals():
        return _Seen(archive.below(artifact.prefixes(name, artifact.INSIDE)), why)


@contextmanager
def _refusals() -> Iterator[None]:
    """What the puller refuses, whoever asks, is weights that do not fit."""
    try:
        yield
    except BadImage as error:
        raise Unfit(str(error)) from error


class _Archive:
    """What is known of a layer's archive."""

    def __init__(self) -> None:
        self._members: list[tarfile.TarInfo] = []
        self._entries: dict[int, Entry] = {}
        self.config_seen = False

    def add(self, member: tarfile.TarInfo, entry: Entry) -> None:
        """Raises Unseen for too many."""
        if len(self._members) >= _MOST_FILES:
            raise Unseen(f"it holds more than {_MOST_FILES:,} files")
        self._entries[len(self._members)] = entry
        self._members.append(member)
        self.config_seen |= PurePosixPath(member.name).name == "config.json"

    def below(self, prefixes: Sequence[str]) -> dict[str, Entry]:
        """The files below the first of the directories that has any. Raises BadImage for what a pull refuses."""
        numbers = {id(member): number for number, member in enumerate(self._members)}
        for prefix in prefixes:
            found = {
                name: self._entries[numbers[id(member)]] for member, name in members(self._members, prefix)
            }
            if any(entry.size for entry in found.values()):
                return found
        return {}


def _walk(archive: _Archive, part: Part, size: int) -> None:
    """Goes from header to header of an archive that is not compressed. Raises Unseen, Indivisible, TarError."""
    window = cast(IO[bytes], Window(part, size, _WALK_AHEAD))
    with tarfile.open(fileobj=window, mode="r:") as tar:
        for member in tar:
            archive.add(member, Entry(member.size, _within(part, member.offset_data)))


def _within(part: Part, offset: int) -> Part:
    return lambda start, length: part(offset + start, length)


def _read_through(archive: _Archive, part: Part, size: int, budget: Budget) -> None:
    """Reads a compressed archive from its start, to its end or as far as may be. Raises as `_walk`."""
    whole = size <= budget.left
    window = Window(part, size if whole else min(size, _GLANCE, budget.left), _READ_AHEAD)
    too_long = f"it is compressed, and {size / 1e9:.1f} GB are not read to learn what it holds"
    kept = 0
    try:
        with (
            gzip.GzipFile(fileobj=cast(IO[bytes], window)) as plain,
            tarfile.open(fileobj=cast(IO[bytes], _Limited(plain)), mode="r|") as tar,
        ):
            for member in tar:
                start = _start(tar, member)
                kept += len(start)
                if kept > _MOST_KEPT:
                    raise Unseen("it holds more headers than are kept")
                archive.add(member, Entry(member.size, _of_bytes(start)))
                if archive.config_seen and not whole:
                    raise Unseen(too_long)
    except EOFError:
        if whole:
            raise
        raise Unseen(too_long) from None


class _Limited:
    """A stream that ends with Unseen where it has given too much: a few bytes can unpack to any number."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = _MOST_UNPACKED

    def read(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise Unseen(f"it unpacks to more than {_MOST_UNPACKED // 1024**3} GiB")
        return found


def _start(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Of a file that is looked at what is needed, while the archive passes by."""
    name = PurePosixPath(member.name).name
    source = tar.extractfile(member) if member.isreg() and _LOOKED_AT.fullmatch(name) else None
    if source is None:
        return b""
    if name.endswith(".gguf"):
        return source.read(gguf.FIRST_BYTES)
    if name.endswith(".json"):
        return source.read(MAX_JSON_BYTES)
    first = source.read(FIRST_BYTES)
    length = struct.unpack("<Q", first[:8])[0] if len(first) >= 8 else 0
    return first + source.read(max(0, min(8 + length, LONGEST_READ) - len(first)))


def _of_bytes(start: bytes) -> Part:
    def read(first: int, length: int) -> bytes:
        if first + length > len(start):
            raise Unseen("more of a file is needed than its header")
        return start[first : first + length]

    return read
