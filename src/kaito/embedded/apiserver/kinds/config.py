"""Namespaces, configuration, events, RBAC data and other small kinds."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from kaito.embedded.apiserver.kinds import checks, names
from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.kinds.metadata import IMMUTABLE
from kaito.embedded.apiserver.strategy import FORBIDDEN, INVALID, REQUIRED, TOO_LONG, FieldError, Object

MAX_DATA = 1024 * 1024
"""Bytes in one ConfigMap or Secret (Kubernetes' MaxSecretSize)."""
_SECRET_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


class NamespaceStrategy(BuiltinStrategy):
    """Namespaces. `spec.finalizers` changes through the finalize subresource only."""

    def created(self, obj: Object) -> None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
        labels = obj["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")

    def updated(self, new: Object, old: Object) -> None:
        new["spec"] = old.get("spec", {})
        labels = new["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = new["metadata"].get("name", "")


class ConfigMapStrategy(BuiltinStrategy):
    """ConfigMaps."""

    def check(self, obj: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        for path, values in (("data", data), ("binaryData", binary)):
            for key in values:
                errors += checks.syntax(key, names.config_key, f"{path}[{key}]")
                if path == "data" and key in binary:
                    text = "duplicate of key present in binaryData"
                    errors.append(FieldError(f"data[{key}]", INVALID, text, key))
        size = sum(len(value) for value in data.values()) + sum(
            len(value) * 3 // 4 for value in binary.values()
        )
        if size > MAX_DATA:
            errors.append(FieldError("", TOO_LONG, f"may not be more than {MAX_DATA} bytes"))
        return errors

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        return _check_frozen(new, old, ("data", "binaryData"))


class SecretStrategy(BuiltinStrategy):
    """Secrets: `stringData` is written into `data` and never stored."""

    def default(self, obj: Object, old: Object | None) -> None:
        for key, value in (obj.pop("stringData", None) or {}).items():
            obj.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()

    def check(self, obj: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        data = obj.get("data") or {}
        for key in data:
            errors += checks.syntax(key, names.config_key, f"data[{key}]")
        if sum(len(value) * 3 // 4 for value in data.values()) > MAX_DATA:
            errors.append(FieldError("data", TOO_LONG, f"may not be more than {MAX_DATA} bytes"))
        errors += [
            FieldError(f"data[{key}]", REQUIRED)
            for key in _SECRET_KEYS.get(obj.get("type", ""), ())
            if key not in data
        ]
        return errors

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        errors = _check_frozen(new, old, ("data",))
        if new.get("type") != old.get("type"):
            errors.append(FieldError("type", INVALID, IMMUTABLE, new.get("type")))
        return errors


def _check_frozen(new: Object, old: Object, fields: tuple[str, ...]) -> list[FieldError]:
    if not old.get("immutable"):
        return []
    text = "field is immutable when `immutable` is set"
    errors = [] if new.get("immutable") else [FieldError("immutable", FORBIDDEN, text)]
    return errors + [
        FieldError(name, FORBIDDEN, text) for name in fields if (new.get(name) or {}) != (old.get(name) or {})
    ]


_EVENT_FIELDS: Mapping[str, str] = {
    "note": "message",
    "regarding": "involvedObject",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
"""events.k8s.io/v1 name -> core/v1 name; the other fields have the same name in both."""
_CORE_EVENT_FIELDS = {core: new for new, core in _EVENT_FIELDS.items()}


class EventStrategy(BuiltinStrategy):
    """Events of the core group and of events.k8s.io, which are the same stored objects."""

    def check(self, obj: Object) -> list[FieldError]:
        about = "regarding" if "regarding" in obj else "involvedObject"
        namespace = (obj.get(about) or {}).get("namespace", "")
        wanted = obj["metadata"].get("namespace", "")
        if namespace == wanted or (not namespace and wanted == "default"):
            return []
        text = "does not match event.namespace"
        return [FieldError("involvedObject.namespace", INVALID, text, namespace)]

    def to_storage(self, obj: Object) -> Object:
        return self._translate(obj, _EVENT_FIELDS, self.storage.api_version)

    def from_storage(self, obj: Object) -> Object:
        return self._translate(obj, _CORE_EVENT_FIELDS, self.resource.api_version)

    def _translate(self, obj: Object, table: Mapping[str, str], api_version: str) -> Object:
        if self.storage is self.resource:
            return obj
        return {**{table.get(key, key): value for key, value in obj.items()}, "apiVersion": api_version}


class LeaseStrategy(BuiltinStrategy):
    """Leases."""

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        errors = checks.non_negative(transitions, "spec.leaseTransitions")
        if seconds is not None and seconds <= 0:
            errors.append(FieldError("spec.leaseDurationSeconds", INVALID, "must be greater than 0", seconds))
        return errors


class NodeStrategy(BuiltinStrategy):
    """Nodes: written by the provisioner, their status by the kubelet."""

    status_metadata = ("labels", "annotations")

    def check(self, obj: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        seen: set[tuple[Any, Any]] = set()
        for index, taint in enumerate(obj["spec"].get("taints") or ()):
            here = f"spec.taints[{index}]"
            errors += checks.required_name(taint.get("key"), names.qualified_name, f"{here}.key")
            errors += checks.syntax(taint.get("value", ""), names.label_value, f"{here}.value")
            effects = ("NoExecute", "NoSchedule", "PreferNoSchedule")
            errors += checks.one_of(taint.get("effect"), effects, f"{here}.effect")
            key = (taint.get("key"), taint.get("effect"))
            if key in seen:
                text = "taints must be unique by key and effect pair"
                errors.append(FieldError(here, "Duplicate value", text, taint))
            seen.add(key)
        return errors

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        before, after = old["spec"].get("providerID"), new["spec"].get("providerID")
        if before and before != after:
            text = 'node updates may not change providerID except from "" to valid'
            return [FieldError("spec.providerID", FORBIDDEN, text)]
        return []


class RoleStrategy(BuiltinStrategy):
    """Roles and ClusterRoles: data only, nothing here is authorized by them."""

    def check(self, obj: Object) -> list[FieldError]:
        return [
            FieldError(f"rules[{index}].verbs", REQUIRED, "verbs must contain at least one value")
            for index, rule in enumerate(obj.get("rules") or ())
            if not rule.get("verbs")
        ]


class RoleBindingStrategy(BuiltinStrategy):
    """Bindings of roles: data only."""

    def default(self, obj: Object, old: Object | None) -> None:
        obj["roleRef"].setdefault("apiGroup", "rbac.authorization.k8s.io")
        for subject in obj.get("subjects") or ():
            if subject.get("kind") in ("User", "Group"):
                subject.setdefault("apiGroup", "rbac.authorization.k8s.io")

    def check(self, obj: Object) -> list[FieldError]:
        ref = obj["roleRef"]
        errors = checks.required(ref.get("name"), "roleRef.name")
        roles = ["ClusterRole", "Role"] if self.resource.namespaced else ["ClusterRole"]
        errors += checks.one_of(ref.get("kind"), roles, "roleRef.kind")
        for index, subject in enumerate(obj.get("subjects") or ()):
            errors += checks.required(subject.get("name"), f"subjects[{index}].name")
            kinds = ("Group", "ServiceAccount", "User")
            errors += checks.one_of(subject.get("kind"), kinds, f"subjects[{index}].kind")
        return errors

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        if new["roleRef"] == old["roleRef"]:
            return []
        return [FieldError("roleRef", INVALID, "cannot change roleRef", new["roleRef"])]


class EndpointSliceStrategy(BuiltinStrategy):
    """EndpointSlices."""

    def check(self, obj: Object) -> list[FieldError]:
        errors = checks.one_of(obj.get("addressType"), ("FQDN", "IPv4", "IPv6"), "addressType")
        for index, endpoint in enumerate(obj.get("endpoints") or ()):
            errors += checks.required(endpoint.get("addresses"), f"endpoints[{index}].addresses")
        return errors


class ClaimStrategy(BuiltinStrategy):
    """PersistentVolumeClaims: data only."""

    def created(self, obj: Object) -> None:
        obj["status"] = {"phase": "Pending"}

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        errors = checks.required(
            spec.get("accessModes"), "spec.accessModes", "at least 1 access mode is required"
        )
        if "storage" not in (spec["resources"].get("requests") or {}):
            errors.append(FieldError("spec.resources[storage]", REQUIRED))
        return errors
