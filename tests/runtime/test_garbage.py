"""The collector's setting, in a process of its own because it concerns the whole process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from kaito.runtime.garbage import THRESHOLDS, relax_collector

class Node:
    pass

relax_collector()
assert gc.get_freeze_count() > 0
assert gc.get_threshold()[0] == THRESHOLDS[0]
one, other = Node(), Node()
one.other, other.one = other, one
del one, other
assert gc.isenabled() and gc.collect() >= 2, "cycles are still found"
"""


def test_cycles_are_still_collected_only_later() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], check=True)
