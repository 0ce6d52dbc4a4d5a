"""Pods: immutable once made, save for images, tolerations and the deadline."""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.kinds.poddefaults import admit_pod, default_pod, default_pod_spec, qos_class
from kaito.embedded.apiserver.kinds.podspec import validate_pod_spec
from kaito.embedded.apiserver.strategy import FORBIDDEN, INVALID, FieldError, Object

_IMMUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MUTABLE = ("activeDeadlineSeconds", "tolerations", "schedulingGates")


class PodStrategy(BuiltinStrategy):
    """Pods. `spec.nodeName` is set through the binding subresource, which skips these rules."""

    status_metadata = ("labels", "annotations")

    def default(self, obj: Object, old: Object | None) -> None:
        default_pod_spec(obj["spec"])
        default_pod(obj)

    def created(self, obj: Object) -> None:
        admit_pod(obj)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}

    def updated(self, new: Object, old: Object) -> None:
        for name in ("serviceAccountName", "serviceAccount", "priority", "preemptionPolicy", "nodeName"):
            if name in old["spec"]:
                new["spec"].setdefault(name, old["spec"][name])

    def prepare_status_update(self, new: Object, old: Object) -> None:
        super().prepare_status_update(new, old)
        new["status"].setdefault("qosClass", qos_class(new["spec"]))

    def check(self, obj: Object) -> list[FieldError]:
        return validate_pod_spec(obj["spec"], "spec")

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        for group in ("containers", "initContainers"):
            if len(new["spec"].get(group) or ()) != len(old["spec"].get(group) or ()):
                text = "pod updates may not add or remove containers"
                return [FieldError(f"spec.{group}", FORBIDDEN, text)]
        errors += self._deadline(new["spec"], old["spec"])
        kept = [_plain(item) for item in old["spec"].get("tolerations") or ()]
        now = [_plain(item) for item in new["spec"].get("tolerations") or ()]
        if not all(item in now for item in kept):
            text = "existing toleration can not be modified except its tolerationSeconds"
            errors.append(FieldError("spec.tolerations", FORBIDDEN, text))
        if _frozen(new["spec"]) != _frozen(old["spec"]):
            errors.append(FieldError("spec", FORBIDDEN, _IMMUTABLE))
        return errors

    def _deadline(self, new: Object, old: Object) -> list[FieldError]:
        path = "spec.activeDeadlineSeconds"
        before, after = old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds")
        if before is None or before == after:
            return []
        if after is None:
            return [FieldError(path, INVALID, "must not update from a positive integer to nil value", None)]
        if after > before:
            return [FieldError(path, INVALID, "must be less than or equal to previous value", after)]
        return []


def _plain(toleration: Object) -> Object:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _frozen(spec: Object) -> dict[str, Any]:
    result = {key: value for key, value in spec.items() if key not in _MUTABLE}
    for group in ("containers", "initContainers"):
        if group in spec:
            result[group] = [{**container, "image": ""} for container in spec[group]]
    return result
