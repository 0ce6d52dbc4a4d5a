"""Which images the local mode can run, and what they hold.

There is no container engine: an image is an entry in a table, with the command lines it knows, its environment and
folders that stand for its content. KAITO's own images run from the installed `kaito_presets` package.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kaito.cli.errors import CliError

if TYPE_CHECKING:
    from kaito.catalog import Catalog
    from kaito.catalog.models import Preset
    from kaito.embedded.kubelet.images import ImageTable

OCI_PREFIX = "oci:"


def parse_image_map(options: Iterable[str]) -> dict[str, Path]:
    """`REF=oci:PATH` options as a mapping from reference to the folder of an OCI image layout.

    Raises:
        CliError: an option has another form, or there is no image layout at its path.
    """
    mapped: dict[str, Path] = {}
    for option in options:
        reference, equals, target = option.partition("=")
        if not equals or not reference or not target.startswith(OCI_PREFIX):
            raise CliError(
                f"--image {option}: write REF=oci:PATH, for example registry.example.com/a:1=oci:./layout"
            )
        path = Path(target[len(OCI_PREFIX) :]).expanduser().resolve()
        if not (path / "oci-layout").is_file() or not (path / "index.json").is_file():
            raise CliError(
                f"--image {option}: {path} is not an OCI image layout (it has no oci-layout and index.json)."
            )
        mapped[reference] = path
    return mapped


def image_map_options(mapped: Mapping[str, Path]) -> list[str]:
    """The mapping as arguments for a child process."""
    return [f"--image={reference}={OCI_PREFIX}{path}" for reference, path in mapped.items()]


def image_map_json(mapped: Mapping[str, Path]) -> str:
    """The mapping as the puller in a pod reads it from its environment."""
    return json.dumps(
        {reference: f"{OCI_PREFIX}{path}" for reference, path in mapped.items()}, sort_keys=True
    )


WEIGHTS_ADVICE = "leave presetOptions.image out, and a model's weights are downloaded"
"""For whoever names an image with weights in it."""


def require_presets() -> None:
    """Raises CliError when the package that runs in the pods is not installed."""
    if importlib.util.find_spec("kaito_presets") is None:
        raise CliError(
            "This installation lacks what the local mode needs (kaito-presets): run hack/venv.sh local."
        )


def held_presets(catalog: Catalog, weights: Collection[str]) -> list[str]:
    """The presets whose weights need no download: their folders are here, or stand-in weights answer for them."""
    from kaito_presets.demo import PRESET

    return [
        preset.name
        for preset in catalog.presets
        if preset.name in weights or preset.name == PRESET or (not weights and answered_by_stand_in(preset))
    ]


def image_table(
    catalog: Catalog, images: Mapping[str, Path], weights: Mapping[str, Path], cache: Path | None = None
) -> ImageTable:
    """The images that the local mode's node can run: preset images, runtimes, the puller and curl.

    `images` maps adapter images to OCI layouts. `weights` maps presets to folders with real weights; without any,
    stand-in weights answer for the Phi-3 family. `cache` is the folder that all pods download weights into.
    """
    from kaito.embedded.kubelet.images import ImageEntry, ImageTable
    from kaito_presets.demo import PRESET, WEIGHTS_MOUNT, stand_in_contents

    serve = {"kaito-serve": (sys.executable, "-m", "kaito_presets.server.main")}
    pull = {
        "kaito-pull": (sys.executable, "-m", "kaito_presets.puller"),
        "kaito-weights": (sys.executable, "-m", "kaito_presets.weights.pod"),
    }
    engine = {"KAITO_ENGINE": "mistralrs"}
    entries = []
    for name in held_presets(catalog, weights):
        match = f"*/kaito-{name}"
        if name in weights:
            contents = {WEIGHTS_MOUNT: str(weights[name])}
            entries.append(ImageEntry(match, serve, "kaito-serve", engine, contents))
        else:
            contents = {path: str(folder) for path, folder in stand_in_contents(name).items()}
            stand_in = "" if name == PRESET else PRESET
            entries.append(ImageEntry(match, serve, "kaito-serve", engine, contents, stand_in))
    entries.append(ImageEntry("*/runtime-*", serve, "kaito-serve", engine))
    fetching = {"KAITO_IMAGE_MAP": image_map_json(images)}
    if cache is not None:
        fetching["KAITO_WEIGHTS_CACHE"] = str(cache.resolve())
    entries.append(ImageEntry("*/puller", pull, "kaito-pull", fetching))
    return ImageTable.default(*entries, advice=WEIGHTS_ADVICE)


def answered_by_stand_in(preset: Preset) -> bool:
    """Whether the tiny Phi-3 may stand in for this preset: same family, same architecture."""
    return preset.name.startswith("phi-3") and preset.architecture == "Phi3ForCausalLM"
