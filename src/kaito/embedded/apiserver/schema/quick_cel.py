"""Loads the CEL engine without its command line.

`import cel` also imports the package's interactive shell with two terminal toolkits, which takes longer than the start
of the whole API server. Importing this module first puts an empty module in the shell's place.
"""

from __future__ import annotations

import sys
from types import ModuleType

if "cel" not in sys.modules:
    sys.modules["cel.cli"] = ModuleType("cel.cli")
    try:
        import cel  # noqa: F401 - loaded here for its side effect: later imports find it
    finally:
        del sys.modules["cel.cli"]
