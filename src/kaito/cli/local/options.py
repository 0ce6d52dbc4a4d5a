"""What can be chosen of a local mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SYSTEM_NODE = "kaito-local"


@dataclass(frozen=True)
class LocalOptions:
    """What a local mode runs.

    `images` maps image references to OCI image layouts. `weights` maps presets to folders with real weights; without
    any, stand-in weights answer for the Phi-3 family. `node_provisioner` is the operator's flag. `operator` False
    leaves out node and operator. `crds` are CustomResourceDefinitions to be served beside KAITO's own.
    """

    images: Mapping[str, Path] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    node_provisioner: str = "machine"
    operator: bool = True
    crds: Sequence[Mapping[str, Any]] = ()
