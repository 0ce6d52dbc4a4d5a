"""Where the demo weights lie: a tiny Phi-3 that knows capitals and an adapter that makes it talk like a pirate.

They are made by `presets/demo/train.py`. In an installed wheel they lie beside this file, in a source tree under
`presets/demo/weights`. They stand in for real weights in the local mode; the marker file in the weights
directory makes the server say so in every answer it signs.
"""

from __future__ import annotations

from pathlib import Path

#: Directory inside an inference container where the weights of its preset are.
WEIGHTS_MOUNT = "/workspace/weights"
#: The preset that these weights are; for every other preset they are a stand-in.
PRESET = "tiny-phi-3"


def _root() -> Path:
    here = Path(__file__).resolve()
    candidates = (here.parent / "weights", here.parents[3] / "demo" / "weights")
    for candidate in candidates:
        if (candidate / PRESET / "config.json").is_file():
            return candidate
    looked = " and ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(
        f"The demo weights are missing (looked in {looked}); install kaito-presets again, "
        "or make them with presets/demo/train.py."
    )


def weights_path() -> Path:
    """The Hugging Face directory of the tiny model. Raises FileNotFoundError when the package data is missing."""
    return _root() / PRESET


def adapter_path() -> Path:
    """The PEFT LoRA directory (adapter_config.json, adapter_model.safetensors)."""
    return _root() / "adapter"


def adapter_oci_path() -> Path:
    """The same adapter as an OCI image layout, its files under /data of the image."""
    return _root() / "adapter-oci"


def stand_in_contents(preset: str) -> dict[str, Path]:
    """What an inference container of `preset` finds where: {container path: directory on this machine}.

    The same for every preset: the marker in the directory names what the weights are, and the server compares
    it with the preset that it was told to serve.
    """
    del preset
    return {WEIGHTS_MOUNT: weights_path()}
