"""What can be seen of Workspaces from outside, without a label that a user could fill.

The reconciler hands over what it has just seen; the families are put together when somebody scrapes. Numbers exist
where the controller runs: a replica that waits for the lease shows zeros.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from kaito.api.conditions import find_condition
from kaito.api.labels import GPU_COUNT_LABEL, GPU_MEMORY_LABEL
from kaito.api.reasons import OTHER, VERDICTS, known
from kaito.catalog import Catalog, Machine, UnreadableGpus, machine_of_labels, machine_of_sku
from kaito.catalog.models import CatalogSource
from kaito.controllers.workspace.decide.hub_model import known_preset
from kaito.controllers.workspace.decide.resolved import read_choice
from kaito.controllers.workspace.decide.serving import Serving
from kaito.controllers.workspace.decide.status import RESOURCE_READY
from kaito.controllers.workspace.model import deleting, labels_of
from kaito.controllers.workspace.phase import Phase, entered, phase
from kaito.runtime.clock import Clock, parse_time
from kaito.runtime.histogram import Histogram
from kaito.runtime.resources import ObjectKey
from kaito.runtime.stays import STAY_BUCKETS, Stays

Object = Mapping[str, Any]

STAGES: Final = ("nodes", "model")
"""Parts of the first start: until ResourceReady, and from there until the model answers."""
NODE_STATES: Final = ("Pending", "Ready", "NotReady", "Failed")
"""Values of `status.nodes[].state`."""
LEFT: Final = "free"
PARTS: Final = ("weights", "adapters", "kv_cache", "activations", "runtime", LEFT)
"""What GPU memory is planned for: see `kaito.catalog.memory.Ledger`. What is left over is needed for nothing, and the
engine takes it as cache."""
MIB: Final = 2**20
GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Facts:
    """What is counted of one Workspace."""

    reason: str = ""
    """Why it is not ready; empty for one that is, or that nothing is known of yet."""
    interrupted: bool = False
    preset: str = ""
    """Name in the catalogue, or `other`; empty where it serves a template."""
    nodes: tuple[tuple[str, str], ...] = ()
    """State and reason of each node that it claims."""
    sizes: tuple[str, ...] = ()
    """Machine sizes of its ready nodes, of no more than it wants."""
    verdicts: tuple[str, ...] = ()
    estimated: float = 0.0
    """Bytes of GPU memory that serving needs, by the catalogue; 0 where that or the nodes' memory is not known."""
    capacity: float = 0.0
    """Bytes of GPU memory that its ready nodes have."""
    planned: Mapping[str, float] = field(default_factory=dict)
    """Bytes of GPU memory on all its nodes that were planned for each of PARTS; empty where too little is known."""
    spread: int = 0
    """The nodes that that is for."""


def facts(workspace: Object, status: Object, nodes: Mapping[str, Object], catalog: Catalog) -> Facts:
    """What is counted of a Workspace with this status. `nodes` are the Node objects that are known of it, by name."""
    state, entries = status.get("state"), status.get("nodes") or ()
    size = _size(str(status.get("instanceType") or ""), catalog)
    # Where nodes are not claimed, every node that would do is listed.
    workers = [str(name) for name in (status.get("workerNodes") or ())[: status.get("targetNodeCount") or 1]]
    sizes = {str(entry.get("nodeName")): str(entry.get("instanceType") or "") for entry in entries}
    estimated, capacity = _memory(workspace, workers, nodes, status, catalog)
    planned, spread = _planned(workspace, status, nodes, catalog) if capacity else ({}, 0)
    needed = sum(size for part, size in planned.items() if part != LEFT)
    return Facts(
        reason=known(str(status["reason"])) if status.get("reason") not in (None, "Ready") else "",
        interrupted=state == "NotReady" and not deleting(workspace),
        preset=_preset(workspace, catalog),
        nodes=tuple(_node(entry) for entry in entries),
        sizes=tuple(_size(sizes.get(name, ""), catalog) or size or OTHER for name in workers),
        verdicts=tuple(_verdict(use) for use in status.get("adapters") or ()),
        estimated=needed or estimated,
        capacity=capacity,
        planned=planned,
        spread=spread,
    )


def _node(entry: Object) -> tuple[str, str]:
    state = entry.get("state")
    reason = "" if state == "Ready" else sys.intern(known(str(entry.get("reason") or "")))
    return sys.intern(state if state in NODE_STATES else "Pending"), reason


def _verdict(use: Object) -> str:
    reason = str(use.get("reason") or "")
    return reason if reason in VERDICTS else OTHER


def _preset(workspace: Object, catalog: Catalog) -> str:
    name = ((workspace.get("inference") or {}).get("preset") or {}).get("name")
    if not isinstance(name, str):
        return ""
    preset = catalog.preset(name)
    return preset.name if preset is not None else OTHER


def _size(name: str, catalog: Catalog) -> str:
    """The machine size as the catalogue writes it, `other` for one it does not know, empty for none."""
    if not name:
        return ""
    sku = catalog.sku(name)
    return sku.name if sku is not None else OTHER


def _memory(
    workspace: Object, workers: list[str], nodes: Mapping[str, Object], status: Object, catalog: Catalog
) -> tuple[float, float]:
    """GPU memory needed and had; (0, 0) unless both are known, so that the two can be compared."""
    preset = catalog.preset(_preset(workspace, catalog))
    if preset is None or not preset.required_gpu_memory_gib or not workers:
        return 0.0, 0.0
    sku = catalog.sku(str(status.get("instanceType") or ""))
    stated = sku.memory_gib * GIB if sku is not None else 0.0
    had = [_node_memory(nodes.get(name) or {}) or stated for name in workers]
    if not all(had):
        return 0.0, 0.0
    copies = 1 if preset.multi_node else len(workers)
    return copies * preset.required_gpu_memory_gib * GIB, sum(had)


def _planned(
    workspace: Object, status: Object, nodes: Mapping[str, Object], catalog: Catalog
) -> tuple[dict[str, float], int]:
    """GPU memory by what it is planned for, as the status tells the plan; and on how many nodes."""
    preset = known_preset({**workspace, "status": status}, catalog)
    choice = read_choice({"status": status}, None)
    sku = catalog.sku(choice.instance_type) if choice is not None else None
    if preset is None or choice is None:
        return {}, 0
    try:
        machine = machine_of_sku(sku) if sku is not None else _labelled(nodes)
    except UnreadableGpus:
        return {}, 0
    found = Serving(preset).ledger(choice, machine) if machine is not None else None
    if found is None:
        return {}, 0
    gpus = choice.parallelism.gpus * choice.copies
    return {part: max(0.0, getattr(found, part)) * gpus * GIB for part in PARTS}, choice.nodes


def _labelled(nodes: Mapping[str, Object]) -> Machine | None:
    """The GPUs of the first node, by its labels. Raises UnreadableGpus."""
    first = next(iter(nodes.values()), None)
    return machine_of_labels(labels_of(first)) if first is not None else None


def _node_memory(node: Object) -> float:
    """Bytes that the GPUs of a node have by its labels (MiB for each GPU), which NVIDIA's feature discovery writes."""
    labels = labels_of(node)
    each, count = labels.get(GPU_MEMORY_LABEL, ""), labels.get(GPU_COUNT_LABEL, "")
    return float(int(each) * int(count) * MIB) if each.isdecimal() and count.isdecimal() else 0.0


class WorkspaceMetrics:
    """The numbers of the workspace controller; a metric source for `RuntimeMetrics.add`."""

    def __init__(self, catalog: CatalogSource, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._facts: dict[str, Facts] = {}
        self._stays = Stays(Phase, clock.now)
        self._ready = Histogram(STAY_BUCKETS)
        self._stages = {stage: Histogram(STAY_BUCKETS) for stage in STAGES}
        self._seen: dict[str, dict[str, None]] = {"reason": {}, "preset": {}, "waiting": {}, "size": {}}
        """Label values that have been shown: they stay, at 0."""

    def saw(self, key: ObjectKey, workspace: Object, status: Object, nodes: Mapping[str, Object]) -> None:
        """One pass over a Workspace has ended; `status` is the one it now has."""
        metadata, name = workspace["metadata"], str(key)
        now = phase(metadata, status)
        age = (
            (self._clock.wall() - entered(metadata, status)).total_seconds()
            if name not in self._facts
            else 0.0
        )
        before = self._stays.enter(name, now, age)
        self._facts[name] = facts(workspace, status, nodes, self._catalog.current)
        old = workspace.get("status") or {}
        if now is Phase.SUCCEEDED and before != now and old.get("state") in (None, "Pending"):
            self._started(metadata, status)

    def gone(self, key: ObjectKey) -> None:
        """There is no such Workspace any more."""
        self._facts.pop(str(key), None)
        self._stays.leave(str(key))

    def _started(self, metadata: Object, status: Object) -> None:
        """It is ready for the first time."""
        created, now = parse_time(metadata["creationTimestamp"]), self._clock.wall()
        self._ready.observe(max(0.0, (now - created).total_seconds()))
        resource = find_condition(status.get("conditions"), RESOURCE_READY)
        if resource is None:
            return  # taken over from an operator that has no such condition
        turned = parse_time(resource["lastTransitionTime"])
        self._stages["nodes"].observe(max(0.0, (turned - created).total_seconds()))
        self._stages["model"].observe(max(0.0, (now - turned).total_seconds()))

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        yield from self._phases()
        found = list(self._facts.values())
        yield self._gauge(
            "reason_count",
            "Workspaces that are not ready, by the reason in their status.",
            "reason",
            self._shown("reason", (each.reason for each in found if each.reason)),
        )
        interrupted = GaugeMetricFamily(
            "kaito_workspace_interrupted", "Workspaces that were ready before and are not now."
        )
        interrupted.add_metric([], sum(each.interrupted for each in found))
        yield interrupted
        yield self._gauge(
            "preset_count",
            "Workspaces by the preset they serve, as the catalogue names it.",
            "preset_name",
            self._shown("preset", (each.preset for each in found if each.preset)),
        )
        yield from self._nodes(found)
        yield from self._gpu_memory(found)
        verdicts = Counter(verdict for each in found for verdict in each.verdicts)
        yield self._gauge(
            "adapters",
            "Adapters of Workspaces, by the answer to whether they can be used.",
            "verdict",
            {verdict: verdicts[verdict] for verdict in (*VERDICTS, OTHER)},
        )

    def _phases(self) -> Iterator[Metric]:
        yield self._gauge(
            "count",
            "Workspaces by phase: deleting, succeeded, error (stays until a person acts) or pending.",
            "phase",
            self._stays.counts(),
        )
        yield self._gauge(
            "phase_oldest_seconds",
            "Seconds that the Workspace that is longest in a phase has been in it; 0 without one.",
            "phase",
            self._stays.oldest(),
        )
        yield _histogram(
            "phase_seconds", "Seconds that Workspaces stayed in a phase.", "phase", self._stays.seconds
        )
        ready = HistogramMetricFamily(
            "kaito_workspace_ready_seconds",
            "Seconds from the creation of a Workspace until it was ready first.",
        )
        ready.add_metric([], self._ready.buckets(), self._ready.sum)
        yield ready
        yield _histogram(
            "stage_seconds",
            "Seconds of the first start: until the nodes were ready, and from there until the model was.",
            "stage",
            self._stages,
        )

    def _nodes(self, found: list[Facts]) -> Iterator[Metric]:
        nodes = [node for each in found for node in each.nodes]
        states = Counter(state for state, _ in nodes)
        yield self._gauge(
            "nodes",
            "Nodes that Workspaces claim, by state.",
            "state",
            {state: states[state] for state in NODE_STATES},
        )
        yield self._gauge(
            "claims_waiting",
            "Nodes that Workspaces claim and that are not ready, by reason.",
            "reason",
            self._shown("waiting", (reason for _, reason in nodes if reason)),
        )
        yield self._gauge(
            "instance_type_nodes",
            "Ready nodes of Workspaces by machine size, for each Workspace that uses them; times your price, the cost.",
            "instance_type",
            self._shown("size", (size for each in found for size in each.sizes)),
        )

    def _gpu_memory(self, found: list[Facts]) -> Iterator[Metric]:
        estimated, capacity = Counter[str](), Counter[str]()
        for each in found:
            if each.capacity:
                estimated[each.preset] += int(each.estimated)
                capacity[each.preset] += int(each.capacity)
        presets = self._seen["preset"]
        planned = GaugeMetricFamily(
            "kaito_workspace_gpu_memory_planned_bytes",
            "GPU memory that was planned for weights, adapters, cache and the engine's own, or to be left over (free).",
            labels=["preset_name", "part"],
        )
        for preset in presets:
            for part in PARTS:
                total = sum(each.planned.get(part, 0.0) for each in found if each.preset == preset)
                planned.add_metric([preset, part], total)
        yield planned
        spread = Counter[str]()
        for each in found:
            spread[each.preset] += each.spread
        yield self._gauge(
            "gpu_memory_planned_nodes",
            "Nodes on which that memory was planned.",
            "preset_name",
            {preset: spread[preset] for preset in presets},
        )
        yield self._gauge(
            "gpu_memory_estimated_bytes",
            "GPU memory that serving needs by the catalogue's figures, of Workspaces with ready nodes.",
            "preset_name",
            {preset: estimated[preset] for preset in presets},
        )
        yield self._gauge(
            "gpu_memory_capacity_bytes",
            "GPU memory of the ready nodes of the same Workspaces, by the nodes' labels or else the catalogue.",
            "preset_name",
            {preset: capacity[preset] for preset in presets},
        )

    def _shown(self, family: str, values: Iterable[str]) -> dict[str, int]:
        """How often each value occurs, with those at 0 that were shown before."""
        counted = Counter(values)
        seen = self._seen[family]
        seen.update(dict.fromkeys(sorted(counted)))
        return {value: counted[value] for value in seen}

    def _gauge(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        gauge = GaugeMetricFamily(f"kaito_workspace_{name}", text, labels=[label])
        for value, number in values.items():
            gauge.add_metric([value], number)
        return gauge


def _histogram(name: str, text: str, label: str, values: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"kaito_workspace_{name}", text, labels=[label])
    for value, numbers in values.items():
        family.add_metric([value], numbers.buckets(), numbers.sum)
    return family
