"""pytest plugin: a test that asks for `virtual_clock` runs in a virtual event loop, all others in a real one.

Needs pytest-asyncio 1.4 or later, whose hook chooses the loop per test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from kaito.runtime.testing.virtual import VirtualClock, VirtualEventLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Chosen from the test's fixtures, so nothing else has to be declared."""
    if "virtual_clock" in getattr(item, "fixturenames", ()):
        return {"virtual": VirtualEventLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock at t=0.0 whose time jumps whenever the test waits."""
    return VirtualClock()
