"""The pod template of a Workspace: a preset's, rendered, or the user's own with our labels and tolerations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaito.api.labels import (
    KARPENTER_WORKSPACE_LABEL,
    KARPENTER_WORKSPACE_NAMESPACE_LABEL,
    NODEPOOL_LABEL,
    WORKSPACE_LABEL,
    WORKSPACE_NAMESPACE_LABEL,
)
from kaito.catalog import GpuSku
from kaito.controllers.workspace.config import NodeProvisioner, WorkspaceConfig
from kaito.controllers.workspace.decide.adapters import AdapterUse
from kaito.controllers.workspace.decide.arguments import (
    ADAPTERS_DIRECTORY,
    CONFIG_DIRECTORY,
    serve_arguments,
)
from kaito.controllers.workspace.decide.images import serving_image
from kaito.controllers.workspace.decide.plan import Plan
from kaito.controllers.workspace.decide.podparts import (
    CONTAINER_SECURITY,
    DRAIN,
    LEAVE,
    POD_SECURITY,
    SCRATCH,
    contained,
    neighbours,
    resources,
    spread,
    startup_seconds,
)
from kaito.controllers.workspace.decide.tolerations import label_expressions, node_affinity, tolerations
from kaito.controllers.workspace.decide.weights import docker_config, weights_part
from kaito.controllers.workspace.decide.weights_source import Baked
from kaito.controllers.workspace.model import Object
from kaito.controllers.workspace.names import part_name
from kaito.controllers.workspace.render import render


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
    several = plan.count > 1 and not plan.distributed
    weights = weights_part(plan.weights, plan.preset, config)
    volumes, mounts = _volumes(plan, adapters, gpus)
    there = {each["name"] for each in volumes}
    volumes += [each for each in weights.volumes if each["name"] not in there]
    mounts += weights.mounts
    if plan.distributed:
        affinity = {**(affinity or {}), "podAffinity": neighbours(selector)}
    runtime = plan.choice.runtime if plan.choice is not None else plan.preset.runtime
    values = {
        "labels": labels,
        "config_hash": (config_hash or "") if plan.config_map is not None else "",
        "image": serving_image(
            plan.preset,
            runtime,
            plan.machine or sku,
            config,
            plan.preset_options,
            baked=isinstance(plan.weights, Baked),
        ),
        "image_pull_secrets": _pull_secrets(plan, adapters),
        "affinity": affinity,
        "tolerations": tolerations(None),
        "spread": spread(selector) if several else [],
        "grace": DRAIN + (LEAVE if several else 0),
        "leave": LEAVE if several else 0,
        "security": POD_SECURITY,
        "container_security": CONTAINER_SECURITY,
        "init_containers": [
            contained(each) for each in (*weights.init_containers, *_pullers(adapters, config))
        ],
        "arguments": serve_arguments(plan, plan.preset, adapters, sku),
        "environment": _environment(plan),
        "resources": resources(plan.preset, gpus),
        "startup_seconds": startup_seconds(plan.preset),
        "mounts": mounts,
        "volumes": volumes,
    }
    workspace = {"name": plan.name, "namespace": plan.namespace}
    return render("pod", {"workspace": workspace, "pod": values})


def _environment(plan: Plan) -> list[Object]:
    """Nothing of the server's own: which engine answers, and how, is the image's affair and the command line's."""
    if not plan.distributed:
        return []
    return [
        {
            "name": "POD_INDEX",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}},
        }
    ]


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


def _pullers(adapters: Sequence[AdapterUse], config: WorkspaceConfig) -> list[Object]:
    """Init containers that fetch adapter images."""
    return [
        render(
            "puller",
            {
                "puller": {
                    "container": part_name("puller", use.wanted.name),
                    "image": f"{config.registry}/puller:{config.puller_tag}",
                    "adapter": use.source["image"],
                    "directory": f"{ADAPTERS_DIRECTORY}/{use.wanted.name}",
                    "secrets": [
                        {"name": name, "volume": part_name("docker-config", name)} for name in _secrets(use)
                    ],
                }
            },
        )
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
        mounts.append({"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})})

    add("tmp", {"emptyDir": {}}, SCRATCH)
    if gpus:  # torch's processes hand tensors to one another there, and a container's own has 64 MiB
        add("dshm", {"emptyDir": {"medium": "Memory"}}, "/dev/shm")
    if plan.config_map is not None:
        add("config-volume", {"configMap": {"name": plan.config_map}}, CONFIG_DIRECTORY, read_only=True)
    pulled = [use for use in adapters if (use.source or {}).get("image")]
    if pulled:
        add("adapter-volume", {"emptyDir": {}}, ADAPTERS_DIRECTORY)
    for use in adapters:
        source = (use.source or {}).get("volumeSource")
        if source is not None:
            path = f"{ADAPTERS_DIRECTORY}/{use.wanted.name}"
            add(part_name("adapter-volume", use.wanted.name), source, path, read_only=True)
    secrets = dict.fromkeys(name for use in pulled for name in _secrets(use))
    volumes += [docker_config(secret) for secret in secrets]
    return volumes, mounts
