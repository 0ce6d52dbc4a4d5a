"""pytest plugin: a test that asks for `virtual_clock` runs in a virtual event loop, all others in a real one.

`--loop-seeds N` runs each of them N times: once in asyncio's own order, then shuffled by the seeds 1 to N-1, which are
the same in every run and stand in the test's name. Needs pytest-asyncio 1.4 or later, whose hook chooses the loop per
test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

import pytest

from kaito.runtime.testing.virtual import VirtualClock, VirtualEventLoop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("kaito").addoption(
        "--loop-seeds",
        type=int,
        default=1,
        metavar="N",
        help="run each virtual-time test N times: in asyncio's order, then with the order of tasks shuffled by the "
        "seeds 1 to N-1 (default: 1)",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Chosen from the test's fixtures, so nothing else has to be declared."""
    if "virtual_clock" in getattr(item, "fixturenames", ()):
        shuffled = {f"seed={seed}": partial(VirtualEventLoop, seed) for seed in range(1, _loop_seeds(config))}
        return {"unshuffled": VirtualEventLoop, **shuffled}
    return {"real": asyncio.new_event_loop}


def _loop_seeds(config: pytest.Config) -> int:
    wanted: int = config.getoption("--loop-seeds")
    if wanted < 1:
        raise pytest.UsageError(
            f"--loop-seeds {wanted}: write how often to run each virtual-time test, at least 1"
        )
    return wanted


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock at t=0.0 whose time jumps whenever the test waits."""
    return VirtualClock()
