"""Namespaces, Nodes, Events, configuration, storage, access: everything that is not a workload or the network."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kaito.embedded.apiserver.strategy import Object
from kaito.embedded.apiserver.tables.durations import age
from kaito.embedded.apiserver.tables.printer import (
    NAME,
    Cells,
    Printer,
    age_of,
    columns,
    dig,
    joined,
    name_of,
)

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"
_ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _namespace(obj: Object, now: datetime) -> Cells:
    return [name_of(obj), dig(obj, "status", "phase", default=""), age_of(obj, now)]


def _node_status(obj: Object) -> str:
    conditions = dig(obj, "status", "conditions", default=[])
    ready = next((each.get("status") for each in conditions if each.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"]
    if dig(obj, "spec", "unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node(obj: Object, now: datetime) -> Cells:
    labels = obj["metadata"].get("labels") or {}
    roles = {key[len(_ROLE_PREFIX) :] for key in labels if key.startswith(_ROLE_PREFIX)}
    roles |= {labels[_ROLE_LABEL]} if labels.get(_ROLE_LABEL) else set()
    addresses = dig(obj, "status", "addresses", default=[])
    info = dig(obj, "status", "nodeInfo", default={})

    def address(kind: str) -> str:
        return next((each.get("address", "") for each in addresses if each.get("type") == kind), "<none>")

    return [
        name_of(obj),
        _node_status(obj),
        joined(sorted(role for role in roles if role)),
        age_of(obj, now),
        info.get("kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _either(event: Object, field: str) -> Any:
    """A field by its core name, or by the one it has in events.k8s.io."""
    return event.get(field) or event.get(f"deprecated{field[0].upper()}{field[1:]}")


def _event_last_seen(obj: Object, now: datetime) -> str:
    stamp = _either(obj, "lastTimestamp") or dig(obj, "series", "lastObservedTime") or obj.get("eventTime")
    count = dig(obj, "series", "count") or _either(obj, "count") or 1
    first = _either(obj, "firstTimestamp") or obj.get("eventTime")
    text = age(stamp, now)
    return f"{text} (x{count} over {age(first, now)})" if count > 1 and first else text


def _event(obj: Object, now: datetime) -> Cells:
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    target = (
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"
        if about.get("name")
        else str(about.get("kind", "")).lower()
    )
    source = _either(obj, "source") or {}
    component = (
        source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    )
    host = source.get("host") or obj.get("reportingInstance") or ""
    return [
        _event_last_seen(obj, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        target,
        about.get("fieldPath", ""),
        f"{component}, {host}" if component and host else component or host,
        str(obj.get("message") or obj.get("note") or "").strip(),
        age(_either(obj, "firstTimestamp") or obj.get("eventTime"), now),
        dig(obj, "series", "count") or _either(obj, "count") or 1,
        name_of(obj),
    ]


def _config_map(obj: Object, now: datetime) -> Cells:
    return [name_of(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age_of(obj, now)]


def _secret(obj: Object, now: datetime) -> Cells:
    return [name_of(obj), obj.get("type", ""), len(obj.get("data") or {}), age_of(obj, now)]


def _service_account(obj: Object, now: datetime) -> Cells:
    return [name_of(obj), len(obj.get("secrets") or []), age_of(obj, now)]


def _lease(obj: Object, now: datetime) -> Cells:
    return [name_of(obj), dig(obj, "spec", "holderIdentity", default=""), age_of(obj, now)]


def _crd(obj: Object, _now: datetime) -> Cells:
    # The one builtin kind whose table shows the creation time itself.
    return [name_of(obj), obj["metadata"].get("creationTimestamp", "")]


def _modes(spec: dict[str, Any]) -> str:
    return joined([_ACCESS_MODES.get(mode, mode) for mode in spec.get("accessModes") or []], none="")


def _claim(obj: Object, now: datetime) -> Cells:
    spec = dig(obj, "spec", default={})
    bound = bool(spec.get("volumeName"))
    phase = (
        "Terminating" if obj["metadata"].get("deletionTimestamp") else dig(obj, "status", "phase", default="")
    )
    return [
        name_of(obj),
        phase,
        spec.get("volumeName", ""),
        dig(obj, "status", "capacity", "storage", default="") if bound else "",
        _modes(spec) if bound else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or "<unset>",
        age_of(obj, now),
        spec.get("volumeMode", "<unset>"),
    ]


def _volume(obj: Object, now: datetime) -> Cells:
    spec, claim = dig(obj, "spec", default={}), dig(obj, "spec", "claimRef", default={})
    return [
        name_of(obj),
        dig(spec, "capacity", "storage", default=""),
        _modes(spec),
        spec.get("persistentVolumeReclaimPolicy", ""),
        dig(obj, "status", "phase", default=""),
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        spec.get("storageClassName", ""),
        dig(obj, "status", "reason", default=""),
        age_of(obj, now),
    ]


def _volume_attachment(obj: Object, now: datetime) -> Cells:
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        spec.get("attacher", ""),
        dig(spec, "source", "persistentVolumeName", default=""),
        spec.get("nodeName", ""),
        dig(obj, "status", "attached", default=False),
        age_of(obj, now),
    ]


def _storage_class(obj: Object, now: datetime) -> Cells:
    default = dig(obj, "metadata", "annotations", "storageclass.kubernetes.io/is-default-class") == "true"
    return [
        f"{name_of(obj)} (default)" if default else name_of(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "<unset>",
        bool(obj.get("allowVolumeExpansion")),
        age_of(obj, now),
    ]


def _created(obj: Object, _now: datetime) -> Cells:
    return [name_of(obj), obj["metadata"].get("creationTimestamp", "")]


def _binding(obj: Object, now: datetime) -> Cells:
    ref = obj.get("roleRef") or {}
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for each in obj.get("subjects") or []:
        name = (
            f"{each.get('namespace')}/{each.get('name')}" if each.get("namespace") else each.get("name", "")
        )
        by_kind.setdefault(each.get("kind", ""), []).append(name)
    return [
        name_of(obj),
        f"{ref.get('kind')}/{ref.get('name')}",
        age_of(obj, now),
        joined(by_kind["User"], none=""),
        joined(by_kind["Group"], none=""),
        joined(by_kind["ServiceAccount"], none=""),
    ]


def _disruption_budget(obj: Object, now: datetime) -> Cells:
    spec, status = dig(obj, "spec", default={}), dig(obj, "status", default={})
    return [
        name_of(obj),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        status.get("disruptionsAllowed") or 0,
        age_of(obj, now),
    ]


def _priority_class(obj: Object, now: datetime) -> Cells:
    return [
        name_of(obj),
        obj.get("value") or 0,
        bool(obj.get("globalDefault")),
        age_of(obj, now),
        obj.get("preemptionPolicy") or "PreemptLowerPriority",
    ]


PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "Namespace"): Printer(columns("Name|Status|Age"), _namespace),
    ("", "Node"): Printer(
        columns(
            "Name|Status|Roles|Age|Version|*Internal-IP|*External-IP|*OS-Image|*Kernel-Version|*Container-Runtime"
        ),
        _node,
    ),
    ("", "Event"): Printer(
        columns("Last Seen|Type|Reason|Object|*Subobject|*Source|Message|*First Seen|*Count|*Name"), _event
    ),
    ("", "ConfigMap"): Printer(columns("Name|Data|Age"), _config_map),
    ("", "Secret"): Printer(columns("Name|Type|Data|Age"), _secret),
    ("", "ServiceAccount"): Printer(columns("Name|Secrets|Age"), _service_account),
    ("", "PersistentVolumeClaim"): Printer(
        columns(
            "Name|Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|*VolumeMode"
        ),
        _claim,
    ),
    ("", "PersistentVolume"): Printer(
        columns("Name|Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|Reason|Age"),
        _volume,
    ),
    ("coordination.k8s.io", "Lease"): Printer(columns("Name|Holder|Age"), _lease),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Printer(columns("Name|Created At"), _crd),
    ("storage.k8s.io", "VolumeAttachment"): Printer(
        [NAME, {**NAME, "name": "Attacher"}, *columns("PV|Node|?Attached|Age")], _volume_attachment
    ),
    ("storage.k8s.io", "StorageClass"): Printer(
        columns("Name|Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"), _storage_class
    ),
    ("rbac.authorization.k8s.io", "Role"): Printer(columns("Name|Created At"), _created),
    ("rbac.authorization.k8s.io", "ClusterRole"): Printer(columns("Name|Created At"), _created),
    ("rbac.authorization.k8s.io", "RoleBinding"): Printer(
        columns("Name|Role|Age|*Users|*Groups|*ServiceAccounts"), _binding
    ),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): Printer(
        columns("Name|Role|Age|*Users|*Groups|*ServiceAccounts"), _binding
    ),
    ("policy", "PodDisruptionBudget"): Printer(
        columns("Name|Min Available|Max Unavailable|#Allowed Disruptions|Age"), _disruption_budget
    ),
    ("scheduling.k8s.io", "PriorityClass"): Printer(
        columns("Name|#Value|?Global-Default|Age|PreemptionPolicy"), _priority_class
    ),
}
# Both groups serve the same events.
PRINTERS["events.k8s.io", "Event"] = PRINTERS["", "Event"]
