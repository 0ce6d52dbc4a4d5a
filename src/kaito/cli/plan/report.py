"""What a plan says about each Workspace of a file. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from kaito.api.views import InvalidSpec, parse
from kaito.api.workspace import Workspace
from kaito.catalog import Catalog, Preset, machine_of_sku
from kaito.catalog.adapters import ASSUMED_RANK
from kaito.cli.plan.accepted import not_accepted
from kaito.cli.plan.looked import Looked, asked_of_weights, look
from kaito.cli.plan.offers import Other, Serves, others, ways
from kaito.cli.plan.world import CLAIMS, WORKLOADS, Child, ConfigMap, Unfolded, unfold
from kaito.cli.quota.report import Offer, Report
from kaito.controllers.admission import Finding, Findings
from kaito.controllers.workspace import WorkspaceConfig
from kaito.controllers.workspace.admission import judge
from kaito.controllers.workspace.decide.asked import Settings, serving_of
from kaito.controllers.workspace.decide.hub_model import PATH, model_part
from kaito.controllers.workspace.decide.hub_model import question as hub_question
from kaito.controllers.workspace.decide.plan import Plan, make_plan
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import read_choice, with_model
from kaito.controllers.workspace.decide.wanted import read_wanted
from kaito.controllers.workspace.model import Answer, Need, Object
from kaito.controllers.workspace.slim import config_fault

NOTHING_ASKED: Final[Mapping[Need, Answer]] = MappingProxyType({})
UID: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for the uid that the API server gives; names of claims come from it and are not told."""


@dataclass(frozen=True, slots=True)
class SizePlan:
    """A machine size that is tried. gpus, memory_gib, model: None where the catalogue does not know it."""

    name: str
    gpus: int | None = None
    memory_gib: float | None = None
    model: str | None = None
    retired: str | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """What the region says of a size. available: whether the subscription may have it; enough: whether the quota lets
    all nodes start now. sentence: why not; "" where nothing is in the way."""

    size: str
    available: bool
    enough: bool
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class WorkspacePlan:
    """One Workspace: what the controller would make of it, and what keeps it from that.

    nodes: how many; 0 where none is made or asked for. no_price: what to do where no price is known. ways: how the
    model is served, for each size that is tried; others: the other sizes. notes: why these, and what the user should
    know. image: of its pods. disk: of a node, as a quantity.
    """

    name: str
    namespace: str
    no_price: str = ""
    nodes: int = 0
    sizes: tuple[SizePlan, ...] = ()
    model: Preset | None = None
    ways: tuple[Serves, ...] = ()
    others: tuple[Other, ...] = ()
    notes: tuple[str, ...] = ()
    image: str = ""
    disk: str = ""
    children: tuple[Child, ...] = ()
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    live: tuple[Live, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.problems


def plan_workspace(
    document: Object,
    catalog: Catalog,
    config: WorkspaceConfig,
    now: datetime,
    config_maps: Mapping[tuple[str, str], Object],
    namespace: str = "default",
    answers: Mapping[Need, Answer] = NOTHING_ASKED,
) -> WorkspacePlan:
    """The plan for a Workspace as it stands in a file; `config_maps`: those that stand beside it, as `slim.hashed`
    leaves them. `answers`: what the hub said to `asked_of_hub`."""
    metadata = document.get("metadata")
    meta = dict(metadata) if isinstance(metadata, Mapping) else {}
    name, space = str(meta.get("name") or ""), str(meta.get("namespace") or namespace)
    if not name:
        return WorkspacePlan("", space, problems=(Finding("metadata.name", "write a name"),))
    workspace: Object = {**document, "metadata": {**meta, "namespace": space, "uid": UID}}
    read = parse(Workspace, workspace)
    invalid = read if isinstance(read, InvalidSpec) else None
    question = None if invalid is not None else hub_question(workspace, catalog, config)
    if question is not None and (answer := answers.get(question.need)) is not None:
        if answer.facts is None:
            return WorkspacePlan(name, space, problems=(Finding(PATH, answer.message),))
        workspace["status"] = with_model({}, model_part(question, answer.facts))
    looked = Looked() if invalid is not None else look(workspace, catalog, config, now, answers)
    if looked.status is not None:
        workspace["status"] = looked.status
    found = judge(workspace, catalog, config, {})
    never = tuple(not_accepted(workspace))
    beside = _beside(workspace, config_maps)
    settings = None if beside is None else beside.get("settings", {})
    plan = make_plan(workspace, invalid, catalog, config, settings)
    if not isinstance(plan, Plan):
        stands = plan if invalid is None else ()
        problems, warnings = _told(stands, found)
        problems = (*never, *problems, *looked.problems)
        fits = _sizes_instead(workspace, stands, catalog, config, settings)
        return WorkspacePlan(
            name, space, others=fits, notes=looked.notes, problems=problems, warnings=warnings
        )
    world = unfold(workspace, invalid, catalog, config, now, _settings(plan, beside))
    children = world.children
    if not plan.sizes:
        plan = _on_existing(plan, {**workspace, "status": world.status}, catalog)
    return WorkspacePlan(
        name,
        space,
        no_price=_no_price(config),
        nodes=plan.count,
        sizes=tuple(SizePlan(each.name) if each.sku is None else _size(each.sku) for each in plan.sizes),
        model=plan.preset,
        ways=ways(plan, config),
        others=others(plan.serving, plan.sizes, catalog, config) if plan.serving and plan.sizes else (),
        notes=(*plan.notes, *_assumed(plan), *looked.notes),
        image=_image(children),
        disk=_disk(children),
        children=tuple(child for child in children if child.kind != "Node"),
        problems=(*never, *found.refusals, *looked.problems, *_never_served(world)),
        warnings=(*found.warnings, *_missing(plan, beside)),
    )


def asked_of_hub(document: Object, catalog: Catalog, config: WorkspaceConfig) -> tuple[Need, ...]:
    """What is asked before the Workspace is planned: its model, where the catalogue lacks it, and its own weights."""
    if isinstance(parse(Workspace, document), InvalidSpec):
        return ()
    question = hub_question(document, catalog, config)
    model = question.need if question is not None and question.indispensable else None
    return tuple(each for each in (model, asked_of_weights(document)) if each is not None)


def _assumed(plan: Plan) -> Iterator[str]:
    """What the operator will know and a file does not tell."""
    if plan.serving is not None and plan.serving.terms.ranks and plan.needs_gpu:
        text = f"each adapter is counted as one of rank {ASSUMED_RANK}"
        yield f"{text}; where the operator can read it, it does so before it asks for a node"


def _told(problems: Iterable[Problem], found: Findings) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Problems and warnings; what the controller and its webhook both say of a field is said once."""
    paths = {each.path for each in found.refusals}
    more = [Finding(each.path, each.sentence) for each in problems if each.path not in paths]
    named = {each.path for each in more}
    return (*found.refusals, *more), tuple(each for each in found.warnings if each.path not in named)


def _sizes_instead(
    workspace: Object,
    problems: Iterable[Problem],
    catalog: Catalog,
    config: WorkspaceConfig,
    settings: Settings | None,
) -> tuple[Other, ...]:
    """What each size would be, where it is the size that cannot be."""
    if not any(each.path.startswith("resource.instanceType") for each in problems):
        return ()
    preset = read_wanted(workspace, catalog, config, settings).preset
    if preset is None:
        return ()
    return others(serving_of(workspace, preset, settings), (), catalog, config)


def _on_existing(plan: Plan, workspace: Object, catalog: Catalog) -> Plan:
    """The plan with what the controller chose for the nodes that were there."""
    if plan.serving is None:
        return plan
    choice = read_choice(workspace, plan.serving.key)
    if choice is None:
        return plan
    sku = catalog.sku(choice.instance_type)
    seen = machine_of_sku(sku) if sku is not None and not sku.unusable else None
    return replace(plan, choice=choice, count=choice.nodes, seen=seen)


def _never_served(world: Unfolded) -> Iterator[Finding]:
    """Why no pod would ever run, though all that the controller asked for came about."""
    if any(child.kind in WORKLOADS for child in world.children):
        return
    conditions = {each["type"]: each for each in world.status.get("conditions") or ()}
    for condition in (conditions.get("ResourceReady"), conditions.get("InferenceReady")):
        if condition is not None and condition["status"] != "True":
            yield Finding("", str(condition.get("message") or condition.get("reason")))
            return


def _beside(workspace: Object, config_maps: Mapping[tuple[str, str], Object]) -> Object | None:
    """Its ConfigMap, if that is in the file."""
    inference = workspace.get("inference")
    name = inference.get("config") if isinstance(inference, Mapping) else None
    return config_maps.get((workspace["metadata"]["namespace"], str(name))) if name else None


def _settings(plan: Plan, beside: Object | None) -> ConfigMap | None:
    """What the controller would know of its ConfigMap; one that is not in the file is taken to be in the cluster."""
    if plan.config_map is None:
        return None
    return (
        ConfigMap("elsewhere", {})
        if beside is None
        else ConfigMap(
            beside["hash"], beside.get("settings", {}), config_fault(beside), beside.get("faults", {})
        )
    )


def _missing(plan: Plan, beside: Object | None) -> Iterator[Finding]:
    if plan.config_map is not None and beside is None:
        text = (
            f"the ConfigMap {plan.config_map} is not in the file; no node is made before it is in the cluster"
        )
        yield Finding("inference.config", text)


def _no_price(config: WorkspaceConfig) -> str:
    regions = config.prices.regions(config.cloud)
    if config.cloud == "arc":
        return "your own machines have no price list"
    if not regions:
        return f"`kaito prices update --cloud {config.cloud} --region REGION` reads it"
    if config.region is None and len(regions) > 1:
        return f"write --location; there are prices of {', '.join(regions)}"
    return f"the price file does not have it in {config.prices.region(config.cloud, config.region)}"


def _image(children: Iterable[Child]) -> str:
    """What the first container of its pods runs."""
    for child in children:
        if child.kind in WORKLOADS:
            return str(child.body["spec"]["template"]["spec"]["containers"][0].get("image") or "")
    return ""


def _size(sku: Any) -> SizePlan:
    return SizePlan(sku.name, sku.gpus, sku.memory_gib, sku.model, sku.retired)


def _disk(children: Iterable[Child]) -> str:
    for child in children:
        if child.kind in CLAIMS:
            requests = (child.body["spec"].get("resources") or {}).get("requests") or {}
            return str(requests.get("storage") or "")
    return ""


def with_live(plan: WorkspacePlan, report: Report) -> WorkspacePlan:
    """The plan with what the region says of its sizes: a problem where none of them can ever be had."""
    if not plan.sizes:
        return plan
    live = tuple(_live(size.name, plan.nodes, report) for size in plan.sizes)
    if any(each.available for each in live):
        return replace(plan, live=live)
    sentences = "; ".join(each.sentence for each in live)
    problem = Finding("resource.instanceTypes" if len(live) > 1 else "resource.instanceType", sentences)
    return replace(plan, live=live, problems=(*plan.problems, problem))


def _live(name: str, nodes: int, report: Report) -> Live:
    for row in report.families:
        offer = next((each for each in row.sizes if each.name.lower() == name.lower()), None)
        if offer is None:
            continue
        if offer.restricted:
            text = f"{offer.name} is not available to this subscription in {report.location} ({offer.restricted})"
            return Live(name, False, False, text)
        return _counted(offer, nodes, [row, *report.totals[:1]], report)
    text = f"{name} has no quota or is not offered in {report.location}"
    return Live(name, False, False, text)


def _counted(offer: Offer, nodes: int, rows: Iterable[Any], report: Report) -> Live:
    needed, verb = offer.cores * nodes, "needs" if nodes == 1 else "need"
    for row in rows:
        if needed > row.limit:
            text = (
                f"{nodes} x {offer.name} {verb} {needed} of {row.title} in {report.location}, where {row.limit} are "
                f"allowed: raise the quota at {report.quota_page}"
            )
            return Live(offer.name, False, False, text)
        if needed > row.free:
            text = (
                f"{nodes} x {offer.name} {verb} {needed} of {row.title} in {report.location}, of which "
                f"{max(row.free, 0)} are free now: the nodes will wait"
            )
            return Live(offer.name, True, False, text)
    return Live(offer.name, True, True)
