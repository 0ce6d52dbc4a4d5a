"""`python -m hack.argocd [--check]`."""

from __future__ import annotations

import sys

from hack.argocd.files import stale, write
from hack.generated import main

sys.exit(main(stale, write))
