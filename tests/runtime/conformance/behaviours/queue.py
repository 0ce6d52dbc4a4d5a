"""The work queue: client-go's `util/workqueue` and controller-runtime's priority queue."""

from __future__ import annotations

from runtime.conformance.behaviours import Behaviour

BEHAVIOURS: tuple[Behaviour, ...] = ()
