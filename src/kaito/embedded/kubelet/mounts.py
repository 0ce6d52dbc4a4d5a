"""A container's view of the file system: a directory in which its mount paths are links to its volumes.

Programs resolve every absolute in-container path below KAITO_MOUNT_ROOT. Links need no privileges and work the same on
Linux and macOS; what they cannot do is keep a program from writing to a read-only mount, or from looking elsewhere.
"""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaito.embedded.kubelet.environment import expand
from kaito.embedded.kubelet.volumes import MountFailed


def inside(root: Path, container_path: str) -> Path:
    """Where an in-container path lies below `root`. `..` cannot leave it."""
    return root / posixpath.normpath("/" + container_path).lstrip("/")


def plan_mounts(
    container: Mapping[str, Any],
    volumes: Mapping[str, Path],
    contents: Mapping[str, str],
    env: Mapping[str, str],
) -> dict[str, Path]:
    """Container path → what is linked there, outer paths first. Volumes win over the image's contents."""
    wanted: dict[str, Path] = {posixpath.normpath(path): Path(host) for path, host in contents.items()}
    for mount in container.get("volumeMounts") or ():
        path = posixpath.normpath(str(mount.get("mountPath", "")))
        name = mount.get("name", "")
        if name not in volumes:
            raise MountFailed(f'mount {path}: the pod has no volume "{name}"')
        if path in ("/", ".", ""):
            raise MountFailed(f'volume "{name}": mountPath must be a path below /')
        target = volumes[name]
        sub = str(mount.get("subPath") or "") or expand(str(mount.get("subPathExpr") or ""), env)
        if sub:
            if ".." in Path(sub).parts or Path(sub).is_absolute():
                raise MountFailed(
                    f'volume "{name}": subPath {sub!r} must be relative and stay inside the volume'
                )
            target = target / sub
            if not target.exists():
                target.mkdir(parents=True)
        wanted["/" + path.lstrip("/")] = target
    return dict(sorted(wanted.items(), key=lambda item: item[0].count("/")))


def build_root(root: Path, mounts: Mapping[str, Path], own: Path) -> None:
    """Make `root` afresh with these mounts.

    A mount below another one is linked inside it when that volume is the pod's own (below `own`); a directory of the
    user's is never written to: there, a directory of links to its entries takes the place of one link.
    Raises MountFailed.
    """
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    for path, target in mounts.items():
        inner = any(other.startswith(path.rstrip("/") + "/") for other in mounts)
        place = inside(root, path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _clear(place)
            if inner and not target.is_relative_to(own):
                place.mkdir()
                for entry in target.iterdir():
                    (place / entry.name).symlink_to(entry)
            else:
                place.symlink_to(target)
        except OSError as error:
            raise MountFailed(
                f"cannot mount {target} at {path}: {error.strerror}: {error.filename}"
            ) from error


def _clear(place: Path) -> None:
    """Make room for a link: an earlier link or an empty directory may be replaced, nothing else."""
    if place.is_symlink():
        place.unlink()
    elif place.is_dir():
        place.rmdir()
    elif place.exists():
        place.unlink()  # a file of the image that a volume covers
