"""How much memory this machine has."""

from __future__ import annotations

import os

GIB = 2**30


def memory_gib() -> float | None:
    """All of it, in GiB; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (ValueError, OSError):
        return None
