"""Fixtures of the schema tests."""

from __future__ import annotations

import pytest

from kaito.embedded.apiserver.kinds.registry import builtin_strategies
from kaito.embedded.apiserver.strategy import KindStrategy


@pytest.fixture(name="kinds")
def _kinds() -> dict[str, KindStrategy]:
    """Every builtin kind by `plural` or `plural.group`; a fresh pool of addresses for each test."""
    return {kind.resource.name: kind for kind in builtin_strategies()}
