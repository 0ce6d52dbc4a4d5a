"""Namespaces, configuration, events, RBAC data and other small kinds."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from kaito.embedded.apiserver.kinds import checks, names, quantity
from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.kinds.metadata import IMMUTABLE
from kaito.embedded.apiserver.kinds.normalise import fill_defaults
from kaito.embedded.apiserver.strategy import FORBIDDEN, INVALID, REQUIRED, TOO_LONG, FieldError, Object

MAX_DATA = 1024 * 1024
"""Bytes in one ConfigMap or Secret (Kubernetes' MaxSecretSize)."""
_SECRET_KEYS: Mapping[str, tuple[str, ...]] = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


class NamespaceStrategy(BuiltinStrategy):
    """Namespaces. `spec.finalizers` changes through the finalize subresource only."""

    def default(self, obj: Object, old: Object | None) -> None:
        # A name that the server makes is not there yet when Kubernetes sets its defaults.
        if old is not None or not obj["metadata"].get("generateName"):
            self._label(obj)

    def created(self, obj: Object) -> None:
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
        self._label(obj)

    def updated(self, new: Object, old: Object) -> None:
        new["spec"] = old.get("spec", {})

    @staticmethod
    def _label(obj: Object) -> None:
        labels = obj["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")


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
        return errors + self._check_type(obj, data)

    @staticmethod
    def _check_type(obj: Object, data: Object) -> list[FieldError]:
        kind = obj.get("type")
        if kind == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
            return [FieldError(f"data[{key}]", REQUIRED) for key in ("username", "password")]
        account = "kubernetes.io/service-account.name"
        if kind == "kubernetes.io/service-account-token":
            annotations = obj["metadata"].get("annotations") or {}
            if not annotations.get(account):
                return [FieldError(f"metadata.annotations[{account}]", REQUIRED)]
        for key in (".dockerconfigjson", ".dockercfg"):
            if kind == f"kubernetes.io/{key[1:]}" and key in data:
                try:
                    orjson.loads(base64.b64decode(data[key]))
                except orjson.JSONDecodeError as error:
                    return [FieldError(f"data[{key}]", INVALID, str(error), "<secret contents redacted>")]
        return []

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

    def validate(self, new: Object, old: Object | None = None, subresource: str = "") -> list[FieldError]:
        errors = super().validate(new, old, subresource)
        if self.storage is self.resource:
            return errors
        return errors + (self._check_new(new) if old is None else self._check_fixed(new, old))

    @staticmethod
    def _check_new(obj: Object) -> list[FieldError]:
        """What events.k8s.io asks of a new Event; the core group asks for nothing of it."""
        errors: list[FieldError] = []
        for name in ("eventTime", "reportingController", "reportingInstance", "action", "reason"):
            errors += checks.required(obj.get(name), name)
        if obj.get("reportingController"):
            errors += checks.syntax(obj["reportingController"], names.qualified_name, "reportingController")
        return errors + checks.one_of(obj.get("type", ""), ("Normal", "Warning"), "type")

    @staticmethod
    def _check_fixed(new: Object, old: Object) -> list[FieldError]:
        """An Event of events.k8s.io is told again by its series only."""
        free = ("metadata", "series", "deprecatedCount", "deprecatedLastTimestamp")
        return [
            FieldError(name, INVALID, IMMUTABLE, new.get(name))
            for name in sorted(new.keys() | old.keys())
            if name not in free and (new.get(name) or None) != (old.get(name) or None)
        ]

    def to_storage(self, obj: Object) -> Object:
        return self._translate(obj, _EVENT_FIELDS, self.storage.api_version)

    def from_storage(self, obj: Object) -> Object:
        return self._translate(obj, _CORE_EVENT_FIELDS, self.resource.api_version)

    def _translate(self, obj: Object, table: Mapping[str, str], api_version: str) -> Object:
        if self.storage is self.resource:
            return obj
        # What the core group always writes the other leaves out where it is empty.
        obj = {key: value for key, value in obj.items() if value != "" or not key.startswith("reporting")}
        return {**{table.get(key, key): value for key, value in obj.items()}, "apiVersion": api_version}


class LeaseStrategy(BuiltinStrategy):
    """Leases. The fields of coordinated leader election are dropped, as by a cluster that has it off (the default)."""

    def default(self, obj: Object, old: Object | None) -> None:
        for name in ("preferredHolder", "strategy"):
            obj["spec"].pop(name, None)

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

    def prepare_create(self, obj: Object) -> None:
        # A kubelet registers itself together with its status.
        status = obj.get("status")
        super().prepare_create(obj)
        if status:
            obj["status"] = status
            fill_defaults(obj, self.type)
        self._default_allocatable(obj)

    def prepare_status_update(self, new: Object, old: Object) -> None:
        super().prepare_status_update(new, old)
        self._default_allocatable(new)

    @staticmethod
    def _default_allocatable(obj: Object) -> None:
        status = obj["status"]
        if status.get("capacity"):
            status["allocatable"] = {**status["capacity"], **(status.get("allocatable") or {})}

    def default(self, obj: Object, old: Object | None) -> None:
        spec = obj["spec"]
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec["podCIDRs"] = [spec["podCIDR"]]

    def check(self, obj: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        seen: set[tuple[Any, Any]] = set()
        for index, taint in enumerate(obj["spec"].get("taints") or ()):
            here = f"metadata.taints[{index}]"
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
        errors: list[FieldError] = []
        for name, path in (("podCIDRs", "spec.podCIDRs"), ("providerID", "spec.providerID")):
            before = old["spec"].get(name)
            after = new["spec"].get(name)
            if name == "podCIDRs" and new["spec"].get("podCIDR", "") not in ("", *(after or ())):
                after = [new["spec"]["podCIDR"]]
            if before and before != after:
                text = f'node updates may not change {name} except from "" to valid'
                errors.append(FieldError(path, FORBIDDEN, text))
        return errors


class RoleStrategy(BuiltinStrategy):
    """Roles and ClusterRoles: data only, nothing here is authorized by them."""

    def default(self, obj: Object, old: Object | None) -> None:
        obj.setdefault("rules", None)

    def check(self, obj: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        for index, rule in enumerate(obj.get("rules") or ()):
            here = f"rules[{index}]"
            if not rule.get("verbs"):
                errors.append(FieldError(f"{here}.verbs", REQUIRED, "verbs must contain at least one value"))
            if rule.get("nonResourceURLs"):
                if self.resource.namespaced:
                    text = "namespaced rules cannot apply to non-resource URLs"
                    errors.append(
                        FieldError(f"{here}.nonResourceURLs", INVALID, text, rule["nonResourceURLs"])
                    )
                continue
            errors += [
                FieldError(f"{here}.{name}", REQUIRED, "resource rules must supply at least one")
                for name in ("apiGroups", "resources")
                if not rule.get(name)
            ]
        return errors


class RoleBindingStrategy(BuiltinStrategy):
    """Bindings of roles: data only."""

    def default(self, obj: Object, old: Object | None) -> None:
        references = [obj["roleRef"]]
        references += [item for item in obj.get("subjects") or () if item.get("kind") in ("User", "Group")]
        for reference in references:
            reference["apiGroup"] = reference.get("apiGroup") or "rbac.authorization.k8s.io"

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

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        if new.get("addressType") == old.get("addressType"):
            return []
        return [FieldError("addressType", INVALID, IMMUTABLE, new.get("addressType"))]


class PriorityClassStrategy(BuiltinStrategy):
    """PriorityClasses: data only, nothing here preempts."""

    def desired(self, obj: Object) -> Any:
        return {key: value for key, value in obj.items() if key != "metadata"}

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        return [
            FieldError(
                name, INVALID if name == "preemptionPolicy" else FORBIDDEN, "may not be changed in an update."
            )
            for name in ("value", "preemptionPolicy")
            if new.get(name) != old.get(name)
        ]


class ClaimStrategy(BuiltinStrategy):
    """PersistentVolumeClaims: data only."""

    def created(self, obj: Object) -> None:
        obj["status"] = {"phase": "Pending"}

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        errors = checks.required(
            spec.get("accessModes"), "spec.accessModes", "at least 1 access mode is required"
        )
        modes = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
        errors += [
            error
            for mode in spec.get("accessModes") or ()
            for error in checks.one_of(mode, modes, "spec.accessModes")
        ]
        size = (spec["resources"].get("requests") or {}).get("storage")
        if size is None:
            errors.append(FieldError("spec.resources[storage]", REQUIRED))
        elif quantity.parse(size) <= 0:
            errors.append(FieldError("spec.resources[storage]", INVALID, "must be greater than zero", size))
        return errors

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        free = ("resources", "volumeName", "volumeAttributesClassName")
        kept = [{key: value for key, value in obj["spec"].items() if key not in free} for obj in (new, old)]
        named = old["spec"].get("volumeName") or new["spec"].get("volumeName")
        if kept[0] == kept[1] and named == new["spec"].get("volumeName"):
            return []
        text = "spec is immutable after creation except resources.requests and volumeAttributesClassName"
        return [FieldError("spec", FORBIDDEN, text)]


class StorageClassStrategy(BuiltinStrategy):
    """StorageClasses: data only; all that says how volumes are made is fixed."""

    def check(self, obj: Object) -> list[FieldError]:
        errors = checks.required(obj.get("provisioner"), "provisioner")
        errors += checks.one_of(obj.get("reclaimPolicy"), ("Delete", "Retain"), "reclaimPolicy")
        modes = ("Immediate", "WaitForFirstConsumer")
        return errors + checks.one_of(obj.get("volumeBindingMode"), modes, "volumeBindingMode")

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        if (new.get("parameters") or {}) != (old.get("parameters") or {}):
            errors.append(FieldError("parameters", FORBIDDEN, "updates to parameters are forbidden."))
        if new.get("provisioner") != old.get("provisioner"):
            errors.append(FieldError("provisioner", FORBIDDEN, "updates to provisioner are forbidden."))
        if new.get("reclaimPolicy") != old.get("reclaimPolicy"):
            errors.append(FieldError("reclaimPolicy", FORBIDDEN, "updates to reclaimPolicy are forbidden."))
        if new.get("volumeBindingMode") != old.get("volumeBindingMode"):
            value = new.get("volumeBindingMode")
            errors.append(FieldError("volumeBindingMode", INVALID, IMMUTABLE, value))
        return errors


class VolumeAttachmentStrategy(BuiltinStrategy):
    """VolumeAttachments: which volume is wanted on which node never changes."""

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj.get("spec") or {}
        attacher, node = spec.get("attacher") or "", spec.get("nodeName") or ""
        # Kubernetes asks for the attacher in two places.
        errors = 2 * checks.required(attacher, "spec.attacher")
        errors += checks.syntax(attacher.lower(), names.dns_subdomain, "spec.attacher")
        errors += checks.syntax(node, names.dns_subdomain, "spec.nodeName")
        if len(spec.get("source") or {}) != 1:
            text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
            errors.append(FieldError("spec.source", REQUIRED, text))
        return errors

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        if new.get("spec") == old.get("spec"):
            return []
        return [FieldError("spec", INVALID, IMMUTABLE, new.get("spec"))]
