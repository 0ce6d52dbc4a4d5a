"""Where the programs of a real control plane come from.

First the folder in KUBEBUILDER_ASSETS, as with controller-runtime's envtest; what is not there is built from its
published Go module by `hack/cluster/build.sh`, which exists in a source tree of KAITO only.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kaito.testing.backends.base import BackendError

ASSETS: Final = "KUBEBUILDER_ASSETS"
_BUILD: Final = Path(__file__).resolve().parents[4] / "hack/cluster/build.sh"


class Binaries:
    """Paths of programs by name, looked up and built once each. May take minutes when something must be built."""

    def __init__(self) -> None:
        self._found: dict[str, Path] = {}

    def find(self, names: Iterable[str]) -> dict[str, Path]:
        """The paths of all of these programs.

        Raises:
            BackendError: one is neither in KUBEBUILDER_ASSETS nor can it be built.
        """
        wanted = list(names)
        missing = [name for name in wanted if name not in self._found and not self._in_assets(name)]
        if missing:
            folder = _built(missing)
            self._found.update({name: folder / name for name in missing})
        return {name: self._found[name] for name in wanted}

    def _in_assets(self, name: str) -> bool:
        assets = os.environ.get(ASSETS, "")
        path = Path(assets) / name
        if not assets or not os.access(path, os.X_OK):
            return False
        self._found[name] = path.resolve()
        return True


def _built(names: list[str]) -> Path:
    if not _BUILD.is_file():
        raise BackendError(
            f"no {', '.join(names)} for the backend `real`: set {ASSETS} to a folder that has them "
            f"(it is {os.environ.get(ASSETS) or 'not set'})"
        )
    done = subprocess.run([str(_BUILD), *names], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"{_BUILD} failed:\n{done.stderr[-2000:]}")
    return Path(done.stdout.strip().splitlines()[-1])
