"""Where the example manifests are: inside the wheel, or in the source tree of an editable installation."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from kaito.cli.errors import CliError


def examples_directory() -> Path:
    """The folder that holds `inference/` and `fine-tuning/`.

    Raises:
        CliError: the installation is incomplete.
    """
    packaged = Path(str(resources.files("kaito.cli"))) / "examples"
    source_tree = Path(__file__).resolve().parents[3] / "examples"
    for candidate in (packaged, source_tree):
        if (candidate / "inference").is_dir():
            return candidate
    raise CliError(
        f"The examples are missing from this installation (looked in {packaged} and {source_tree})."
    )
