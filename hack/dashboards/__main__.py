"""`python -m hack.dashboards [--check]`."""

from __future__ import annotations

import sys

from hack.dashboards.boards import stale, write
from hack.generated import main

sys.exit(main(stale, write))
