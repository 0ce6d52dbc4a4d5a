"""Rules that hold for every test: nothing leaks.

A test that leaves an asyncio task running fails; every warning is an error (see pyproject.toml), which
catches unclosed aiohttp sessions and coroutines that nobody awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest


@pytest.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fails a test whose tasks are still running one second after it ended."""
    before = asyncio.all_tasks()
    yield
    leaked = {task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()}
    if leaked:
        _, leaked = await asyncio.wait(leaked, timeout=1)
    assert not leaked, f"tasks still running after the test: {leaked}"
