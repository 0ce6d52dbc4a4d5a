"""What the tests of client-go, controller-runtime, kube-rs and kopf assert, as a list that is checked.

Each module of this package lists the behaviours of one area in a tuple `BEHAVIOURS`. A behaviour is shown by
one or more tests marked `@pytest.mark.conforms("<id>")`, anywhere under `tests/`, or it says why it has no
meaning here. `test_ledger.py` fails for a behaviour with neither, and for a mark that names no behaviour.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One asserted behaviour of a reference system."""

    id: str
    """Project, package and test, e.g. `client-go workqueue TestBasic`."""
    sentence: str
    """What holds, in our own words."""
    not_applicable: str = ""
    """Why it means nothing in one event loop, or in this library; "" where a test shows it."""


def all_behaviours() -> tuple[Behaviour, ...]:
    """The behaviours of every area."""
    modules = (import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return tuple(behaviour for module in modules for behaviour in module.BEHAVIOURS)
