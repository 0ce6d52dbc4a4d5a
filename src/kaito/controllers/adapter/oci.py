"""An adapter in a local OCI image layout: a directory with index.json and blobs.

The adapter's files are under /data of the image, in any of its layers; later layers replace or remove what
earlier ones have. Digests are checked: what is read is what the manifest names.
"""

from __future__ import annotations

import gzip
import json
import re
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, cast

from kaito.controllers.adapter import facts
from kaito.controllers.adapter.facts import CONFIG_NAME, PICKLE_NAME, WEIGHTS_NAME, Facts, Unreadable, Weights
from kaito.controllers.adapter.files import open_regular, read_regular, sha256_of

DATA: Final = "data"
"""Directory of the image that holds the payload."""
JSON_LIMIT: Final = 4 << 20
"""Bytes of an index or manifest (registries cap manifests at 4 MiB)."""
LAYER_LIMIT: Final = 64 << 30
"""Bytes of one layer, packed and unpacked."""
MEMBER_LIMIT: Final = 100_000
"""Files of one layer."""
_DEPTH_LIMIT: Final = 4
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_INDEX_TYPES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
_GZIP_TYPES: Final = ("+gzip", ".gzip", "tar.gz")
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"

Descriptor = Mapping[str, Any]


def read_layout(layout: Path, tag: str | None = None) -> Facts:
    """Blocking; call it off the loop. The digest is the manifest's. Raises `Unreadable`.

    tag: which of several images of the layout, by its annotation org.opencontainers.image.ref.name.
    """
    index = _json(
        read_regular(layout / "index.json", f"{layout}/index.json", JSON_LIMIT), f"{layout}/index.json"
    )
    descriptor = _manifest(layout, index, tag, 0)
    manifest = _json(_blob(layout, descriptor), f"manifest {descriptor['digest']}")
    found = _Payload()
    for layer in _list(manifest, "layers"):
        _read_layer(layout, layer, found)
    if found.config is None or found.weights is None:
        raise Unreadable(found.missing())
    return facts.combine(
        facts.read_config(found.config), found.weights, digest=descriptor["digest"], size=found.size
    )


class _Payload:
    """The adapter's files as the layers so far leave them."""

    def __init__(self) -> None:
        self.config: bytes | None = None
        self.weights: Weights | None = None
        self.size = 0
        self.pickle = False

    def remove(self, name: str) -> None:
        if name in (CONFIG_NAME, _OPAQUE):
            self.config = None
        if name in (WEIGHTS_NAME, _OPAQUE):
            self.weights = None

    def missing(self) -> str:
        if self.weights is None and self.pickle:
            return (
                f"the image holds /{DATA}/{PICKLE_NAME}, which may run code when it is opened; "
                f"save the adapter as {WEIGHTS_NAME}"
            )
        names = [CONFIG_NAME] * (self.config is None) + [WEIGHTS_NAME] * (self.weights is None)
        missing = " and no ".join(f"/{DATA}/{name}" for name in names)
        return f"the image holds no {missing}; put the adapter's files there"


def _manifest(layout: Path, index: Descriptor, tag: str | None, depth: int) -> Descriptor:
    """The one image manifest that is meant, through nested indexes."""
    choices = [each for each in _list(index, "manifests") if not _is_attestation(each)]
    if len(choices) > 1 and tag is not None:
        named = [each for each in choices if _map(each, "annotations").get(_REF_NAME) == tag]
        choices = named or choices
    if len(choices) > 1:
        choices = [each for each in choices if _platform(each) == ("linux", "amd64")] or choices
    if not choices:
        raise Unreadable(f"{layout} holds no image")
    if len({str(each.get("digest")) for each in choices}) > 1:
        raise Unreadable(f"{layout} holds {len(choices)} images; keep the one that is meant")
    chosen = choices[0]
    if str(chosen.get("mediaType")) not in _INDEX_TYPES:
        return chosen
    if depth >= _DEPTH_LIMIT:
        raise Unreadable(f"{layout}: indexes within indexes, more than {_DEPTH_LIMIT} deep")
    return _manifest(layout, _json(_blob(layout, chosen), f"index {chosen['digest']}"), tag, depth + 1)


_REF_NAME: Final = "org.opencontainers.image.ref.name"


def _platform(descriptor: Descriptor) -> tuple[object, object]:
    platform = _map(descriptor, "platform")
    return platform.get("os"), platform.get("architecture")


def _map(descriptor: Descriptor, key: str) -> Descriptor:
    """A field that should hold an object; an empty one for anything else."""
    found = descriptor.get(key)
    return found if isinstance(found, dict) else {}


def _is_attestation(descriptor: Descriptor) -> bool:
    return _platform(descriptor) == ("unknown", "unknown")


def _blob_path(layout: Path, descriptor: Descriptor) -> tuple[Path, str]:
    match = _DIGEST.fullmatch(str(descriptor.get("digest")))
    if match is None:
        raise Unreadable(
            f"{layout}: the digest {descriptor.get('digest')!r} is not of the form sha256:<64 hex digits>"
        )
    return layout / "blobs" / "sha256" / match[1], match[1]


def _blob(layout: Path, descriptor: Descriptor) -> bytes:
    path, wanted = _blob_path(layout, descriptor)
    stream, _ = open_regular(path, f"blob {descriptor['digest']}", JSON_LIMIT)
    with stream:
        if sha256_of(stream) != wanted:
            raise Unreadable(f"blob {descriptor['digest']} does not match its digest; copy the layout again")
        stream.seek(0)
        return stream.read(JSON_LIMIT)


def _read_layer(layout: Path, descriptor: Descriptor, found: _Payload) -> None:
    digest, media_type = descriptor.get("digest"), str(descriptor.get("mediaType"))
    path, wanted = _blob_path(layout, descriptor)
    if media_type.endswith("zstd"):
        raise Unreadable(f"layer {digest} is packed with zstd; build the image with gzip layers")
    stream, _ = open_regular(path, f"layer {digest}", LAYER_LIMIT)
    with stream:
        if sha256_of(stream) != wanted:
            raise Unreadable(f"layer {digest} does not match its digest; copy the layout again")
        stream.seek(0)
        packed = media_type.endswith(_GZIP_TYPES)
        source = cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if packed else stream
        try:
            _read_tar(cast("BinaryIO", _Limited(source, LAYER_LIMIT)), found)
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise Unreadable(f"layer {digest} is no readable tar archive: {error}") from None


def _read_tar(stream: BinaryIO, found: _Payload) -> None:
    """Looks at each entry in passing; nothing is ever written to disk."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for count, member in enumerate(archive):
            if count >= MEMBER_LIMIT:
                raise Unreadable(f"a layer holds more than {MEMBER_LIMIT} files")
            match [part for part in PurePosixPath(member.name).parts if part not in ("/", ".")]:
                case [folder] if folder == _WHITEOUT + DATA:
                    found.remove(_OPAQUE)
                case [folder, name] if folder == DATA and name.startswith(_WHITEOUT):
                    found.remove(name if name == _OPAQUE else name.removeprefix(_WHITEOUT))
                case [folder, name] if folder == DATA:
                    _take(archive, member, name, found)


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, found: _Payload) -> None:
    if name == PICKLE_NAME:
        found.pickle = True
    if name not in (CONFIG_NAME, WEIGHTS_NAME):
        return
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise Unreadable(
            f"/{DATA}/{name} of the image is no regular file; build the image with the file itself"
        )
    if name == WEIGHTS_NAME:
        found.weights, found.size = facts.read_weights(cast("BinaryIO", content), member.size), member.size
    elif member.size > facts.CONFIG_LIMIT:
        raise Unreadable(f"/{DATA}/{name} has {member.size} bytes; at most {facts.CONFIG_LIMIT} are read")
    else:
        found.config = content.read()


class _Limited:
    """A stream that fails after so many bytes: a small layer must not unpack for ever."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise Unreadable(f"a layer unpacks to more than {LAYER_LIMIT} bytes")
        return chunk


def _json(content: bytes, shown: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{shown} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Unreadable(f"{shown} must hold a JSON object")
    return value


def _list(value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Unreadable(f"the image's {key} are not a list of objects")
    return found
