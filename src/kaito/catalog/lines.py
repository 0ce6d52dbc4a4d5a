"""Which of our runtime images runs a model: by runtime, and by what the GPUs can execute.

A CUDA library holds machine code for the GPU generations that it was built for. Newer torch has left the oldest out, so
the transformers runtime comes in two lines; each is an image `runtime-<name>`, made from its own constraints in
images/. What their wheels hold is recorded in images/torch-wheels.json, and tests hold this module to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kaito.catalog.models import Preset, Runtime


@dataclass(frozen=True, slots=True)
class Line:
    """One runtime image."""

    name: str
    """What follows `runtime-` in its name, and the tag of images that hold a preset's weights too."""
    runtime: Runtime
    torch: str | None
    """Version of torch in it; None: none is."""
    least_capability: float
    """Compute capability of the oldest GPUs that it has code for; 0: it needs no GPU."""


LINES: Final = (
    Line("vllm", "vllm", "2.13.0", 7.5),
    Line("transformers", "transformers", "2.13.0", 7.5),
    Line("transformers-torch2.10", "transformers", "2.10.0", 7.0),
    Line("mistralrs", "mistralrs", None, 0),
)
"""Newest first. torch 2.10.0 is the last whose wheel on PyPI has code for sm_70 (V100)."""


def line_for(runtime: Runtime, capability: float | None) -> Line | None:
    """The newest line that has code for such GPUs; None where no line has.

    A capability that is not known counts as that of a GPU of today.
    """
    fitting = (line for line in LINES if line.runtime == runtime)
    return next((line for line in fitting if capability is None or capability >= line.least_capability), None)


def first_runtime(preset: Preset, capability: float | None) -> Runtime:
    """The preset's first runtime that has code for such GPUs; where none has, its first."""
    fitting = (runtime for runtime in preset.runtimes if line_for(runtime, capability) is not None)
    return next(fitting, preset.runtime)


def least_capability(runtime: Runtime) -> float:
    """Compute capability of the oldest GPUs that the runtime works on."""
    return min(line.least_capability for line in LINES if line.runtime == runtime)
