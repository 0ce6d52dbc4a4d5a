"""What an operator looks at before it starts, and whenever something hints at it: definitions and rights.

/readyz fails while something is wrong, with the reason in the log; `kaito_operator_check_failing` shows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kaito.api.crds import CUSTOM_RESOURCES
from kaito.api.resources import MACHINES, NODECLAIMS, NODEPOOLS
from kaito.cli.operator.clouds import Cloud
from kaito.cli.operator.rights import KINDS
from kaito.cli.rbac.roles import operator_rights, provisioner_rights
from kaito.controllers.workspace import NodeProvisioner
from kaito.runtime.access import RightsCheck
from kaito.runtime.client import Client
from kaito.runtime.definitions import DefinitionsCheck, Wanted
from kaito.runtime.manager import Manager
from kaito.runtime.resources import Resource
from kaito.runtime.rest import RequestRecord
from kaito.runtime.rights import Right

_UNKNOWN_FIELD: Final = 'unknown field "'
"""How API servers begin the warning about a field that no schema names."""
_APPLY: Final = {
    "kaito.sh": "run `kubectl apply --server-side -k manifests/crd` of this version",
    "karpenter.sh": "install Karpenter, or run `kubectl apply --server-side -k manifests/crd-karpenter`",
}
_STATIC_POOLS: Final = (
    "install or upgrade to a Karpenter whose NodePools have spec.replicas (static capacity), with its CRDs, and turn "
    "on its feature gate StaticCapacity (docs/karpenter.md)"
)
_REPLICAS: Final[Mapping[str, Any]] = {"properties": {"spec": {"properties": {"replicas": {}}}}}
"""All that is wanted of a Karpenter's own NodePool."""
_APPLY_ROLES: Final = (
    "Apply this version's roles again with the overlay in use, `kubectl apply --server-side -k …`; "
    "they are those of its own NODE_PROVISIONER, and of no other."
)


def check_operator(
    manager: Manager,
    provisioner: NodeProvisioner,
    namespace: str,
    *,
    webhook: bool = False,
    cloud: Cloud | None = None,
) -> None:
    """What `kaito operator` needs; call it before anything takes a client from the manager.

    namespace: its own. webhook: whether it keeps the certificate of a webhook. cloud: what makes machines in it.
    """
    election = manager.options.leader_election is not None
    rights = operator_rights(
        provisioner,
        leader_election=election,
        webhook=webhook,
        cloud=None if cloud is None else cloud.name,
    )
    claims = [each for each in (provisioner.claims, provisioner.pools) if each is not None]
    served = () if cloud is None else cloud.claims
    add_checks(manager, rights, dict.fromkeys((*KINDS, *claims, *served)), namespace)


def check_provisioner(manager: Manager, cloud: Cloud, namespace: str) -> None:
    """What `kaito provisioner` needs; call it before anything takes a client from the manager."""
    election = manager.options.leader_election is not None
    add_checks(manager, provisioner_rights(cloud.name, leader_election=election), cloud.claims, namespace)


def add_checks(
    manager: Manager, rights: Iterable[Right], resources: Iterable[Resource], namespace: str
) -> Checks:
    """Adds the checks to a manager: that these rights are there, and that these resources are served."""
    wanted = [_wanted(resource) for resource in resources]
    definitions = DefinitionsCheck(manager.client, manager.clock, wanted, on_recovery=manager.enqueue_all)
    access = RightsCheck(
        manager.client,
        manager.clock,
        rights,
        namespace,
        remedy=_APPLY_ROLES,
        on_recovery=manager.enqueue_all,
    )
    checks = Checks(definitions, access)
    checks.listen(manager.client)
    manager.add(definitions)
    manager.add(access)
    manager.add(AfterOutage(manager))
    manager.add_ready_check(definitions.name, definitions.check)
    manager.add_ready_check(access.name, access.check)
    manager.metrics.add(checks)
    return checks


def _wanted(resource: Resource) -> Wanted:
    remedy = _APPLY[resource.group]
    if resource == NODEPOOLS:
        return Wanted(resource, _STATIC_POOLS, lambda: _REPLICAS, strict=True)
    if resource in (MACHINES, NODECLAIMS):  # Karpenter's own may differ from ours
        return Wanted(resource, remedy)
    crd = next(each for each in CUSTOM_RESOURCES if each.name == resource.name)

    def schema() -> Mapping[str, Any]:
        versions: list[dict[str, Any]] = crd.manifest()["spec"]["versions"]
        found: Mapping[str, Any] = next(
            each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == resource.version
        )
        return found

    return Wanted(resource, remedy, schema)


class AfterOutage:
    """Lets everything be looked at again when the caches follow the API server again.

    What failed while it was away is tried again later and later, and would otherwise wait for up to a quarter of an
    hour when it is back.
    """

    name = "after-outage"
    needs_leader_election = False
    LOOK: Final = 5.0
    """Seconds between two looks at the caches; nothing is sent."""
    LONG: Final = 10.0
    """Seconds of outage after which that is worth it."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def run(self) -> None:
        """Until cancelled."""
        away = False
        while True:
            await self._manager.clock.sleep(self.LOOK)
            longest = max((each.failing_for for each in self._manager.cache.informers), default=0.0)
            if longest > self.LONG:
                away = True
            elif away and longest == 0:
                away = False
                self._manager.enqueue_all()


class Checks:
    """Metrics of the checks, and what leads them to look again."""

    def __init__(self, definitions: DefinitionsCheck, access: RightsCheck) -> None:
        self._definitions = definitions
        self._access = access
        self.fields_dropped = 0
        """Warnings about fields that the server does not know and dropped."""

    def listen(self, client: Client) -> None:
        """Hears of the refusals and warnings that the client and all that are derived from it get."""
        client.observer = _each(client.observer, self._access.observe, self._definitions.observe)
        tell = client.on_warning

        def on_warning(text: str) -> None:
            if text.startswith(_UNKNOWN_FIELD):
                self.fields_dropped += 1
                self._definitions.suspect()
            tell(text)

        client.on_warning = on_warning

    def collect(self) -> Iterator[Metric]:
        """The families for a scrape."""
        failing = GaugeMetricFamily(
            "kaito_operator_check_failing",
            "Whether a check of what the operator needs from its cluster fails (1) or passes (0).",
            labels=["check"],
        )
        failing.add_metric([self._definitions.name], bool(self._definitions.problems))
        failing.add_metric([self._access.name], bool(self._access.missing))
        yield failing
        yield GaugeMetricFamily(
            "kaito_operator_missing_rights",
            "Verbs on resources that the operator needs and may not use.",
            value=len(self._access.missing),
        )
        yield CounterMetricFamily(
            "kaito_operator_fields_dropped",
            "Fields that the API server did not know and dropped from what the operator wrote.",
            value=self.fields_dropped,
        )


def _each(
    first: Callable[[RequestRecord], None] | None, *others: Callable[[RequestRecord], None]
) -> Callable[[RequestRecord], None]:
    def observe(record: RequestRecord) -> None:
        if first is not None:
            first(record)
        for other in others:
            other(record)

    return observe
