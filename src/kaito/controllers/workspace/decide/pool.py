"""A Workspace's NodePool: its manifest, whose it is, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Final, Literal

from kaito.api.conditions import find_condition, is_false
from kaito.api.labels import (
    KARPENTER_WORKSPACE_LABEL,
    KARPENTER_WORKSPACE_NAMESPACE_LABEL,
    NODEPOOL_LABEL,
    WORKSPACE_LABEL,
    WORKSPACE_NAMESPACE_LABEL,
    WORKSPACE_UID_LABEL,
)
from kaito.controllers.workspace.config import AZURE_KARPENTER, WorkspaceConfig
from kaito.controllers.workspace.decide.children import cut
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.wanted import Problem, node_class_name
from kaito.controllers.workspace.model import Object, conditions, labels_of, metadata
from kaito.controllers.workspace.names import pool_name
from kaito.controllers.workspace.render import render
from kaito.runtime.clock import parse_time

PATIENCE: Final = 300.0
"""Seconds in which a Karpenter should have made a pool's first claim."""
_TELLING: Final = ("ValidationSucceeded", "NodeClassReady")
"""Conditions of a NodePool that say what keeps it from making claims."""

Whose = Literal["ours", "earlier", "other"]
"""ours: this Workspace's, be it that the Go KAITO made it; earlier: that of a Workspace that had its name before."""


def pool_manifest(workspace: Object, plan: Plan, config: WorkspaceConfig, replicas: int) -> Object:
    """The pool as it is made. From then on all of it but `replicas` is the administrator's to change."""
    node_class = replace(
        config.node_class.for_karpenter(config.cloud), name=node_class_name(workspace, config)
    )
    named = {
        KARPENTER_WORKSPACE_LABEL: plan.name,
        KARPENTER_WORKSPACE_NAMESPACE_LABEL: plan.namespace,
    }
    own = {
        WORKSPACE_LABEL: plan.name,
        WORKSPACE_NAMESPACE_LABEL: plan.namespace,
        WORKSPACE_UID_LABEL: plan.uid,
    }
    values = {
        "name": pool_name(plan.namespace, plan.name),
        "labels": {**own, **named},
        "node_labels": {
            **{key: value for key, value in plan.match_labels.items() if key != NODEPOOL_LABEL},
            **named,
        },
        "replicas": replicas,
        "instance_types": list(dict.fromkeys(size.name for size in plan.sizes)),
        "node_class": asdict(node_class),
        "azure": node_class.group == AZURE_KARPENTER,
    }
    return render("nodepool", {"pool": values})


def replicas_manifest(pool: Object, replicas: int) -> Object:
    """What is applied to a pool that is there: this one number, of this very pool in this version. A cache that is
    behind must not take away what was asked for meanwhile."""
    seen = metadata(pool)
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {key: seen[key] for key in ("name", "uid", "resourceVersion") if key in seen},
        "spec": {"replicas": replicas},
    }


def whose(pool: Object, workspace: Object) -> Whose:
    """Whose the pool of the Workspace's name is."""
    meta, labels = metadata(workspace), labels_of(pool)
    uid = labels.get(WORKSPACE_UID_LABEL)
    if uid == meta["uid"]:
        return "ours"
    names = (meta["namespace"], meta["name"])
    if names not in (_pair(labels), named_by_template(pool)):
        return "other"
    return "ours" if uid is None else "earlier"


def named_by_template(pool: Object) -> tuple[str | None, str | None]:
    """Namespace and name of the Workspace that the labels of the pool's nodes name: the Go KAITO writes no others."""
    template = (pool.get("spec") or {}).get("template") or {}
    return _pair((template.get("metadata") or {}).get("labels") or {})


def _pair(labels: Mapping[str, str]) -> tuple[str | None, str | None]:
    return labels.get(KARPENTER_WORKSPACE_NAMESPACE_LABEL), labels.get(KARPENTER_WORKSPACE_LABEL)


def of_pool(claim: Object, pool: Object | None) -> bool:
    """Whether a Karpenter made the claim from this very pool."""
    if pool is None or labels_of(claim).get(NODEPOOL_LABEL) != metadata(pool)["name"]:
        return False
    owners = [each for each in metadata(claim).get("ownerReferences") or () if each.get("kind") == "NodePool"]
    return not owners or any(each.get("uid") == metadata(pool)["uid"] for each in owners)


def pool_problem(pool: Object) -> Problem | None:
    """What the pool's own conditions say is wrong with it."""
    found, name = conditions(pool), metadata(pool)["name"]
    for type in _TELLING:
        condition = find_condition(found, type)
        if condition is not None and is_false(found, type):
            said = cut(str(condition.get("message") or ""))
            return Problem("NodePoolNotReady", f"NodePool {name}: {condition.get('reason')}: {said}")
    return None


def patience_left(pool: Object, now: datetime) -> float:
    """Seconds until a pool without any claim is worth a word; 0 or less when it is."""
    return PATIENCE - (now - parse_time(metadata(pool)["creationTimestamp"])).total_seconds()


def not_served(pool: Object, replicas: int) -> Problem:
    """No claim has come from the pool."""
    template = ((pool.get("spec") or {}).get("template") or {}).get("spec") or {}
    reference = template.get("nodeClassRef") or {}
    kind = f" that serves {reference['kind']}.{reference['group']}" if reference.get("kind") else ""
    return Problem(
        "NodePoolNotReady",
        f"NodePool {metadata(pool)['name']} has {replicas} replicas, and no NodeClaim has come of it in "
        f"{PATIENCE / 60:.0f} minutes: see that a Karpenter{kind} runs, with its feature gate StaticCapacity on",
    )
