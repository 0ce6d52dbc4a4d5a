"""`kaito local up --weights=real`: real weights for the local mode, after saying what that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kaito.catalog import Catalog, Preset
from kaito.cli.errors import CliError

if TYPE_CHECKING:
    from kaito_presets.weights import Progress, Source

DEFAULT_PRESETS = ("phi-3-mini-4k-instruct",)
"""The smallest of the first examples' models; others are named with --preset."""


def obtain(
    catalog: Catalog,
    presets: Sequence[str],
    cache: Path,
    echo: Callable[..., None],
    *,
    endpoint: str | None = None,
) -> dict[str, Path]:
    """Downloads what is missing of the presets' weights; preset name → folder.

    Blocks, and may be interrupted: what has come is kept, and the next call goes on from there. `endpoint` is the
    hub's URL (default: $HF_ENDPOINT, else the Hugging Face hub).

    Raises:
        CliError: a preset is not known or has no public weights, disk or memory do not suffice, or the hub fails.
    """
    from kaito_presets.weights import DoesNotFit, Hub, HubError, check_fit, download, make_plan

    found: dict[str, Path] = {}
    try:
        hub = Hub(endpoint)
        for name in presets or DEFAULT_PRESETS:
            preset = _known(catalog, name)
            plan = make_plan(hub, _source(preset), cache)
            echo(f"{preset.name}: {plan.summary()}")
            if plan.revision == "main":
                echo("  (no pinned revision is recorded for these files: the newest are taken)")
            check_fit(plan)
            found[preset.name] = download(plan, hub, _Progress(echo))
            echo("")
    except (HubError, DoesNotFit) as error:
        raise CliError(str(error)) from None
    except OSError as error:
        raise CliError(
            f"The weights cannot be kept in {cache}: {error.filename}: {error.strerror}."
        ) from None
    except KeyboardInterrupt:
        raise CliError(
            "Interrupted. What has been downloaded is kept; the same command goes on from there."
        ) from None
    return found


def _known(catalog: Catalog, name: str) -> Preset:
    preset = catalog.preset(name)
    if preset is None:
        nearest = ", ".join(catalog.nearest_presets(name)) or "see presets/catalog"
        raise CliError(f"--preset {name}: no such preset. Nearest: {nearest}.")
    return preset


def _source(preset: Preset) -> Source:
    from kaito_presets.weights import Source

    if preset.repo is None:
        raise CliError(f"--preset {preset.name}: its weights are not published on a hub.")
    return Source(preset.repo, preset.revision or "main", gguf_repository=preset.gguf_repo)


class _Progress:
    """Prints one line that changes: file, share, speed, time left."""

    def __init__(self, echo: Callable[..., None]) -> None:
        self._echo = echo

    def __call__(self, progress: Progress) -> None:
        share = 100 * progress.done / progress.total if progress.total else 100.0
        left = progress.seconds_left
        told = "time left unknown" if left is None else f"{int(left) // 60} min {int(left) % 60:02d} s left"
        self._echo(
            f"\r  {share:5.1f} %  {progress.speed / 1e6:6.1f} MB/s  {told}  {progress.file:<40.40}", nl=False
        )
