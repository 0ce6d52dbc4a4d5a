"""How the server's process ends when it can't serve: a code, and a sentence where people look for it."""

from __future__ import annotations

import sys
from typing import NoReturn

from kaito_presets import paths
from kaito_presets.adapters import BadAdapter
from kaito_presets.engines import BadWeights, EngineMissing

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BAD_ADAPTER = 3
EXIT_ENGINE_MISSING = 4
EXIT_BAD_WEIGHTS = 5


def fail(code: int, sentence: str) -> NoReturn:
    """Ends the process with the sentence on the log and in the container's termination message."""
    print(f"kaito-serve: {sentence}", file=sys.stderr, flush=True)
    paths.termination_log(sentence)
    sys.exit(code)


def exit_code(error: Exception) -> int:
    """Which exit code tells of this error."""
    if isinstance(error, BadAdapter):
        return EXIT_BAD_ADAPTER
    if isinstance(error, EngineMissing):
        return EXIT_ENGINE_MISSING
    if isinstance(error, BadWeights):
        return EXIT_BAD_WEIGHTS
    return EXIT_FAILED
