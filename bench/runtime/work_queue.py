"""The work queue alone: add, get and done, with its metrics.

    python -m bench.runtime.work_queue [--quick]

One key again and again, and a million distinct keys (all added, then all taken). In Go: the priority queue, and the
classic one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial

from bench.runtime.common import (
    Row,
    alternate,
    arguments,
    finish,
    go,
    medians,
    ours,
    ratio_at_most,
)

SINGLE, MANY = 200_000, 1_000_000
QUICK = 10
"""By how much --quick has fewer."""
SLOWER = 3.0
"""Times of Go's priority queue."""


async def run(single: int, many: int) -> Row:
    """Microseconds per add+get+done."""
    from kaito.runtime.clock import LoopClock
    from kaito.runtime.metrics import QueueMetrics
    from kaito.runtime.resources import ObjectKey
    from kaito.runtime.workqueue import WorkQueue

    async def take(queue: WorkQueue[ObjectKey], rounds: int, key: ObjectKey | None) -> None:
        for _ in range(rounds):
            if key is not None:
                queue.add(key)
            item = await queue.get()
            if item is None:
                raise SystemExit("the queue ended early")
            queue.done(item.key)

    def checked(metrics: QueueMetrics, rounds: int) -> None:
        if metrics.adds != rounds or metrics.work_duration.count != rounds:
            raise SystemExit(f"the queue's metrics count {metrics.adds} adds instead of {rounds}")

    metrics = QueueMetrics()
    queue: WorkQueue[ObjectKey] = WorkQueue(LoopClock(), metrics=metrics)
    started = time.perf_counter()
    await take(queue, single, ObjectKey("team-0", "object"))
    one = (time.perf_counter() - started) / single
    checked(metrics, single)

    keys = [ObjectKey(f"team-{number % 20}", f"object-{number:07d}") for number in range(many)]
    metrics = QueueMetrics()
    queue = WorkQueue(LoopClock(), metrics=metrics)
    started = time.perf_counter()
    for key in keys:
        queue.add(key)
    await take(queue, many, None)
    each = (time.perf_counter() - started) / many
    checked(metrics, many)
    return {"single_us": one * 1e6, "many_us": each * 1e6}


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(asyncio.run(run(*map(int, sys.argv[2:])))))
        return
    chosen = arguments(__doc__).parse_args()
    single, many = (SINGLE // QUICK, MANY // QUICK) if chosen.quick else (SINGLE, MANY)
    contenders = {
        "kaito": partial(ours, "work_queue", "--run", str(single), str(many)),
        "go": partial(go, "queue", f"--single={single}", f"--many={many}"),
    }
    results = alternate(chosen.runs or (3 if chosen.quick else 5), contenders)
    own, peer = (medians(results[name]) for name in ("kaito", "go"))
    limits = [
        ratio_at_most(f"add+get+done, {words} (us)", own[f"{name}_us"], peer[f"priority_{name}_us"], SLOWER)
        for name, words in (("single", "one key"), ("many", f"{many:,} keys"))
    ]
    finish("work_queue", results, limits, {"single": single, "many": many})


if __name__ == "__main__":
    main()
