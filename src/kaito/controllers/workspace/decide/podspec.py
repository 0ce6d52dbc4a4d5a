"""The pod template of a Workspace: a preset's, rendered, or the user's own with our labels and tolerations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kaito.api.labels import (
    KARPENTER_WORKSPACE_LABEL,
    KARPENTER_WORKSPACE_NAMESPACE_LABEL,
    NODEPOOL_LABEL,
    WORKSPACE_LABEL,
    WORKSPACE_NAMESPACE_LABEL,
)
from kaito.catalog import GpuSku, Preset
from kaito.controllers.workspace.config import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.decide.adapters import AdapterUse
from kaito.controllers.workspace.decide.plan import Plan, context_limit
from kaito.controllers.workspace.decide.tolerations import label_expressions, node_affinity, tolerations
from kaito.controllers.workspace.model import Object
from kaito.controllers.workspace.names import headless_name, part_name
from kaito.controllers.workspace.render import render

ADAPTERS_DIRECTORY: Final = "/mnt/adapter"
CONFIG_DIRECTORY: Final = "/mnt/config"
WEIGHTS_DIRECTORY: Final = "/workspace/weights"
CONFIG_FILE: Final = "inference_config.yaml"
RENDEZVOUS_PORT: Final = 29500
SECONDS_PER_GIB: Final = 18
FIRST_READINESS: Final = 900
SHORTEST_READINESS: Final = 1800
LONGEST_READINESS: Final = 10800
"""Seconds a model may take to start: 15 minutes and 18 s per GiB of weights, 30 minutes to 3 hours."""


def pod_template(
    plan: Plan,
    config: WorkspaceConfig,
    adapters: Sequence[AdapterUse],
    sku: GpuSku | None,
    gpus: int,
    selector: Mapping[str, str],
    config_hash: str | None = None,
) -> Object:
    """The pod template.

    `sku` is the machine size in use, `gpus` what one pod asks for, `selector` the workload's labels. `config_hash`
    stands for the contents of the ConfigMap: servers read it when they start, so new contents need new pods.
    """
    labels = {**selector, WORKSPACE_LABEL: plan.name}
    affinity = node_affinity(_alternatives(plan, config), plan.template)
    if plan.template is not None:
        return _users_own(plan.template, labels, affinity)
    assert plan.preset is not None  # a plan has a template or a preset
    workspace = {"name": plan.name, "namespace": plan.namespace}
    volumes, mounts = _volumes(plan, adapters, gpus)
    values = {
        "labels": labels,
        "config_hash": (config_hash or "") if plan.config_map is not None else "",
        "image": plan.preset_options.get("image")
        or f"{config.registry}/{plan.preset.image_name}:{plan.preset.tag}",
        "image_pull_secrets": _pull_secrets(plan, adapters),
        "affinity": affinity,
        "tolerations": tolerations(None),
        "puller_image": f"{config.registry}/puller:{config.puller_tag}",
        "pullers": _pullers(adapters),
        "arguments": _arguments(plan, plan.preset, adapters, sku),
        "gpus": gpus,
        "startup_seconds": startup_seconds(plan.preset),
        "mounts": mounts,
        "volumes": volumes,
    }
    return render("pod", {"workspace": workspace, "pod": values})


def startup_seconds(preset: Preset) -> int:
    """How long the model may take until it answers, in seconds."""
    allowed = FIRST_READINESS + math.ceil(SECONDS_PER_GIB * (preset.weights_gib or 0))
    return max(SHORTEST_READINESS, min(LONGEST_READINESS, allowed))


def _alternatives(plan: Plan, config: WorkspaceConfig) -> list[list[Object]]:
    """The nodes that pods may run on, as alternatives: the user's labels, and on claimed nodes ours.

    With NodePools there are three kinds: those of the pool, those that were claimed before, and such as nobody made for
    a Workspace. Others with the same labels are another Workspace's.
    """
    if config.node_provisioner is NodeProvisioner.BYO:
        required = label_expressions(plan.match_labels)
        return [required] if required else []
    claimed = {WORKSPACE_LABEL: plan.name, WORKSPACE_NAMESPACE_LABEL: plan.namespace}
    before = label_expressions({**plan.match_labels, **claimed})
    if config.node_provisioner.pools is None:
        return [before]
    pooled = {
        KARPENTER_WORKSPACE_LABEL: plan.name,
        KARPENTER_WORKSPACE_NAMESPACE_LABEL: plan.namespace,
    }
    nobodys = [
        {"key": key, "operator": "DoesNotExist"}
        for key in (KARPENTER_WORKSPACE_LABEL, NODEPOOL_LABEL, WORKSPACE_LABEL)
    ]
    return [
        label_expressions({**plan.match_labels, **pooled}),
        before,
        *([[*label_expressions(plan.match_labels), *nobodys]] if plan.match_labels else []),
    ]


def _users_own(template: Object, labels: Mapping[str, str], affinity: Object | None) -> Object:
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    spec = {**(template.get("spec") or {}), "tolerations": tolerations(template)}
    if affinity is not None:
        spec["affinity"] = affinity
    return {**template, "metadata": metadata, "spec": spec}


def _arguments(plan: Plan, preset: Preset, adapters: Sequence[AdapterUse], sku: GpuSku | None) -> list[str]:
    arguments = [
        f"--preset={preset.name}",
        f"--served-model-name={preset.name}",
        f"--weights={WEIGHTS_DIRECTORY}",
    ]
    if preset.gpus and sku is not None and sku.bfloat16 is False:
        arguments.append("--dtype=float16")
    limit = context_limit(preset, sku) if preset.gpus and sku is not None and not plan.distributed else None
    if limit is not None:
        arguments.append(f"--max-model-len={limit}")
    if plan.config_map is not None:
        arguments.append(f"--config={CONFIG_DIRECTORY}/{CONFIG_FILE}")
    if plan.distributed:
        first = f"{plan.name}-0.{headless_name(plan.name)}.{plan.namespace}.svc.cluster.local"
        arguments += [f"--nodes={plan.count}", f"--rendezvous={first}:{RENDEZVOUS_PORT}"]
    if adapters:
        arguments.append(f"--adapters-dir={ADAPTERS_DIRECTORY}")
        arguments += [f"--adapter={use.wanted.name}={use.wanted.strength}" for use in adapters]
    return arguments


def _pullers(adapters: Sequence[AdapterUse]) -> list[Object]:
    return [
        {
            "name": use.wanted.name,
            "container": part_name("puller", use.wanted.name),
            "image": use.source["image"],
            "secrets": [{"name": name, "volume": part_name("docker-config", name)} for name in _secrets(use)],
        }
        for use in adapters
        if use.source is not None and use.source.get("image")
    ]


def _secrets(use: AdapterUse) -> list[str]:
    return list((use.source or {}).get("imagePullSecrets") or ())


def _pull_secrets(plan: Plan, adapters: Sequence[AdapterUse]) -> list[str]:
    names = list(plan.preset_options.get("imagePullSecrets") or ())
    for use in adapters:
        names += _secrets(use)
    return list(dict.fromkeys(names))


def _volumes(plan: Plan, adapters: Sequence[AdapterUse], gpus: int) -> tuple[list[Object], list[Object]]:
    """Volumes of the pod and mounts of the serving container."""
    volumes: list[Object] = []
    mounts: list[Object] = []

    def add(name: str, source: Mapping[str, Any], path: str, *, read_only: bool = False) -> None:
        volumes.append({"name": name, **source})
        mounts.append({"name": name, "path": path, "read_only": read_only})

    if gpus > 1 or plan.distributed:
        add("dshm", {"emptyDir": {"medium": "Memory"}}, "/dev/shm")
    if plan.config_map is not None:
        add("config-volume", {"configMap": {"name": plan.config_map}}, CONFIG_DIRECTORY, read_only=True)
    pullers = _pullers(adapters)
    if pullers:
        add("adapter-volume", {"emptyDir": {}}, ADAPTERS_DIRECTORY)
    for use in adapters:
        source = (use.source or {}).get("volumeSource")
        if source is not None:
            path = f"{ADAPTERS_DIRECTORY}/{use.wanted.name}"
            add(part_name("adapter-volume", use.wanted.name), source, path, read_only=True)
    seen: set[str] = set()
    for puller in pullers:
        for secret in puller["secrets"]:
            if secret["volume"] in seen:
                continue
            seen.add(secret["volume"])
            items = [{"key": ".dockerconfigjson", "path": "config.json"}]
            volumes.append(
                {"name": secret["volume"], "secret": {"secretName": secret["name"], "items": items}}
            )
    return volumes, mounts
