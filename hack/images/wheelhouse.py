"""Gathers an image's wheels before it is built: its constraints' versions, for the base's Python and processor."""

from __future__ import annotations

import contextlib
import email.parser
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from hack.images.engine import Base, BuildError

ROOT = Path(__file__).resolve().parents[2]
_MANYLINUX = (*(f"2_{minor}" for minor in range(31, 4, -1)), "2014", "2010", "1")
"""glibc that wheels may ask for: Debian 11 and Ubuntu 20.04 have 2.31, and are older than every base with a supported
Python. Each version by itself, because pip matches them to the letter (NVIDIA's wheels for CUDA 13 say 2_25)."""


@dataclass(frozen=True)
class Wheel:
    """A wheel that goes into an image."""

    path: Path
    metadata: Message

    @property
    def name(self) -> str:
        return str(self.metadata["Name"])

    @property
    def version(self) -> str:
        return str(self.metadata["Version"])

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"

    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def read_wheel(path: Path) -> Wheel:
    """The wheel at that path, with its METADATA."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Wheel(path, email.parser.Parser().parsestr(archive.read(name).decode()))


def own_wheels(epoch: int, folder: Path) -> None:
    """Builds this project's two distributions into `folder`; the same sources and epoch give the same bytes."""
    for source in (ROOT / "presets", ROOT):
        command = [
            sys.executable,
            "-m",
            "build",
            "--quiet",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(folder),
        ]
        _run([*command, str(source)], {"SOURCE_DATE_EPOCH": str(epoch)})


def gather(
    requirement: str | None, constraints: Path, own: Path, base: Base, cache: Path, folder: Path
) -> list[Wheel]:
    """Fills `folder` with wheels and a requirements.txt, and returns those that are installed.

    Args:
        requirement: what is installed with all that it needs, as a path in this repository with extras
            (`.[operator]`); None: kaito-presets alone, without its dependencies.
        constraints: the file with the versions.
        own: where this project's own wheels lie.
        base: the image that it is all for.
        cache: where downloaded wheels are kept.
        folder: the new wheelhouse.
    """
    pinned = _resolve(requirement, constraints, base) if requirement is not None else []
    tools = [
        line
        for line in (ROOT / "images" / "tools.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    folder.mkdir(parents=True)
    for path in _download([*pinned, *tools], base, cache):
        _bring(path, folder)
    mine = "kaito_presets-*.whl" if requirement is None or "presets" in requirement else "kaito-*.whl"
    for path in own.glob(mine):
        shutil.copy(path, folder)
    installed = [
        wheel for wheel in map(read_wheel, sorted(folder.glob("*.whl"))) if wheel.requirement not in tools
    ]
    lines = "".join(f"{wheel.requirement}\n" for wheel in installed)
    (folder / "requirements.txt").write_text(lines, encoding="utf-8")
    return installed


def pythons(constraints: Path) -> list[str]:
    """The versions of Python, such as 3.12, that constraints hold for by their first line; empty for all."""
    first = constraints.read_text(encoding="utf-8").partition("\n")[0]
    found = re.search(r"\(x86_64, Python ([\d., and]+)\)", first)
    return re.findall(r"\d+\.\d+", found[1]) if found is not None else []


def _bring(wheel: Path, folder: Path) -> None:
    """As a hard link where that can be: those of torch and CUDA take gigabytes."""
    try:
        os.link(wheel, folder / wheel.name)
    except OSError:  # another file system
        shutil.copy(wheel, folder)


def _resolve(requirement: str, constraints: Path, base: Base) -> list[str]:
    """The exact versions, for the Python and the processor of the base and not of this machine."""
    only = pythons(constraints)
    if only and base.python.rpartition(".")[0] not in only:
        raise BuildError(
            f"{base.name} has Python {base.python}; {constraints.relative_to(ROOT)} is for {' and '.join(only)}. "
            "Name an image that has it: BASE=…."
        )
    command = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += [
        "--only-binary=:all:",
        f"--python-version={base.python}",
        f"--python-platform={_platform(base)}",
    ]
    command += [f"--constraint={constraints}", "-"]
    uv = Path(sys.executable).with_name("uv")
    text = _run([str(uv), *command], {}, f"-e {requirement}\n")
    return [line for line in text.splitlines() if "==" in line and not line.startswith(("-e", "#"))]


def _download(pinned: Sequence[str], base: Base, cache: Path) -> list[Path]:
    """The wheels of exact versions, from the cache where they were downloaded before."""
    key = hashlib.sha256("\n".join([base.python, base.machine, *sorted(pinned)]).encode()).hexdigest()[:16]
    kept = cache / f"wheels-{key}"
    if not kept.is_dir():
        part = kept.with_name(f"{kept.name}.{os.getpid()}")
        part.mkdir(parents=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={base.python}"]
        command += [f"--platform=manylinux{_tag(glibc)}_{base.machine}" for glibc in _MANYLINUX]
        listing = part / "pinned.txt"
        try:
            listing.write_text("\n".join(pinned) + "\n", encoding="utf-8")
            _run([*command, f"--requirement={listing}", f"--dest={part}"], {})
            listing.unlink()
            with contextlib.suppress(OSError):  # another build was faster
                part.rename(kept)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return sorted(kept.glob("*.whl"))


def _tag(glibc: str) -> str:
    return f"_{glibc}" if "_" in glibc else glibc


def _platform(base: Base) -> str:
    if base.machine not in ("x86_64", "aarch64"):
        raise BuildError(f"{base.name} is for {base.machine}; images are built for x86_64 and aarch64.")
    return f"{base.machine}-manylinux_2_31"


def _run(command: Sequence[str], environment: dict[str, str], text: str | None = None) -> str:
    done = subprocess.run(
        command,
        check=False,
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    if done.returncode != 0:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        what = Path(command[0]).name if "-m" not in command else command[command.index("-m") + 1]
        raise BuildError(f"{what} failed with exit code {done.returncode}; its last words are above.")
    return done.stdout
