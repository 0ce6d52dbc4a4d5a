"""A subscription's sizes and quotas as the gate asks for them: no wire, the figures of the fake ARM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from kaito.provisioner.aks.quota import QuotaGate
from kaito.provisioner.cloud import ClaimSpec
from kaito.provisioner.errors import CloudError
from kaito.provisioner.testing.quota import Quota
from kaito.provisioner.testing.sizes import Size, Sizes
from kaito.runtime.clock import Clock
from kaito.runtime.testing.virtual import EPOCH

LOCATION = "eastus"
A100, H100 = "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"
A100_FAMILY, H100_FAMILY = "standardNCADSA100v4Family", "StandardNCadsH100v5Family"


class Subscription:
    """What `QuotaGate` asks, and a count of how often.

    failing: the error that the named request raises. pools: what `list_pools` answers.
    """

    def __init__(self, clock: Clock) -> None:
        self.quota = Quota()
        self.sizes = Sizes()
        self.pools: list[dict[str, Any]] = []
        self.failing: dict[str, CloudError] = {}
        self.asked: Counter[str] = Counter()
        self.takes = 0.0
        self._clock = clock

    async def usages(self) -> list[Mapping[str, Any]]:
        await self._answer("usages")
        families = {size.family for size in self.sizes.all()}
        return list(self.quota.usages(families, self._clock.now()))

    async def resource_skus(self) -> list[Mapping[str, Any]]:
        await self._answer("resource_skus")
        return [size.in_sku_api(LOCATION) for size in self.sizes.all()]

    async def list_pools(self) -> list[Mapping[str, Any]]:
        await self._answer("list_pools")
        return list(self.pools)

    def size(self, name: str) -> Size:
        """Raises KeyError where the region has none of that name."""
        found = self.sizes.find(name)
        if found is None:
            raise KeyError(name)
        return found

    async def _answer(self, what: str) -> None:
        self.asked[what] += 1
        await self._clock.sleep(self.takes)
        if what in self.failing:
            raise self.failing[what]


class Gated:
    """A gate on such a subscription, and whom it woke."""

    def __init__(self, clock: Clock, wake: Callable[[str], None] | None = None) -> None:
        self.arm = Subscription(clock)
        self.clock = clock
        self.woken: list[str] = []
        self.gate = QuotaGate(self.arm, clock, LOCATION, wake or self.woken.append)

    async def admit(self, number: int, size: str = A100, *, spot: bool = False) -> None:
        await self.gate.admit(claim(number), size, spot=spot)

    async def refusal(self, number: int, size: str = A100, *, spot: bool = False) -> CloudError:
        """What the gate says to a claim that it does not admit."""
        try:
            await self.admit(number, size, spot=spot)
        except CloudError as error:
            return error
        raise AssertionError(f"claim {number} was admitted")

    def metric(self, name: str) -> dict[str, float]:
        """Values of `kaito_provisioner_quota_<name>` by family."""
        return {
            sample.labels["family"]: sample.value
            for family in self.gate.collect()
            for sample in family.samples
            if sample.name == f"kaito_provisioner_quota_{name}"
        }


def claim(number: int) -> ClaimSpec:
    """The claim that was made as that one of many."""
    return ClaimSpec(f"ws{number}", f"uid-{number}", EPOCH + timedelta(seconds=number), (A100,))


def pool(name: str, size: str = A100, state: str = "Creating", uid: str = "", **more: Any) -> dict[str, Any]:
    """An agent pool as ARM lists it."""
    labels = {"kaito.sh/claim-uid": uid} if uid else {}
    properties = {"vmSize": size, "count": 1, "provisioningState": state, "nodeLabels": labels, **more}
    return {"name": name, "properties": properties}
