"""Which images there are, and the names under which Workspaces ask for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hack.images.engine import BuildError
from hack.images.wheelhouse import ROOT
from kaito import __version__
from kaito.catalog import Preset, load_catalog
from kaito.catalog.lines import LINES, Line, line_for
from kaito.controllers.workspace import WorkspaceConfig

DEMO_WEIGHTS = ROOT / "presets" / "demo" / "weights" / "tiny-phi-3"
DEFAULT = ("operator", "puller", "runtime-mistralrs", "phi-3-mini-4k-instruct")
"""What `make images` builds; the last, with the demo weights, is what the examples ask for."""
CONSTRAINTS = ROOT / "constraints.txt"


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
    constraints: Path = CONSTRAINTS
    """The versions of it."""
    line: Line | None = None
    """Of a runtime, and of a preset: the runtime below its weights."""
    preset: str = ""
    weights: Path | None = None
    more_tags: tuple[str, ...] = ()
    """Under which the same image is found too."""

    def name(self, registry: str) -> str:
        return f"{registry}/{self.image}:{self.tag}"

    def names(self, registry: str) -> list[str]:
        """All its names, the first first."""
        return [f"{registry}/{self.image}:{tag}" for tag in (self.tag, *self.more_tags)]

    def weights_name(self) -> str:
        """What the weights are, for the label: the stand-in's own name, or the preset's."""
        assert self.weights is not None
        return f"stand-in {_stands_in(self.weights)}" if _stands_in(self.weights) else self.preset


def recipe(wanted: str, tag: str, weights: Path | None, runtime: str = "") -> Recipe:
    """The recipe of `operator`, `puller`, `runtime-<line>` or a preset's name.

    `tag` is for the operator. Pods ask for the others by tags that the operator and the catalogue decide, so these get
    those. `weights` replaces a preset's weights; without any, Phi-3 presets get the demo's. `runtime` is the line below
    a preset's weights: by default mistralrs for the demo's, else the newest of the preset's first runtime.

    Raises:
        BuildError: there is no such image, or a preset has no weights.
    """
    match wanted:
        case "operator":
            return Recipe("operator", tag, "operator", ".[azure,webhook]")
        case "puller":
            return Recipe("puller", WorkspaceConfig().puller_tag, "puller")
    for line in LINES:
        if wanted == f"runtime-{line.name}":
            return _runtime(line)
    preset = load_catalog().preset(wanted)
    if preset is None:
        raise BuildError(f"{wanted} is no image: write {', '.join(_images())} or the name of a preset.")
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
    return _preset(preset, weights, runtime)


def _images() -> list[str]:
    folders = (ROOT / "images" / f"runtime-{line.runtime}" for line in LINES)
    there = [line for line, folder in zip(LINES, folders, strict=True) if folder.is_dir()]
    return ["operator", "puller", *(f"runtime-{line.name}" for line in there)]


def _runtime(line: Line) -> Recipe:
    folder = f"runtime-{line.runtime}"
    path = ROOT / "images" / folder
    if not path.is_dir():
        raise BuildError(f"runtime-{line.name} is no image: write {', '.join(_images())}.")
    own = path / f"constraints{line.name.removeprefix(line.runtime)}.txt"
    return Recipe(
        f"runtime-{line.name}",
        WorkspaceConfig().runtime_tag,
        folder,
        f"./presets[{line.runtime}]",
        own if own.is_file() else CONSTRAINTS,
        line,
    )


def _preset(preset: Preset, weights: Path, runtime: str) -> Recipe:
    stand_in = _stands_in(weights)
    lines = {line.name: line for line in LINES}
    if runtime and runtime not in lines:
        raise BuildError(f"RUNTIME={runtime}: write {', '.join(lines)}.")
    line = lines[runtime or "mistralrs"] if runtime or stand_in else line_for(preset.runtime, None)
    assert line is not None  # each runtime has a line
    # A stand-in answers in place of the preset whatever GPUs a pod is for.
    others = [name for name in lines if stand_in and name != line.name]
    return Recipe(
        f"kaito-{preset.name}",
        f"{preset.tag}-{line.name}",
        "preset",
        line=line,
        preset=preset.name,
        weights=weights,
        more_tags=tuple(f"{preset.tag}-{name}" for name in others),
    )


def _stands_in(weights: Path) -> str:
    """Name of the small model whose weights they are; "" for real ones."""
    marker = weights / "kaito-stand-in.json"
    return str(json.loads(marker.read_text(encoding="utf-8"))["stand_in"]) if marker.is_file() else ""


def default_tag() -> str:
    """The version, which is what the manifests name."""
    return __version__
