"""A hundred of 100,000 objects: by an index over a label, and by looking at every object's labels.

python -m bench.runtime.selection [--quick]
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial

from bench.runtime.common import Row, alternate, arguments, at_most, finish, go, medians, ours
from bench.runtime.memory_api import metadata_of

OBJECTS, SELECTED = 100_000, 100
BOUND_US = 20.0
ROUNDS, SCANS = 2000, 20


def run() -> Row:
    """Microseconds of one selection."""
    from kaito.runtime.informer import Lister
    from kaito.runtime.objects import CachedObject
    from kaito.runtime.resources import CONFIGMAPS
    from kaito.runtime.store import Store

    store = Store()
    store.add_index("group", lambda obj: [obj.meta.labels["group"]])
    for number in range(OBJECTS):
        store.put(CachedObject.from_dict(metadata_of(number), CONFIGMAPS))
    lister = Lister(store, CONFIGMAPS)
    groups = OBJECTS // SELECTED

    def check(found: int) -> None:
        if found != SELECTED:
            raise SystemExit(f"{found} objects selected instead of {SELECTED}")

    started = time.perf_counter()
    for number in range(ROUNDS):
        check(len(lister.by_index("group", f"group-{number % groups}")))
    by_index = (time.perf_counter() - started) / ROUNDS
    started = time.perf_counter()
    for number in range(SCANS):
        check(len(lister.list(selector={"group": f"group-{number % groups}"})))
    by_scan = (time.perf_counter() - started) / SCANS
    return {"index_us": by_index * 1e6, "scan_us": by_scan * 1e6}


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(run()))
        return
    chosen = arguments(__doc__).parse_args()
    contenders = {
        "kaito": partial(ours, "selection", "--run"),
        "go": partial(go, "select", f"--objects={OBJECTS}"),
    }
    results = alternate(chosen.runs or (1 if chosen.quick else 3), contenders)
    own = medians(results["kaito"])
    limits = [at_most("100 of 100,000 by index", own["index_us"], BOUND_US, "us")]
    finish("selection", results, limits, {"objects": OBJECTS})


if __name__ == "__main__":
    main()
