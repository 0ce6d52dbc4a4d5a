"""`python -m hack.alerts [--check]`."""

from __future__ import annotations

import sys

from hack.alerts.files import stale, write
from hack.generated import main

sys.exit(main(stale, write))
