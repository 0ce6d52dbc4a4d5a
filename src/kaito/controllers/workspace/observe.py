"""Step one: the world of one Workspace, read from caches. Nothing here goes to the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kaito.api.labels import (
    KARPENTER_WORKSPACE_LABEL,
    KARPENTER_WORKSPACE_NAMESPACE_LABEL,
    WEIGHTS_CHECK_LABEL,
    WORKSPACE_LABEL,
    WORKSPACE_NAMESPACE_LABEL,
    without_reserved,
)
from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.api.views import InvalidSpec, parse
from kaito.api.workspace import Workspace, labels_of
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.pool import named_by_template
from kaito.controllers.workspace.model import Answer, Need, Object, Observed
from kaito.controllers.workspace.names import adapter_name, headless_name, pool_name
from kaito.controllers.workspace.node_facts import ExistingNodes, read_facts
from kaito.controllers.workspace.slim import (
    config_fault,
    hashed,
    may_be_ours,
    slim_budget,
    slim_child,
    slim_look,
    slim_node,
    slim_pod,
    slim_pool,
)
from kaito.runtime.cache import InformerCache
from kaito.runtime.informer import Informer
from kaito.runtime.objects import CachedObject
from kaito.runtime.resources import (
    CONFIGMAPS,
    DEPLOYMENTS,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    SERVICES,
    STATEFULSETS,
    ObjectKey,
    Resource,
)

BY_WORKSPACE: Final = "kaito.sh/workspace"
"""Index of pods and claims: `namespace/name` of the Workspace that their labels name."""
BY_CONTROLLER: Final = "controller-uid"
"""Index of Adapters, and of pods that look at weights: uid of the controlling owner."""
BY_ADAPTER: Final = "kaito.sh/adapter"
"""Index of Workspaces: `namespace/name` of each Adapter they name."""
BY_CONFIG: Final = "inference-config"
"""Index of Workspaces: `namespace/name` of the ConfigMap they name."""
BY_NAMESPACE: Final = "others-budgets"
"""Index of PodDisruptionBudgets that are no Workspace's: the namespace."""
BY_NODE_LABEL: Final = "node-label"
"""Index of Workspaces: the first of the labels that their nodes carry."""
LABEL_INDEXES: Final = 64
"""Different label keys for which nodes are indexed; nodes with others are found by looking at all."""
GROUPS: Final = 4096
"""Sets of labels whose nodes are remembered together."""
WORKSPACE_PODS: Final = WORKSPACE_LABEL
"""Label selector of the pods that are watched."""
LOOKS: Final = WEIGHTS_CHECK_LABEL
"""Label selector of the pods that look at weights, which are watched apart from those that serve."""


def pod_keys(pod: CachedObject) -> list[ObjectKey]:
    """The Workspace that a pod's label names."""
    name = pod.meta.labels.get(WORKSPACE_LABEL)
    return [ObjectKey(pod.meta.namespace, name)] if name else []


def claim_keys(claim: CachedObject) -> list[ObjectKey]:
    """The Workspace that the labels of a claim, or of a node made for one, name."""
    name, namespace = claim.meta.labels.get(WORKSPACE_LABEL), claim.meta.labels.get(WORKSPACE_NAMESPACE_LABEL)
    return [ObjectKey(namespace, name)] if name and namespace else []


def pooled_keys(claim: CachedObject) -> list[ObjectKey]:
    """The same where claims come of NodePools, whose labels are others; those of claims from before count as well."""
    labels = claim.meta.labels
    name, namespace = labels.get(KARPENTER_WORKSPACE_LABEL), labels.get(KARPENTER_WORKSPACE_NAMESPACE_LABEL)
    return claim_keys(claim) or ([ObjectKey(namespace, name)] if name and namespace else [])


def pool_keys(pool: CachedObject) -> list[ObjectKey]:
    """The Workspace that a NodePool, or the template of its nodes, names."""
    return pooled_keys(pool) or pool.cached_view(_template_keys)


def _template_keys(pool: CachedObject) -> list[ObjectKey]:
    namespace, name = named_by_template(pool.decode())
    return [ObjectKey(namespace, name)] if name and namespace else []


@dataclass(frozen=True, slots=True)
class Names:
    """What a Workspace names of other objects: what has to be known of it between two passes."""

    invalid: InvalidSpec | None = None
    """Why it cannot be read; it then names nothing."""
    adapters: tuple[str, ...] = ()
    """Adapter objects that it makes or refers to."""
    config: str = ""
    """The ConfigMap of `inference.config`."""
    node_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that its nodes carry."""


def names_in(workspace: CachedObject) -> Names:
    """What the Workspace names. Its model is made once for each version, and not kept: it is many times as large."""
    return workspace.cached_view(_names)


def _names(workspace: CachedObject) -> Names:
    model = parse(Workspace, workspace.decode())
    if isinstance(model, InvalidSpec):
        return Names(model)
    labels = without_reserved(labels_of(model))
    if model.inference is None:
        return Names(node_labels=labels)
    adapters = [
        adapter_name(workspace.meta.name, each.name) if each.source is not None else each.name
        for each in model.inference.adapters or ()
    ]
    return Names(None, tuple(dict.fromkeys(adapters)), model.inference.config or "", labels)


def pair(key: str, value: str) -> str:
    """A label as one text, for an index."""
    return f"{key}={value}"


def _pods(obj: CachedObject) -> Iterable[str]:
    return [str(key) for key in pod_keys(obj)]


def _controlled(obj: CachedObject) -> Iterable[str]:
    owner = obj.meta.controller
    return [owner.uid] if owner is not None else []


def _adapters(obj: CachedObject) -> Iterable[str]:
    return [f"{obj.meta.namespace}/{name}" for name in names_in(obj).adapters]


def _foreign(obj: CachedObject) -> Iterable[str]:
    return [] if may_be_ours(obj) else [obj.meta.namespace or ""]


def _config(obj: CachedObject) -> Iterable[str]:
    name = names_in(obj).config
    return [f"{obj.meta.namespace}/{name}"] if name else []


def _first_label(obj: CachedObject) -> Iterable[str]:
    wanted = names_in(obj).node_labels
    return [pair(*min(wanted.items()))] if wanted else []


class Observer:
    """Reads the caches of a manager."""

    def __init__(self, cache: InformerCache, config: WorkspaceConfig) -> None:
        self._informers: dict[Resource, Informer] = {
            resource: cache.informer(resource) for resource in (WORKSPACES, ADAPTERS)
        }
        for resource in (DEPLOYMENTS, STATEFULSETS, SERVICES):
            self._informers[resource] = cache.informer(resource, transform=slim_child)
        self._informers[NODES] = cache.informer(NODES, transform=slim_node)
        self._informers[PODS] = cache.informer(PODS, label_selector=WORKSPACE_PODS, transform=slim_pod)
        self._looks = cache.informer(PODS, label_selector=LOOKS, transform=slim_look)
        self._looks.add_indexer(BY_CONTROLLER, _controlled)
        self._informers[PODDISRUPTIONBUDGETS] = cache.informer(PODDISRUPTIONBUDGETS, transform=slim_budget)
        self._informers[PODDISRUPTIONBUDGETS].add_indexer(BY_NAMESPACE, _foreign)
        self._informers[CONFIGMAPS] = cache.informer(CONFIGMAPS, transform=hashed)
        self._claims = config.node_provisioner.claims
        self._pools = config.node_provisioner.pools
        self.keys_of_claim = claim_keys if self._pools is None else pooled_keys
        self._finds_nodes = self._claims is None or self._pools is not None
        if self._claims is not None:
            self._informers[self._claims] = cache.informer(self._claims)
            self._informers[self._claims].add_indexer(
                BY_WORKSPACE, lambda claim: [str(key) for key in self.keys_of_claim(claim)]
            )
        if self._pools is not None:
            self._informers[self._pools] = cache.informer(self._pools, transform=slim_pool)
        self._informers[PODS].add_indexer(BY_WORKSPACE, _pods)
        self._informers[ADAPTERS].add_indexer(BY_CONTROLLER, _controlled)
        self._informers[WORKSPACES].add_indexer(BY_ADAPTER, _adapters)
        self._informers[WORKSPACES].add_indexer(BY_CONFIG, _config)
        if self._finds_nodes:
            self._informers[WORKSPACES].add_indexer(BY_NODE_LABEL, _first_label)
        self._label_keys: set[str] = set()
        self._groups: dict[tuple[tuple[str, str], ...], tuple[str, ExistingNodes]] = {}

    def informer(self, resource: Resource) -> Informer | None:
        """The informer that these reads come from; None for a resource that is not watched."""
        return self._informers.get(resource)

    def workspace(self, key: ObjectKey) -> CachedObject | None:
        """The Workspace itself."""
        return self._informers[WORKSPACES].lister.get(key.name, key.namespace)

    def observe(self, workspace: CachedObject, answers: Mapping[Need, Answer]) -> Observed:
        """Everything that concerns the Workspace; `answers` to what it needed."""
        namespace, name = workspace.meta.namespace, workspace.meta.name
        claims = self.claims_of(workspace.key)
        pods = self._indexed(PODS, BY_WORKSPACE, str(workspace.key))
        config = self._config_of(workspace)
        fault = config_fault(config)
        return Observed(
            workspace=workspace.decode(),
            invalid=names_in(workspace).invalid,
            adapters=self._adapters_of(workspace),
            claims=claims,
            pool=self.pool_of(workspace.key),
            nodes=self._nodes_of(claims, pods),
            existing=self._existing(workspace),
            deployment=self._one(DEPLOYMENTS, name, namespace),
            stateful_set=self._one(STATEFULSETS, name, namespace),
            service=self._one(SERVICES, name, namespace),
            headless=self._one(SERVICES, headless_name(name), namespace),
            budget=self._one(PODDISRUPTIONBUDGETS, name, namespace),
            other_budgets=self._indexed(PODDISRUPTIONBUDGETS, BY_NAMESPACE, namespace or ""),
            pods=pods,
            looks=self._looks_of(workspace),
            settings=config.get("settings", {}) if config is not None and not fault else None,
            config_hash=str(config["hash"]) if config is not None else None,
            config_fault=fault,
            config_faults=config.get("faults", {}) if config is not None else {},
            answers=answers,
        )

    def claims_of(self, key: ObjectKey) -> tuple[Object, ...]:
        """Claims labelled with this name and namespace, whether there is such a Workspace or not."""
        return self._indexed(self._claims, BY_WORKSPACE, str(key))

    def pool_of(self, key: ObjectKey) -> Object | None:
        """The NodePool with the name of this Workspace's, whether there is such a Workspace or not."""
        if self._pools is None:
            return None
        return self._one(self._pools, pool_name(key.namespace or "", key.name), None)

    def keys_of_adapter(self, adapter: CachedObject) -> list[ObjectKey]:
        """Workspaces that name this Adapter."""
        found = self._informers[WORKSPACES].lister.by_index(BY_ADAPTER, str(adapter.key))
        return [workspace.key for workspace in found]

    def keys_of_config(self, config_map: CachedObject) -> list[ObjectKey]:
        """Workspaces whose `inference.config` is this ConfigMap."""
        found = self._informers[WORKSPACES].lister.by_index(BY_CONFIG, str(config_map.key))
        return [workspace.key for workspace in found]

    def keys_of_namesake(self, child: CachedObject) -> list[ObjectKey]:
        """The Workspace whose name a workload or Service has, even if the child is not its own."""
        return [child.key] if self.workspace(child.key) is not None else []

    def keys_of_budget(self, budget: CachedObject) -> list[ObjectKey]:
        """The Workspace of that name, and where the budget is no Workspace's all whose pods it may cover."""
        if may_be_ours(budget):
            return self.keys_of_namesake(budget)
        found = self._informers[WORKSPACES].lister.list(budget.meta.namespace)
        return [workspace.key for workspace in found]

    def keys_of_node(self, node: CachedObject) -> list[ObjectKey]:
        """Workspaces that this node is for, by the labels of its claim or by the user's own."""
        claimed = self.keys_of_claim(node) if self._claims is not None else []
        if claimed or not self._finds_nodes:
            return claimed
        labels, lister = node.meta.labels, self._informers[WORKSPACES].lister
        candidates = (lister.by_index(BY_NODE_LABEL, pair(*label)) for label in labels.items())
        return [
            workspace.key
            for found in candidates
            for workspace in found
            if names_in(workspace).node_labels.items() <= labels.items()
        ]

    def _config_of(self, workspace: CachedObject) -> Object | None:
        name = names_in(workspace).config
        return self._one(CONFIGMAPS, name, workspace.meta.namespace) if name else None

    def _one(self, resource: Resource, name: str, namespace: str | None) -> Object | None:
        found = self._informers[resource].lister.get(name, namespace)
        return found.decode() if found is not None else None

    def _indexed(self, resource: Resource | None, index: str, value: str) -> tuple[Object, ...]:
        if resource is None:
            return ()
        found = self._informers[resource].lister.by_index(index, value)
        return tuple(each.decode() for each in sorted(found, key=lambda each: each.meta.name))

    def _looks_of(self, workspace: CachedObject) -> tuple[Object, ...]:
        found = self._looks.lister.by_index(BY_CONTROLLER, workspace.meta.uid)
        return tuple(each.decode() for each in sorted(found, key=lambda each: each.meta.name))

    def _adapters_of(self, workspace: CachedObject) -> dict[str, Object]:
        lister = self._informers[ADAPTERS].lister
        found = {each.meta.name: each for each in lister.by_index(BY_CONTROLLER, workspace.meta.uid)}
        for name in names_in(workspace).adapters:
            named = lister.get(name, workspace.meta.namespace)
            if named is not None:
                found[name] = named
        return {name: each.decode() for name, each in found.items()}

    def _nodes_of(self, claims: tuple[Object, ...], pods: tuple[Object, ...]) -> dict[str, Object]:
        lister = self._informers[NODES].lister
        if self._claims is None:
            names = {str((pod.get("spec") or {}).get("nodeName") or "") for pod in pods}
        else:
            names = {str((claim.get("status") or {}).get("nodeName") or "") for claim in claims}
        return {name: node.decode() for name in names - {""} if (node := lister.get(name)) is not None}

    def _existing(self, workspace: CachedObject) -> ExistingNodes:
        """The nodes with the Workspace's labels; the very same answer as long as they are the same."""
        wanted = names_in(workspace).node_labels if self._finds_nodes else {}
        if not wanted:
            return ExistingNodes()
        informer = self._informers[NODES]
        version, group = informer.store.resource_version, tuple(sorted(wanted.items()))
        known_at, known = self._groups.get(group, ("", None))
        if known is not None and known_at == version:
            return known
        key = group[0][0]
        if key not in self._label_keys and len(self._label_keys) < LABEL_INDEXES:
            self._label_keys.add(key)
            informer.add_label_index(key)
        found = ExistingNodes(map(read_facts, informer.lister.list(selector=wanted)))
        if known is not None and known.nodes == found.nodes:
            found = known  # mere heartbeats: what it was asked before still holds
        elif len(self._groups) >= GROUPS:
            self._groups.clear()
        self._groups[group] = version, found
        return found
