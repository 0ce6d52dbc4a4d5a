"""Two Kubernetes API servers behind one interface, for tests that must hold on both.

`start` gives one backend for as long as its block lasts; `Pool` lends them to the tests of a session, the embedded
one anew for each, the real one shared. KAITO_TEST_BACKEND chooses: `embedded` (the default) or `real`.
"""

from __future__ import annotations

from kaito.testing.backends.base import (
    API,
    EVERYWHERE,
    PROCESSES,
    READY_NODES,
    READY_PODS,
    WORKLOADS,
    Backend,
    BackendError,
    simulated_node,
)
from kaito.testing.backends.pool import VARIABLE, Pool, chosen_name, start
from kaito.testing.backends.waiting import make_namespace

__all__ = [
    "API",
    "EVERYWHERE",
    "PROCESSES",
    "READY_NODES",
    "READY_PODS",
    "VARIABLE",
    "WORKLOADS",
    "Backend",
    "BackendError",
    "Pool",
    "chosen_name",
    "make_namespace",
    "simulated_node",
    "start",
]
