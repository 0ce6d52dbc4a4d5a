"""A plan in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from kaito.catalog import Preset
from kaito.catalog.prices import Price
from kaito.cli.plan.offers import Other, Serves
from kaito.cli.plan.report import Live, SizePlan, WorkspacePlan
from kaito.cli.plan.world import CLAIMS, Child, When
from kaito.cli.prices.file import price_json
from kaito.controllers.admission import Finding

FIGURES: Final = (
    "reserved",
    "weights",
    "adapters",
    "kv_cache",
    "activations",
    "runtime",
    "free",
    "capacity",
)
TITLES: Final = {
    When.AT_ONCE: ("makes", ""),
    When.ADAPTERS_READ: ("then", ", once the adapters are read"),
    When.WEIGHTS_LOOKED_AT: ("then", ", once the weights are looked at"),
    When.NODES_READY: ("at last", ", once the nodes are ready"),
}


def as_json(plan: WorkspacePlan) -> dict[str, Any]:
    """One Workspace. `name` of a claim is null: it comes from the uid that the API server will give."""
    found: dict[str, Any] = {
        "name": plan.name,
        "namespace": plan.namespace,
        "ok": plan.ok,
        "nodes": plan.nodes,
        "instanceTypes": [_size(each) for each in plan.sizes],
        "model": None
        if plan.model is None
        else {"name": plan.model.name, "repo": plan.model.repo, "revision": plan.model.revision},
        "serving": [_way(each) for each in plan.ways],
        "notes": list(plan.notes),
        "otherInstanceTypes": [
            {
                "name": each.size,
                "fits": each.fits,
                "nodes": each.nodes,
                "price": price_json(each.price),
                "message": each.sentence,
            }
            for each in plan.others
        ],
        "image": plan.image or None,
        "disk": plan.disk or None,
        "children": [
            {
                "apiVersion": child.body["apiVersion"],
                "kind": child.kind,
                "name": None if child.kind in CLAIMS else child.name,
                "when": child.when,
            }
            for child in plan.children
        ],
        "problems": [_finding(each) for each in plan.problems],
        "warnings": [_finding(each) for each in plan.warnings],
    }
    if plan.live:
        found["live"] = [
            {
                "instanceType": each.size,
                "available": each.available,
                "enough": each.enough,
                "message": each.sentence,
            }
            for each in plan.live
        ]
    return found


def _size(size: SizePlan) -> dict[str, Any]:
    return {
        "name": size.name,
        "gpus": size.gpus,
        "gpuMemoryGiB": size.memory_gib,
        "gpuModel": size.model,
        "retired": size.retired,
    }


def _way(way: Serves) -> dict[str, Any]:
    """Memory is in GiB of the fullest GPU."""
    memory = None
    if way.ledger is not None:
        memory = {name: round(getattr(way.ledger, name), 3) for name in FIGURES}
    return {
        "instanceType": way.size or None,
        "nodes": way.nodes,
        "copies": way.copies,
        "runtime": way.runtime,
        "dtype": way.dtype,
        "tensorParallel": way.parallelism.tensor,
        "pipelineParallel": way.parallelism.pipeline,
        "dataParallel": way.parallelism.data,
        "image": way.image,
        "context": way.context,
        "plannedContext": way.planned,
        "concurrency": way.sequences,
        "memory": memory,
        "price": price_json(way.price),
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"path": finding.path, "message": finding.sentence}


def lines(plan: WorkspacePlan) -> Iterator[str]:
    """One Workspace for people."""
    yield f"Workspace {plan.namespace}/{plan.name or '(no name)'}"
    if plan.nodes:
        yield f"  nodes     {_nodes(plan)}"
        yield from (f"  price     {each}" for each in _prices(plan))
        if plan.model is not None:
            yield f"  model     {_model(plan.model)}"
        yield from (f"  serves    {each}" for each in dict.fromkeys(_served(plan)))
        yield from _memory(plan.ways)
        yield from (f"  image     {each}" for each in _images(plan))
        if plan.disk:
            yield f"  disk      {plan.disk} on each node"
    for when, title in TITLES.items():
        named = _children(child for child in plan.children if child.when is when)
        if named:
            yield f"  {title[0]:9} {', '.join(named)}{title[1]}"
    for each in plan.live:
        yield f"  {_mark(each)}"
    for word, findings in (("problem", plan.problems), ("warning", plan.warnings)):
        for finding in findings:
            where = f"{finding.path}: " if finding.path else ""
            yield f"  {word:9} {where}{finding.sentence}"
    yield from (f"  note      {each}" for each in plan.notes)
    yield from _others(plan.others)


def total(plans: Sequence[WorkspacePlan]) -> str:
    """What the first choices of several Workspaces cost together; "" where that is not the question, or not known."""
    costs = [plan.ways[0].price for plan in plans if plan.ok and plan.sizes and plan.ways]
    known = [each for each in costs if each is not None]
    if len(costs) < 2 or len({each.currency for each in known}) != 1:
        return ""
    hour, month = sum(each.per_hour for each in known), sum(each.per_month for each in known)
    currency, unknown = known[0].currency, len(costs) - len(known)
    more = f", and {unknown} of unknown price" if unknown else ""
    return f"Together {hour:,.2f} {currency} an hour, {month:,.0f} {currency} a month{more}"


def _nodes(plan: WorkspacePlan) -> str:
    if not plan.sizes:
        return f"{plan.nodes} that are there already, with the Workspace's labels"
    counts = [each.nodes for each in plan.ways] or [plan.nodes] * len(plan.sizes)
    return ", then ".join(
        f"{count} x {_described(size)}" for count, size in zip(counts, plan.sizes, strict=True)
    )


def _prices(plan: WorkspacePlan) -> Iterator[str]:
    """For each size; nodes that are there already have none."""
    if not plan.sizes:
        return
    if all(each.price is None for each in plan.ways):
        yield f"unknown: {plan.no_price}"
        return
    for each in plan.ways:
        which = f"{each.size}: " if len(plan.ways) > 1 else ""
        yield which + (price_words(each.price) if each.price is not None else "unknown")


def price_words(price: Price) -> str:
    """An hour and a month of all nodes."""
    hour, month = f"{price.per_hour:,.2f}", f"{price.per_month:,.0f}"
    return f"{hour} {price.currency} an hour, {month} {price.currency} a month ({price.dated})"


def _model(preset: Preset) -> str:
    if preset.repo is None:
        return preset.name
    commit = f"commit {preset.revision[:12]}" if preset.revision is not None else "unpinned"
    return f"{preset.name} ({preset.repo}, {commit})"


def _served(plan: WorkspacePlan) -> Iterator[str]:
    for each in plan.ways:
        which = f"{each.size}: " if len(plan.ways) > 1 else ""
        context = f", {each.context:,} tokens of context" if each.context is not None else ""
        numbers = "" if each.dtype == "auto" else f" in {each.dtype}"
        yield f"{which}by {each.runtime}{numbers}{context}{_cut(each)}"


def _cut(way: Serves) -> str:
    """How the model lies on the GPUs."""
    said = {"tensor": way.parallelism.tensor, "pipeline": way.parallelism.pipeline}
    parts = [f"{name} parallel {number}" for name, number in said.items() if number > 1]
    copies = way.copies * way.parallelism.data
    return "".join(f", {each}" for each in [*parts, *([f"{copies} copies"] if copies > 1 else [])])


def _images(plan: WorkspacePlan) -> Iterator[str]:
    """One, or that of each size where GPUs differ in what they can execute."""
    if len({each.image for each in plan.ways}) > 1:
        yield from (f"{each.size}: {each.image}" for each in plan.ways)
    elif plan.image:
        yield plan.image


def _memory(ways: Iterable[Serves]) -> Iterator[str]:
    """A table of the fullest GPU."""
    rows = [(each, each.ledger) for each in ways if each.ledger is not None]
    if not rows:
        return
    planned = {(each.planned, each.sequences) for each, _ in rows if each.planned is not None}
    cache = f"; cache for {_cached(*min(planned))}" if len(planned) == 1 else ""
    yield f"  memory    GiB of one GPU, the fullest{cache}; what is free becomes cache too"
    width = max(len(each.size) for each, _ in rows)
    adapted = any(parts.adapters for _, parts in rows)
    columns = ("weights", *(("adapters",) if adapted else ()), "cache", "overhead", "free", "of")
    yield f"            {'':{width}}" + "".join(f"{name:>10}" for name in columns)
    for each, parts in rows:
        overhead = parts.reserved + parts.activations + parts.runtime
        mounted = (parts.adapters,) if adapted else ()
        figures = (parts.weights, *mounted, parts.kv_cache, overhead, parts.free, parts.capacity)
        yield f"            {each.size:{width}}" + "".join(f"{figure:10.1f}" for figure in figures)


def _cached(tokens: int, sequences: int) -> str:
    """What one model's cache is for; copies of it share the requests."""
    return f"{tokens:,} tokens" if sequences == 1 else f"{sequences:,} requests of {tokens:,} tokens"


def _others(others: Sequence[Other]) -> Iterator[str]:
    """A line for each size that would do; those that would not are told together where the reason is the same."""
    if not others:
        return
    yield "  other sizes"
    fitting = [each for each in others if each.fits]
    width = max((len(each.size) for each in fitting), default=0)
    yield from (f"    {each.size:{width}}  {_other(each)}" for each in fitting)
    reasons: dict[str, list[str]] = {}
    for each in others:
        if not each.fits:
            reasons.setdefault(each.sentence.replace(f" of {each.size}", ""), []).append(each.size)
    yield from (f"    not {', '.join(sizes)}: {reason}" for reason, sizes in reasons.items())


def _other(other: Other) -> str:
    nodes = f"{other.nodes} nodes, " if other.nodes != 1 else ""
    known = f"{other.price.per_hour:,.2f} {other.price.currency} an hour, " if other.price is not None else ""
    return f"{nodes}{known}{other.sentence}"


def _described(size: SizePlan) -> str:
    if size.gpus is None:
        return size.name
    return f"{size.name} ({size.gpus} x {size.model}, {size.memory_gib:g} GiB)"


def _children(children: Iterable[Child]) -> list[str]:
    found: dict[str, list[str]] = {}
    for child in children:
        found.setdefault(child.kind, []).append("" if child.kind in CLAIMS else child.name)
    return [
        f"{len(names)} {kind}{'s' if len(names) > 1 else ''}"
        if not names[0]
        else f"{kind} {' and '.join(names)}"
        for kind, names in found.items()
    ]


def _mark(live: Live) -> str:
    word = "free" if live.enough else "waits" if live.available else "refused"
    return f"{word:9} {live.sentence or f'{live.size}: available, and the quota is enough'}"
