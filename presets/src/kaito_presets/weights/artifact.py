"""Pulls weights that lie in a container registry: an image with the files in it, or an artifact whose layers they are.

An image has them under /workspace/weights, where a server's own image has them, or under /data. Of an artifact (as oras
and ModelPack make them) each layer is a file that its annotations name, or an archive of files.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from kaito_presets.oci import BadImage, ImageLayout, members, tar_mode, write_member
from kaito_presets.registry import Registry

#: Directories of an image that may hold weights, the first that has files wins.
INSIDE = ("workspace/weights", "data")
#: Annotations of a layer that say which file it is.
FILE_NAMES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
UNPACK = "io.deis.oras.content.unpack"
#: Lists the digests of layers whose files are in place.
DONE_FILE = ".kaito-layers"


class Store(Protocol):
    """Where layers come from."""

    def manifest(self) -> dict[str, Any]: ...

    def blob(self, descriptor: dict[str, Any], scratch: Path) -> Path:
        """A file with the layer, checked; `scratch` is where one may be made."""


class Remote:
    """A registry."""

    def __init__(self, registry: Registry, came: Callable[[int], None] = lambda size: None) -> None:
        self._registry = registry
        self._came = came

    def manifest(self) -> dict[str, Any]:
        return self._registry.manifest()

    def blob(self, descriptor: dict[str, Any], scratch: Path) -> Path:
        digest = str(descriptor.get("digest"))
        path = scratch / digest.replace(":", "-")
        self._registry.fetch(digest, int(descriptor.get("size") or 0), path, came=self._came)
        return path


class Local:
    """An OCI image layout on disk."""

    def __init__(self, layout: ImageLayout) -> None:
        self._layout = layout

    def manifest(self) -> dict[str, Any]:
        return self._layout.manifest()

    def blob(self, descriptor: dict[str, Any], scratch: Path) -> Path:
        return self._layout.verified_blob(descriptor)


def layers_size(manifest: dict[str, Any]) -> int:
    """Bytes of all layers."""
    return sum(int(layer.get("size") or 0) for layer in manifest["layers"])


def pull(
    store: Store, output: Path, inside: tuple[str, ...] = INSIDE, *, limit: int | None = None
) -> list[str]:
    """Makes `output` hold the files and returns their names. Blocks; raises BadImage, OSError.

    A layer that is in place already is not asked for again, and an unfinished one is gone on with. limit: bytes that
    all files of the image may have together.
    """
    left = limit
    output.mkdir(parents=True, exist_ok=True)
    scratch = output / ".kaito-pull"
    scratch.mkdir(exist_ok=True)
    done_file = output / DONE_FILE
    done = set(done_file.read_text(encoding="utf-8").split()) if done_file.is_file() else set()
    for layer in store.manifest()["layers"]:
        digest = str(layer.get("digest"))
        if digest in done:
            continue
        blob = store.blob(layer, scratch)
        name = file_name(layer)
        if name is not None and not is_archive(layer):
            _place(blob, output / name, scratch)
        else:
            unpacked = _unpack(blob, layer, name, output, inside, left)
            left = left - unpacked if left is not None else None
        if blob.parent == scratch:
            blob.unlink(missing_ok=True)
        done.add(digest)
        done_file.write_text("\n".join(sorted(done)), encoding="utf-8")
    scratch.rmdir()
    names = sorted(
        str(path.relative_to(output))
        for path in output.rglob("*")
        if path.is_file() and path.name != DONE_FILE
    )
    if not names:
        raise BadImage(nothing_in(inside))
    return names


def nothing_in(inside: tuple[str, ...]) -> str:
    """What is said of an image without such files."""
    return (
        f"The image has no files under {' or '.join(f'/{each}' for each in inside)}, and no layer that is named as a "
        "file; put them there."
    )


def file_name(layer: dict[str, Any]) -> str | None:
    """The file that an artifact's layer is, or the directory that it is an archive of; None in an image.

    Raises BadImage for one that leads out.
    """
    notes = layer.get("annotations")
    name = next((notes[key] for key in FILE_NAMES if key in notes), None) if isinstance(notes, dict) else None
    if name is None:
        return None
    parts = PurePosixPath(str(name)).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise BadImage(f"The artifact holds a file named {name!r}, whose name leads out of it.")
    return str(PurePosixPath(*parts))


def is_archive(layer: dict[str, Any]) -> bool:
    """Whether an artifact's layer is an archive of files."""
    kind, notes = str(layer.get("mediaType")), layer.get("annotations") or {}
    return notes.get(UNPACK) == "true" or (kind.startswith("application/vnd.cncf.model.") and ".tar" in kind)


def prefixes(name: str | None, inside: tuple[str, ...]) -> tuple[str, ...]:
    """Directories of a layer's archive; the first that has files is taken. name: see `file_name`."""
    return inside if name is None else (name, "")


def _place(blob: Path, target: Path, scratch: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if blob.parent == scratch:
        blob.replace(target)
        return
    with blob.open("rb") as source, target.open("wb") as out:
        while chunk := source.read(1 << 20):
            out.write(chunk)


def _unpack(
    blob: Path,
    layer: dict[str, Any],
    name: str | None,
    output: Path,
    inside: tuple[str, ...],
    left: int | None,
) -> int:
    """What is below one of `inside`; of an artifact's layer all, without the directory that it is named for.

    Returns how many bytes that is; raises BadImage for more than `left`.
    """
    mode: Any = tar_mode(layer) if name is None else "r:*"
    try:
        for prefix in prefixes(name, inside):
            with tarfile.open(blob, mode=mode) as tar:
                size = 0
                for member, relative in members(tar, prefix):
                    size += member.size
                    if left is not None and size > left:
                        raise BadImage(f"The files under /{prefix} are more than an image may bring.")
                    write_member(tar, member, output / relative)
            if size:
                return size
    except (tarfile.TarError, EOFError) as error:
        raise BadImage(f"The layer {layer.get('digest')} can't be unpacked: {error}") from error
    return 0
