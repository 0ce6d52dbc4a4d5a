"""Which images there are, and the names under which Workspaces ask for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hack.images.engine import BuildError
from hack.images.wheelhouse import ROOT
from kaito import __version__
from kaito.catalog import load_catalog
from kaito.controllers.workspace import WorkspaceConfig

DEMO_WEIGHTS = ROOT / "presets" / "demo" / "weights" / "tiny-phi-3"
DEFAULT = ("operator", "puller", "runtime-mistralrs", "phi-3-mini-4k-instruct")
"""What `make images` builds; the last, with the demo weights, is what the examples ask for."""


@dataclass(frozen=True)
class Recipe:
    """How one image is made."""

    image: str
    """Name behind the registry."""
    tag: str
    folder: str
    """Its folder in images/."""
    requirement: str | None = None
    """What is installed with all that it needs, as a path with extras; None: kaito-presets alone."""
    preset: str = ""
    weights: Path | None = None

    def name(self, registry: str) -> str:
        return f"{registry}/{self.image}:{self.tag}"

    def weights_name(self) -> str:
        """What the weights are, for the label: the stand-in's own name, or the preset's."""
        assert self.weights is not None
        marker = self.weights / "kaito-stand-in.json"
        if not marker.is_file():
            return self.preset
        return f"stand-in {json.loads(marker.read_text(encoding='utf-8'))['stand_in']}"


def recipe(wanted: str, tag: str, weights: Path | None) -> Recipe:
    """The recipe of `operator`, `puller`, `runtime-mistralrs` or a preset's name.

    `tag` is for the operator and the runtime. Pods ask for the puller and for presets by tags that the operator and
    the catalogue decide, so these get those. `weights` replaces a preset's weights; without any, Phi-3 presets get
    the demo's.

    Raises:
        BuildError: there is no such image, or a preset has no weights.
    """
    match wanted:
        case "operator":
            return Recipe("operator", tag, "operator", ".[azure,webhook]")
        case "puller":
            return Recipe("puller", WorkspaceConfig().puller_tag, "puller")
        case "runtime-mistralrs":
            return Recipe("runtime-mistralrs", tag, "runtime-mistralrs", "./presets[mistralrs]")
    preset = load_catalog().preset(wanted)
    if preset is None:
        raise BuildError(
            f"{wanted} is no image: write operator, puller, runtime-mistralrs or the name of a preset."
        )
    if weights is None and preset.architecture == "Phi3ForCausalLM":
        weights = DEMO_WEIGHTS
    if weights is None:
        raise BuildError(
            f"{wanted}: no weights. Name their directory: WEIGHTS=DIR (a Hugging Face directory)."
        )
    if not (weights / "config.json").is_file() and not list(weights.glob("*.gguf")):
        raise BuildError(
            f"{weights}: expected a Hugging Face directory (config.json) or one with a .gguf file."
        )
    return Recipe(f"kaito-{preset.name}", preset.tag, "preset", preset=preset.name, weights=weights)


def default_tag() -> str:
    """The version, which is what the manifests name."""
    return __version__
