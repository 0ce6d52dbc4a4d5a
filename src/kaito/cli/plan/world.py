"""A world in which everything that the controller asks for comes about at once. Pure.

The controller's `decide` is asked again and again, each time shown what it wanted before, until it wants no more. It
begins in an empty world, so what it wants is all that it would ever make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from kaito.api.adapter import READY
from kaito.api.labels import GPU_RESOURCE, INSTANCE_TYPE_LABEL, NODEPOOL_LABEL
from kaito.api.views import InvalidSpec
from kaito.catalog import Catalog
from kaito.controllers.workspace import Decision, NodeProvisioner, Observed, WorkspaceConfig, decide
from kaito.controllers.workspace.decide.wanted import user_labels
from kaito.controllers.workspace.model import Answer, Object, Write
from kaito.controllers.workspace.names import headless_name
from kaito.controllers.workspace.node_facts import ExistingNodes, NodeFacts

NOBODY: Final = Answer(None, "LookupFailed", "no network is asked for a plan")
"""To what has to be looked up: what a plan can do without is missing, and the rest has been looked up before."""
ROUNDS: Final = 12
"""Passes after which a Workspace has all it wants; each child takes one or two."""
GPUS: Final = 16
"""GPUs that the nodes of this world offer: as many as any machine has."""
MOST_NODES: Final = 128
"""Nodes that are there for `byo`: more than any model is cut over."""
STAMP: Final = "2000-01-01T00:00:00Z"
CLAIMS: Final = frozenset({"Machine", "NodeClaim"})
WORKLOADS: Final = frozenset({"Deployment", "StatefulSet"})
WITH_WORKLOADS: Final = WORKLOADS | {"PodDisruptionBudget"}


class When(StrEnum):
    """What a child waits for."""

    AT_ONCE = "atOnce"
    ADAPTERS_READ = "adaptersRead"
    WEIGHTS_LOOKED_AT = "weightsLookedAt"
    NODES_READY = "nodesReady"


@dataclass(frozen=True, slots=True)
class Child:
    """Something that the controller makes, and when it does."""

    body: Object
    when: When

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """What the controller keeps of the ConfigMap that a Workspace names."""

    hash: str
    settings: Mapping[str, Mapping[str, Any]]
    fault: str = ""
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unfolded:
    """What became of a Workspace. status: its last; children: in the order they are made."""

    status: Object
    children: tuple[Child, ...]


def unfold(
    workspace: Object,
    invalid: InvalidSpec | None,
    catalog: Catalog,
    config: WorkspaceConfig,
    now: datetime,
    config_map: ConfigMap | None = None,
) -> Unfolded:
    """Lets the controller make everything for a Workspace that has a name, a namespace and a uid.

    config_map: the one that it names; None: there is none.
    """
    observed = Observed(
        workspace,
        invalid,
        existing=_existing(workspace, catalog, config),
        settings=None if config_map is None or config_map.fault else config_map.settings,
        config_hash=None if config_map is None else config_map.hash,
        config_fault="" if config_map is None else config_map.fault,
        config_faults={} if config_map is None else config_map.faults,
    )
    decision = decide(observed, catalog, config, now)
    while not observed.answers.keys() >= set(decision.needs):
        observed = replace(observed, answers={**observed.answers, **dict.fromkeys(decision.needs, NOBODY)})
        decision = decide(observed, catalog, config, now)
    children: dict[tuple[str, str], Child] = {}
    for round in range(ROUNDS):
        news = [
            write
            for write in decision.writes
            if (write.body["kind"], write.body["metadata"]["name"]) not in children
        ]
        if not news and round and decision.status in (None, observed.workspace.get("status")):
            break
        for write in news:
            child = Child(write.body, _when(write, round, looked=bool(observed.looks)))
            children[child.kind, child.name] = child
        observed = _after(observed, decision, news)
        decision = decide(observed, catalog, config, now)
    return Unfolded(_after(observed, decision, []).workspace.get("status") or {}, tuple(children.values()))


def _when(write: Write, round: int, *, looked: bool) -> When:
    if write.resource.kind in WITH_WORKLOADS:
        return When.NODES_READY
    if not round:
        return When.AT_ONCE
    return When.WEIGHTS_LOOKED_AT if looked else When.ADAPTERS_READ


def _existing(workspace: Object, catalog: Catalog, config: WorkspaceConfig) -> ExistingNodes:
    """Nodes for `byo`: as many as the Workspace may want, with its labels, of the size that it names. Otherwise none is
    there."""
    if config.node_provisioner is not NodeProvisioner.BYO:
        return ExistingNodes()
    resource = workspace.get("resource")
    if not isinstance(resource, Mapping):
        return ExistingNodes()
    labels = user_labels(dict(resource))
    asked = resource.get("instanceType")
    sku = catalog.sku(asked) if isinstance(asked, str) else None
    if sku is not None:
        labels[INSTANCE_TYPE_LABEL] = sku.name
    gpus = sku.gpus if sku is not None else GPUS
    return ExistingNodes(
        NodeFacts(f"node-{number}", labels, True, False, False, (), gpus)
        for number in range(max(int(resource.get("count") or 1), MOST_NODES))
    )


def _after(observed: Observed, decision: Decision, writes: list[Write]) -> Observed:
    """The world after the controller's writes: everything is there, ready, and says so."""
    workspace = dict(observed.workspace)
    if decision.status is not None:
        workspace["status"] = decision.status
    changes = _Changes(observed)
    for write in writes:
        changes.take(write.body, str(workspace["metadata"]["name"]))
    return replace(
        observed,
        workspace=workspace,
        adapters=changes.adapters,
        claims=tuple(changes.claims),
        nodes=changes.nodes,
        **changes.single,
    )


@dataclass
class _Changes:
    """The new contents of an `Observed`."""

    observed: Observed
    adapters: dict[str, Object] = field(init=False)
    claims: list[Object] = field(init=False)
    nodes: dict[str, Object] = field(init=False)
    single: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.adapters = dict(self.observed.adapters)
        self.claims = list(self.observed.claims)
        self.nodes = dict(self.observed.nodes)

    def take(self, body: Object, workspace: str) -> None:
        live = _live(body)
        match live["kind"]:
            case "Adapter":
                live["status"] = {"conditions": [_true(READY)]}
                self.adapters[live["metadata"]["name"]] = live
            case kind if kind in CLAIMS:
                self._claim(live)
            case "NodePool":
                self.single["pool"] = live
                for claim in _claims_of(live):
                    self._claim(claim)
            case "Service":
                live["spec"] = {**live["spec"], "clusterIP": "10.0.0.1"}
                headless = live["metadata"]["name"] == headless_name(workspace)
                self.single["headless" if headless else "service"] = live
            case "Deployment":
                self.single["deployment"] = live
            case "StatefulSet":
                self.single["stateful_set"] = live
            case "PodDisruptionBudget":
                self.single["budget"] = live
            case "Pod":  # no image and no volume is looked at for a plan
                self.single["looks"] = (*self.observed.looks, {**live, "status": {"phase": "Failed"}})

    def _claim(self, claim: Object) -> None:
        name = claim["metadata"]["name"]
        claim["status"] = {"nodeName": name, "conditions": [_true("Ready")]}
        self.claims.append(claim)
        size = instance_types(claim)[:1]
        labels = {**claim["metadata"].get("labels", {}), **({INSTANCE_TYPE_LABEL: size[0]} if size else {})}
        self.nodes[name] = {
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {},
            "status": {"conditions": [_true("Ready")], "allocatable": {GPU_RESOURCE: str(GPUS)}},
        }


def _live(body: Object) -> Object:
    """The object as the API server would have it."""
    metadata = {
        **body["metadata"],
        "uid": f"uid-{body['kind']}-{body['metadata']['name']}",
        "generation": 1,
        "creationTimestamp": STAMP,
    }
    return {**body, "metadata": metadata}


def _claims_of(pool: Object) -> Iterator[Object]:
    """The NodeClaims that a Karpenter makes from a NodePool."""
    template, meta = pool["spec"]["template"], pool["metadata"]
    labels = {**(template.get("metadata") or {}).get("labels", {}), NODEPOOL_LABEL: meta["name"]}
    owner = {"apiVersion": pool["apiVersion"], "kind": "NodePool", "name": meta["name"], "uid": meta["uid"]}
    for number in range(int(pool["spec"].get("replicas") or 0)):
        yield _live(
            {
                "apiVersion": "karpenter.sh/v1",
                "kind": "NodeClaim",
                "metadata": {
                    "name": f"{meta['name']}-{number}",
                    "labels": labels,
                    "ownerReferences": [owner],
                },
                "spec": template["spec"],
            }
        )


def instance_types(claim: Object) -> list[str]:
    """The machine sizes that a Machine, a NodeClaim or a NodePool's template asks for."""
    for requirement in (claim.get("spec") or {}).get("requirements") or ():
        if requirement.get("key") == INSTANCE_TYPE_LABEL:
            return [str(value) for value in requirement.get("values") or ()]
    return []


def _true(type: str) -> Object:
    return {"type": type, "status": "True", "reason": type, "message": "", "lastTransitionTime": STAMP}
