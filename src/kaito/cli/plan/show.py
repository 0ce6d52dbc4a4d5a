"""A plan in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from kaito.cli.plan.report import Live, SizePlan, WorkspacePlan
from kaito.cli.plan.world import CLAIMS, Child, When
from kaito.controllers.admission import Finding

TITLES: Final = {
    When.AT_ONCE: ("makes", ""),
    When.ADAPTERS_READ: ("then", ", once the adapters are read"),
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


def _finding(finding: Finding) -> dict[str, str]:
    return {"path": finding.path, "message": finding.sentence}


def lines(plan: WorkspacePlan) -> Iterator[str]:
    """One Workspace for people."""
    yield f"Workspace {plan.namespace}/{plan.name or '(no name)'}"
    if plan.nodes:
        yield f"  nodes     {_nodes(plan)}"
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


def _nodes(plan: WorkspacePlan) -> str:
    if not plan.sizes:
        return f"{plan.nodes} that are there already, with the Workspace's labels"
    return f"{plan.nodes} x " + ", then ".join(_described(size) for size in plan.sizes)


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
