"""What the user wants, read against the catalogue: a Plan that can be carried out, or the Problem that prevents it.

Looks at the Workspace, its ConfigMap and its Adapters alone, never at what else exists, so the same Workspace always
means the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kaito.api.labels import PERFORMANCE_MODE_ANNOTATION, without_tracking
from kaito.api.views import InvalidSpec
from kaito.catalog import Catalog, Machine, Preset, machine_of_sku
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.asked import NO_ADAPTERS, Settings
from kaito.controllers.workspace.decide.mounted import AdapterWanted, adapters_wanted
from kaito.controllers.workspace.decide.resolved import Choice
from kaito.controllers.workspace.decide.serving import Serving
from kaito.controllers.workspace.decide.wanted import Problem, Size, read_wanted, user_labels
from kaito.controllers.workspace.decide.weights_source import BAKED, WeightsSource, weights_source
from kaito.controllers.workspace.model import Object, annotations_of, metadata


@dataclass(frozen=True, slots=True)
class Plan:
    """A Workspace that can be carried out."""

    name: str
    namespace: str
    uid: str
    count: int
    sizes: tuple[Size, ...]
    """In the order they are tried; empty where nodes are not ours to ask for."""
    match_labels: Mapping[str, str]
    preset: Preset | None
    preset_options: Mapping[str, Any]
    template: Object | None
    config_map: str | None
    adapters: tuple[AdapterWanted, ...]
    weights: WeightsSource = BAKED
    performance_mode: str = ""
    """What vLLM is tuned for, where the Workspace says so."""
    choice: Choice | None = None
    """How the preset is served on the size in use, or the one being tried; None for a user's own pods."""
    choices: tuple[Choice, ...] = ()
    """The same for each of the sizes."""
    serving: Serving | None = None
    seen: Machine | None = None
    """The GPUs in use, where no size of the plan tells them."""
    unnamed: str = ""
    """The size of the nodes that run, where the spec names others since then."""
    unchecked: str = ""
    """Why nobody could look at the user's own weights before nodes are asked for."""

    @property
    def distributed(self) -> bool:
        """Whether all nodes serve one copy of the model together."""
        return self.choice is not None and self.choice.distributed

    @property
    def together(self) -> bool:
        """Whether all nodes have to be of one size: on another the model would be served otherwise."""
        return len({_shape(*pair) for pair in zip(self.choices, self.sizes, strict=False)}) > 1

    @property
    def most_nodes(self) -> int:
        """Nodes on the size that needs most."""
        return max((each.nodes for each in self.choices), default=self.count)

    @property
    def machine(self) -> Machine | None:
        """The GPUs of the size in use; None where they are not known, or of no use."""
        if self.seen is not None:
            return self.seen
        name = self.choice.instance_type if self.choice is not None else ""
        size = next((each for each in self.sizes if each.name == name), None)
        return machine_of_sku(size.sku) if size is not None and size.sku and not size.sku.unusable else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the choice."""
        if self.serving is None or self.choice is None:
            return ()
        found = self.serving.notes(self.choice, self.machine)
        if not self.unnamed:
            return found
        text = (
            f"the nodes are {self.unnamed}, which the spec does not name any more: they stay until one fails; for "
            "others at once, delete the Workspace and apply it again"
        )
        return (text, *found)

    def at(self, attempt: int) -> Plan:
        """The plan while all nodes are of that attempt's size."""
        if not self.choices:
            return self
        choice = self.choices[attempt % len(self.choices)]
        return replace(self, choice=choice, count=choice.nodes)

    def running(self, name: str, attempt: int, nodes: int, catalog: Catalog) -> Plan:
        """The plan with its sizes turned until that attempt is of the size that it was made with: however the user
        ranks sizes since then, what runs runs on until it fails. A size that is named no more comes first of all.

        nodes: as many as there are of it.
        """
        if self.serving is None or not self.choices or self.sizes[attempt % len(self.sizes)].name == name:
            return self
        pairs = list(zip(self.sizes, self.choices, strict=True))
        unnamed = name not in (size.name for size, _ in pairs)
        if unnamed:
            size = Size(name, catalog.sku(name))
            if size.sku is None or size.sku.unusable:
                return self
            found = self.serving.choose(size)
            if not isinstance(found, Choice):
                found = self.serving.kept(machine_of_sku(size.sku), nodes)
            pairs.insert(0, (size, found))
        place = next(place for place, (size, _) in enumerate(pairs) if size.name == name)
        turn = (place - attempt) % len(pairs)
        pairs = [*pairs[turn:], *pairs[:turn]]
        return replace(
            self,
            sizes=tuple(size for size, _ in pairs),
            choices=tuple(choice for _, choice in pairs),
            unnamed=name if unnamed else "",
        )

    def alike(self) -> Plan:
        """The plan with those sizes only on which the model is served as on the one that was chosen before, or else on
        the first: what makes nodes by itself takes any of them."""
        if not self.together:
            return self
        pairs = list(zip(self.sizes, self.choices, strict=True))
        stored = (self.serving.stored or self.serving.former) if self.serving is not None else None
        names = [size.name for size, _ in pairs]
        first = pairs[names.index(stored.instance_type) if stored and stored.instance_type in names else 0]
        shape = _shape(first[1], first[0])
        kept = [first, *(each for each in pairs if each != first and _shape(each[1], each[0]) == shape)]
        return replace(
            self,
            sizes=tuple(size for size, _ in kept),
            choices=tuple(choice for _, choice in kept),
            choice=first[1],
            count=first[1].nodes,
        )

    def on(self, name: str, catalog: Catalog) -> Plan:
        """The plan for nodes that are of that size, be it one that nobody named."""
        if (
            self.serving is None
            or not name
            or (self.choice is not None and self.choice.instance_type == name)
        ):
            return self
        for number, each in enumerate(self.sizes):
            if each.name.lower() == name.lower():
                return replace(self.at(number), count=self.count)
        sku = catalog.sku(name)
        found = self.serving.choose(Size(name, sku))
        seen = machine_of_sku(sku) if sku is not None and not sku.unusable else None
        return replace(self, choice=found, seen=seen) if isinstance(found, Choice) else self

    def size(self, attempt: int) -> Size | None:
        """The instance type of a claim's attempt: the list is gone through again and again."""
        return self.sizes[attempt % len(self.sizes)] if self.sizes else None

    @property
    def needs_gpu(self) -> bool:
        """Whether the pods that we write ask for GPUs; a user's own template says so itself."""
        return self.preset is not None and self.preset.gpus > 0


def _shape(choice: Choice, size: Size) -> tuple[Any, ...]:
    """What is alike where pods of one Workspace can run on nodes of different sizes."""
    gpus = size.sku.gpus if size.sku is not None else None
    return (
        choice.nodes,
        choice.copies,
        choice.runtime,
        choice.parallelism,
        choice.dtype,
        choice.context,
        gpus,
    )


def make_plan(
    workspace: Object,
    invalid: InvalidSpec | None,
    catalog: Catalog,
    config: WorkspaceConfig,
    settings: Settings | None = None,
    adapters: Mapping[str, Object] = NO_ADAPTERS,
) -> Plan | tuple[Problem, ...]:
    """The plan, or everything that prevents one, the gravest first.

    The Workspace's fields have the types of the API's model unless `invalid` says otherwise. settings: what
    `settings_in` found in its ConfigMap; None: nothing is known of that. adapters: the Adapters that it may use, by
    name.
    """
    if invalid is not None:
        return (Problem("InvalidSpec", f"{invalid.path}: {invalid.message}"),)
    wanted = read_wanted(workspace, catalog, config, settings, adapters)
    if wanted.problems:
        return wanted.problems
    inference = workspace.get("inference") or {}
    resource = workspace.get("resource") or {}
    preset, sizes = wanted.preset, wanted.sizes
    choice = wanted.choices[0] if wanted.choices else None
    if choice is None and wanted.serving is not None:
        choice = wanted.serving.stored or wanted.serving.unsized()
    count = choice.nodes if choice is not None else resource.get("count") or 1
    meta = metadata(workspace)
    match_labels = user_labels(resource)
    if config.node_provisioner.claims is not None:
        match_labels = without_tracking(match_labels)  # claims and nodes are made with them
    return Plan(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        count=count,
        sizes=sizes,
        match_labels=match_labels,
        preset=preset,
        preset_options=(inference.get("preset") or {}).get("presetOptions") or {},
        template=inference.get("template"),
        config_map=inference.get("config") or None,
        adapters=adapters_wanted(workspace),
        weights=weights_source(workspace, preset, config),
        performance_mode=annotations_of(workspace).get(PERFORMANCE_MODE_ANNOTATION, ""),
        choice=choice,
        choices=wanted.choices,
        serving=wanted.serving,
    )
