"""A pod's volumes as directories of this machine.

What a volume holds is collected first (`needed`), fetched by the worker, and then written here without any API call.
A volume that cannot be made fails with a sentence, which becomes the pod's FailedMount event.
"""

from __future__ import annotations

import base64
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kaito.embedded.kubelet.environment import MissingReference, Sources, field_value, resource_value

SUPPORTED: Final = ("emptyDir", "hostPath", "configMap", "secret", "projected", "downwardAPI")
SECRET_MODE: Final = 0o600
"""Mode of files from Secrets: there is only one user here, so nobody else needs to read them."""


class MountFailed(Exception):
    """A volume or mount cannot be made; the text is for the user."""


Data = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class VolumeSources:
    """Contents of the ConfigMaps and Secrets that the pod's volumes name; None for one that does not exist."""

    pod: Mapping[str, Any]
    config_maps: Mapping[str, Data | None]
    secrets: Mapping[str, Data | None]
    node_allocatable: Mapping[str, str]


def kind_of(volume: Mapping[str, Any]) -> str:
    """The volume's type: its field beside `name` (`emptyDir` when there is none)."""
    return next((key for key in volume if key != "name"), "emptyDir")


def needed(spec: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that the pod's volumes need."""
    maps: set[str] = set()
    secrets: set[str] = set()
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            if "configMap" in source:
                maps.add(str((source["configMap"] or {}).get("name", "")))
            if "secret" in source:
                secret = source["secret"] or {}
                secrets.add(str(secret.get("secretName") or secret.get("name", "")))
    return maps, secrets


def config_map_data(body: Mapping[str, Any]) -> Data:
    data = {key: str(value).encode() for key, value in (body.get("data") or {}).items()}
    return data | {key: base64.b64decode(value) for key, value in (body.get("binaryData") or {}).items()}


def secret_data(body: Mapping[str, Any]) -> Data:
    return {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}


def make_volume(volume: Mapping[str, Any], directory: Path, sources: VolumeSources) -> Path:
    """Make the volume, in `directory` unless it is a path of this machine; where it is. Raises MountFailed."""
    kind = kind_of(volume)
    name = volume.get("name", "")
    body: Mapping[str, Any] = volume.get(kind) or {}
    try:
        match kind:
            case "emptyDir":
                directory.mkdir(parents=True, exist_ok=True)
                return directory
            case "hostPath":
                return host_path(str(body.get("path", "")), str(body.get("type") or ""))
            case "configMap" | "secret" | "downwardAPI":
                _write(directory, _files({kind: body}, sources), kind == "secret", body.get("defaultMode"))
                return directory
            case "projected":
                for source in body.get("sources") or ():
                    _write(directory, _files(source, sources), "secret" in source, body.get("defaultMode"))
                directory.mkdir(parents=True, exist_ok=True)
                return directory
    except (OSError, MissingReference) as error:
        text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
        raise MountFailed(f'MountVolume.SetUp failed for volume "{name}": {text}') from error
    raise MountFailed(
        f'volume "{name}": type {kind} is not implemented by this kubelet; use one of {", ".join(SUPPORTED)}'
    )


_TYPES: Final[Mapping[str, tuple[str, Callable[[int], bool]]]] = {
    "Directory": ("a directory", stat.S_ISDIR),
    "File": ("a file", stat.S_ISREG),
    "Socket": ("a socket", stat.S_ISSOCK),
    "CharDevice": ("a character device", stat.S_ISCHR),
    "BlockDevice": ("a block device", stat.S_ISBLK),
}


def host_path(path: str, kind: str) -> Path:
    """The hostPath volume's path, checked as its type demands. Raises MountFailed or OSError."""
    target = Path(path)
    if not target.is_absolute():
        raise MountFailed(f"hostPath {path!r}: must be an absolute path of this machine")
    if kind in ("DirectoryOrCreate", ""):
        if not target.exists():
            target.mkdir(parents=True)
        kind = "Directory" if kind else ""
    elif kind == "FileOrCreate":
        if not target.exists():
            target.touch()
        kind = "File"
    if not kind:
        return target
    if kind not in _TYPES:
        raise MountFailed(
            f"hostPath {path}: type {kind!r} is unknown; use Directory, File or one of their OrCreate"
        )
    words, check = _TYPES[kind]
    if not target.exists():
        raise MountFailed(
            f"hostPath type check failed: {path} does not exist on this machine (must be {words})"
        )
    if not check(target.stat().st_mode):
        raise MountFailed(f"hostPath type check failed: {path} is not {words}")
    return target


def _select(kind: str, name: str, data: Data | None, body: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a configMap or secret source: all keys, or its `items`."""
    if data is None:
        if body.get("optional"):
            return {}
        raise MissingReference(f'{kind} "{name}" not found')
    items = body.get("items")
    if not items:
        return dict(data)
    files: dict[str, bytes] = {}
    for item in items:
        if item["key"] in data:
            files[item["path"]] = data[item["key"]]
        elif not body.get("optional"):
            raise MissingReference(f'{kind} "{name}" references non-existent key: {item["key"]}')
    return files


def _files(source: Mapping[str, Any], sources: VolumeSources) -> dict[str, bytes]:
    if "configMap" in source:
        body = source["configMap"] or {}
        name = str(body.get("name", ""))
        return _select("configmap", name, sources.config_maps.get(name), body)
    if "secret" in source:
        body = source["secret"] or {}
        name = str(body.get("secretName") or body.get("name", ""))
        return _select("secret", name, sources.secrets.get(name), body)
    if "downwardAPI" in source:
        return {
            item["path"]: _downward(item, sources).encode()
            for item in (source["downwardAPI"] or {}).get("items") or ()
        }
    raise MissingReference(f"projected source {', '.join(source)} is not implemented by this kubelet")


def _downward(item: Mapping[str, Any], sources: VolumeSources) -> str:
    if "fieldRef" in item:
        return field_value(sources.pod, str(item["fieldRef"].get("fieldPath", "")))
    return resource_value(sources.pod, {}, item.get("resourceFieldRef") or {}, sources.node_allocatable)


def _write(directory: Path, files: Mapping[str, bytes], secret: bool, mode: int | None) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, data in files.items():
        path = directory / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise MissingReference(f"path {name!r}: must be relative and stay inside the volume")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(data)
        path.chmod(SECRET_MODE if secret else (mode if mode is not None else 0o644) | 0o400)


def text_data(data: Data | None) -> dict[str, str] | None:
    """The same contents for environment variables."""
    return None if data is None else {key: value.decode("utf-8", "replace") for key, value in data.items()}


def env_sources(sources: VolumeSources) -> Sources:
    """The same objects as the environment wants them."""
    return Sources(
        sources.pod,
        {name: text_data(data) for name, data in sources.config_maps.items()},
        {name: text_data(data) for name, data in sources.secrets.items()},
        sources.node_allocatable,
    )
