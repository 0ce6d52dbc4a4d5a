"""Images on their way into the cluster's registry: those that were built before, and small ones made here."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster.places import REGISTRY, Places


class ImageError(Exception):
    """An image is missing or could not be pushed."""


def push(name: str, pushed_as: str = "") -> None:
    """Pushes an image of this machine's store, `REGISTRY/NAME:TAG`, perhaps under another name.

    Raises:
        ImageError: it is not there, or the registry refused it.
    """
    _buildah("push", "--quiet", "--tls-verify=false", name, f"docker://{pushed_as or name}")


def push_static(places: Places, program: Path, name: str) -> None:
    """Makes and pushes an image of one static program. Raises ImageError."""
    with tempfile.TemporaryDirectory(dir=places.folder) as context:
        shutil.copy(program, Path(context) / "program")
        _build_and_push(places, Path(context), name, 'COPY program /program\nENTRYPOINT ["/program"]\n')


def push_curl(places: Places) -> None:
    """Makes and pushes `curlimages/curl` from this machine's curl and the libraries that it is linked with."""
    program = shutil.which("curl")
    if program is None:
        raise ImageError("this machine has no curl to make the image curlimages/curl from")
    with tempfile.TemporaryDirectory(dir=places.folder) as context:
        root = Path(context) / "root"
        for source in (Path(program), *_libraries(program)):
            target = root / source.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        rest = f'COPY root /\nENV PATH={Path(program).parent}\nUSER 65532\nCMD ["curl"]\n'
        _build_and_push(places, Path(context), f"{REGISTRY}/curlimages/curl:latest", rest)


def _build_and_push(places: Places, context: Path, name: str, dockerfile: str) -> None:
    """In a store of our own, which goes with the run."""
    (context / "Dockerfile").write_text(f"FROM scratch\n{dockerfile}")
    store = (
        f"--root={places.folder / 'images'}",
        f"--runroot={places.folder / 'images-run'}",
        "--storage-driver=vfs",
    )
    _buildah(*store, "build", "--quiet", "--isolation=chroot", f"--tag={name}", str(context))
    _buildah(*store, "push", "--quiet", "--tls-verify=false", name)


def _libraries(program: str) -> list[Path]:
    """What the dynamic linker loads, the linker itself too."""
    lines = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(word) for line in lines for word in line.split() if word.startswith("/")]


def _buildah(*arguments: str) -> None:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ImageError(f"buildah {' '.join(arguments)}: {done.stderr[-2000:]}")
