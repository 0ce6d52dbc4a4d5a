"""What is noticed about the managed cluster besides whether it runs."""

from __future__ import annotations

import logging

import pytest

from kaito.provisioner.aks.arm import Answer
from kaito.provisioner.aks.cluster import FRESH, ClusterGuard
from kaito.runtime.testing.virtual import VirtualClock


class Cluster:
    """A cluster of a region, as Azure spells it."""

    def __init__(self, location: str) -> None:
        self.body = {"name": "mine", "location": location, "properties": {"provisioningState": "Succeeded"}}

    async def get_cluster(self) -> Answer:
        return Answer(self.body, None)


@pytest.mark.parametrize(("location", "lines"), [("eastus", 0), ("East US", 0), ("westus2", 1)])
async def test_a_wrong_location_is_told_once(
    virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture, location: str, lines: int
) -> None:
    guard = ClusterGuard(Cluster(location), virtual_clock, "eastus")
    with caplog.at_level(logging.WARNING):
        await guard.require_running(own_operations=False)
        await virtual_clock.sleep(FRESH)
        await guard.require_running(own_operations=False)
    assert caplog.text.count("correct LOCATION") == lines
