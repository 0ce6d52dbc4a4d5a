"""What GPUs the pinned wheels of torch have machine code for, recorded in images/torch-wheels.json.

`python -m hack.torch_wheels` downloads each wheel (500 to 900 MB) and writes the record anew. With --check it asks the
package index for the checksums of the files alone: a wheel with the recorded one is the very file that was read.

The list is what torch.cuda.get_arch_list() answers on a machine with a GPU: the text that nvcc was given, which is
compiled into libtorch_python.so. So it can be read without a GPU, and without installing anything.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from kaito.catalog.lines import LINES

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "images" / "torch-wheels.json"
PLATFORM = "manylinux_2_28_x86_64"
PYTHON = "3.12"
"""Of the base image that `make images` takes by default; wheels for other Pythons are built alike."""
_LIBRARY = "torch/lib/libtorch_python.so"
_FLAGS = re.compile(rb"\x00(sm_\d+[af]?(?: (?:sm|compute)_\d+[af]?)*)(?=\x00)")
_ARCHITECTURE = re.compile(r"sm_(\d+)(\d)")


class WheelError(Exception):
    """A wheel is not there, not the recorded one, or holds no list."""


@dataclass(frozen=True)
class TorchWheel:
    """A wheel of torch. cuda: version of the toolkit that it was built with; architectures: such as sm_70."""

    torch: str
    file: str
    sha256: str
    cuda: str
    architectures: tuple[str, ...]

    def runs_on(self, capability: float) -> bool:
        """Whether it has code for GPUs of that compute capability.

        Code for X.Y runs on GPUs of capability X.Z with Z from Y (CUDA C++ Programming Guide, "Binary Compatibility").
        """
        major, minor = divmod(round(capability * 10), 10)
        made_for = (_ARCHITECTURE.fullmatch(name) for name in self.architectures)
        return any(found and int(found[1]) == major and int(found[2]) <= minor for found in made_for)


def read_wheel(path: Path) -> TorchWheel:
    """Raises WheelError where the wheel was built without CUDA, or the list is not found."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    with zipfile.ZipFile(path) as archive:
        flags = _FLAGS.findall(archive.read(_LIBRARY))
        version = dict(
            re.findall(r"^(\w+)[^=\n]* = '([^']*)'", archive.read("torch/version.py").decode(), re.MULTILINE)
        )
    if len(set(flags)) != 1 or "cuda" not in version:
        raise WheelError(
            f"{path.name}: expected one list of GPU architectures in {_LIBRARY}, found {len(flags)}"
        )
    plain = version["__version__"].partition("+")[0]
    return TorchWheel(plain, path.name, digest.hexdigest(), version["cuda"], tuple(flags[0].decode().split()))


def recorded() -> dict[str, TorchWheel]:
    """The record, by the version of torch."""
    rows = json.loads(RECORD.read_text(encoding="utf-8"))
    wheels = [TorchWheel(**{**row, "architectures": tuple(row["architectures"])}) for row in rows]
    return {wheel.torch: wheel for wheel in wheels}


def versions() -> list[str]:
    """Those of torch that our images hold, newest first."""
    return list(dict.fromkeys(line.torch for line in LINES if line.torch is not None))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m hack.torch_wheels", description="Record what torch's wheels hold."
    )
    parser.add_argument(
        "--check", action="store_true", help="only compare the record with the index's checksums"
    )
    options = parser.parse_args()
    try:
        if options.check:
            check()
        else:
            write()
    except WheelError as error:
        print(f"torch-wheels: {error}", file=sys.stderr)
        return 1
    return 0


def check() -> None:
    """Raises WheelError where the index has no such file any more, or the record lacks a version."""
    record = recorded()
    for version in versions():
        wheel = record.get(version)
        if wheel is None:
            raise WheelError(f"{RECORD.name} lacks torch {version}; run python -m hack.torch_wheels")
        if wheel.sha256 not in _checksums(version):
            raise WheelError(f"no file of torch {version} has the checksum of {wheel.file} in {RECORD.name}")
        print(f"ok      torch {version} (CUDA {wheel.cuda}): {' '.join(wheel.architectures)}")


def write() -> None:
    """Downloads and reads each wheel."""
    rows = []
    for version in versions():
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ]
            command += ["--only-binary=:all:", f"--platform={PLATFORM}", f"--python-version={PYTHON}"]
            _run([*command, f"--dest={folder}", f"torch=={version}"])
            (path,) = Path(folder).glob("*.whl")
            rows.append(read_wheel(path))
    lines = ",\n".join(f"  {json.dumps(asdict(row))}" for row in rows)
    RECORD.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _checksums(version: str) -> set[str]:
    command = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-deps",
    ]
    command += ["--no-header", f"--python-platform=x86_64-{PLATFORM[: -len('_x86_64')]}"]
    text = _run([*command, f"--python-version={PYTHON}", "-"], f"torch=={version}\n")
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))


def _run(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise WheelError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
