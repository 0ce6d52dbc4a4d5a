"""The objects that are read: pods as a Deployment makes them, about 8 KB of JSON, and KAITO Workspaces."""

from __future__ import annotations

from typing import Any

NUMBER = "NUMBER"
"""Stands for the object's number in texts of a template."""

Object = dict[str, Any]


def pod_template() -> Object:
    """A pod to be created: the server adds uid, version, times and managed fields, which are near half of it."""
    env = [{"name": f"SETTING_{each}", "value": f"a value of setting {each}, {NUMBER}"} for each in range(24)]
    mounts = [{"name": f"volume-{each}", "mountPath": f"/mnt/{each}"} for each in range(10)]
    container = {
        "name": "main",
        "image": "registry.example.com/team/worker:1.2.3",
        "args": [f"--option-{each}={NUMBER}" for each in range(14)],
        "env": env,
        "ports": [{"containerPort": 5000, "protocol": "TCP"}],
        "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "16Gi"}, "requests": {"cpu": "4"}},
        "volumeMounts": mounts,
    }
    labels = {
        "app.kubernetes.io/name": "worker",
        "app.kubernetes.io/instance": f"worker-{NUMBER}",
        "app.kubernetes.io/version": "1.2.3",
        "pod-template-hash": "7d9f8c6b5d",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"worker-{NUMBER}",
            "namespace": "default",
            "labels": {"app": "worker", **labels},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "5000"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": "worker",
                    "uid": "00000000-0000-0000-0001-000000000000",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "nodeName": "node-0",
            "containers": [container],
            "volumes": [{"name": f"volume-{each}", "emptyDir": {}} for each in range(10)],
            "tolerations": [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
        },
    }


def workspace_template() -> Object:
    """A Workspace as KAITO's examples write them, with two adapters."""
    adapters = [
        {"source": {"name": f"adapter-{each}", "image": f"registry.example.com/adapters/{each}:0.0.1"}}
        for each in range(2)
    ]
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {
            "name": f"workspace-{NUMBER}",
            "namespace": "default",
            "labels": {"app": "llm", "example.com/team": f"team-{NUMBER}"},
            "annotations": {"example.com/note": "a note of some length " * 4},
        },
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4",
            "labelSelector": {"matchLabels": {"apps": f"llm-{NUMBER}"}},
        },
        "inference": {"preset": {"name": "phi-4-mini-instruct"}, "adapters": adapters},
    }


def served_pod(number: int, version: int, event: str = "") -> Object:
    """The pod as a server shows it. `event` fills an annotation of six characters."""
    text = f"{number:06d}"
    pod: Object = _filled(pod_template(), text)
    pod["metadata"] |= {
        "uid": f"00000000-0000-0000-0000-{number:012d}",
        "resourceVersion": f"{version:09d}",
        "creationTimestamp": "2026-11-21T13:00:00Z",
        "managedFields": [_managed_fields(pod)],
    }
    pod["metadata"]["annotations"]["example.com/event"] = event or "000000"
    pod["status"] = _status(pod)
    return pod


def _status(pod: Object) -> Object:
    condition = {"lastProbeTime": None, "lastTransitionTime": "2026-11-21T13:00:00Z", "status": "True"}
    container = {
        "name": "main",
        "image": pod["spec"]["containers"][0]["image"],
        "imageID": "registry.example.com/team/worker@sha256:" + "0" * 64,
        "ready": True,
        "restartCount": 0,
        "started": True,
        "state": {"running": {"startedAt": "2026-11-21T13:00:00Z"}},
    }
    return {
        "phase": "Running",
        "podIP": "10.244.0.1",
        "hostIP": "10.0.0.1",
        "conditions": [{"type": each, **condition} for each in ("Initialized", "Ready", "PodScheduled")],
        "containerStatuses": [container],
        "qosClass": "Burstable",
    }


def _managed_fields(pod: Object) -> Object:
    metadata, spec = pod["metadata"], pod["spec"]
    env: Object = {
        f'k:{{"name":"{each["name"]}"}}': {".": {}, "f:name": {}, "f:value": {}}
        for each in spec["containers"][0]["env"]
    }
    mounts: Object = {
        f'k:{{"mountPath":"{each["mountPath"]}"}}': {".": {}, "f:mountPath": {}, "f:name": {}}
        for each in spec["containers"][0]["volumeMounts"]
    }
    fields = {
        "f:metadata": {
            "f:annotations": {f"f:{name}": {} for name in metadata["annotations"]},
            "f:labels": {f"f:{name}": {} for name in metadata["labels"]},
        },
        "f:spec": {"f:containers": {'k:{"name":"main"}': {"f:env": env, "f:volumeMounts": mounts}}},
    }
    return {
        "manager": "bench",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-11-21T13:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _filled(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return value.replace(NUMBER, text)
    if isinstance(value, list):
        return [_filled(each, text) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, text) for key, each in value.items()}
    return value
