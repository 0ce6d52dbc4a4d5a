"""An adapter in a directory of this machine (`volumeSource.hostPath`)."""

from __future__ import annotations

from pathlib import Path

from kaito.controllers.adapter import facts
from kaito.controllers.adapter.facts import CONFIG_NAME, PICKLE_NAME, WEIGHTS_NAME, Facts, Unreadable
from kaito.controllers.adapter.files import open_regular, read_regular, sha256_of


def read_directory(path: Path) -> Facts:
    """Blocking; call it off the loop. The digest is that of the weights. Raises `Unreadable`."""
    if not path.is_absolute():
        raise Unreadable(f'hostPath.path "{path}" must start with /')
    try:
        root = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise Unreadable(f"the directory {path} does not exist on this machine") from None
    if not root.is_dir():
        raise Unreadable(f"{path} is no directory; write the directory that holds {CONFIG_NAME}")
    config = facts.read_config(
        read_regular(_inside(root, CONFIG_NAME), f"{path}/{CONFIG_NAME}", facts.CONFIG_LIMIT)
    )
    stream, size = open_regular(_weights(root, path), f"{path}/{WEIGHTS_NAME}", facts.WEIGHTS_LIMIT)
    with stream:
        weights = facts.read_weights(stream, size)
        stream.seek(0)
        digest = sha256_of(stream)
    return facts.combine(config, weights, digest=f"sha256:{digest}", size=size)


def _weights(root: Path, path: Path) -> Path:
    weights = _inside(root, WEIGHTS_NAME)
    if not weights.exists() and (root / PICKLE_NAME).exists():
        raise Unreadable(
            f"{path} holds {PICKLE_NAME}, which may run code when it is opened; save the adapter as {WEIGHTS_NAME}"
        )
    return weights


def _inside(root: Path, name: str) -> Path:
    """The file behind the name. A link must lead to a file of the same directory."""
    try:
        real = (root / name).resolve()
    except (OSError, RuntimeError) as error:
        raise Unreadable(f"{name} leads nowhere: {error}") from None
    if not real.is_relative_to(root):
        raise Unreadable(f"{name} is a link that leaves the adapter's directory; copy the file itself there")
    return real
