"""Pods: immutable once made, save for images, tolerations and the deadline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.kinds.poddefaults import (
    PRIORITIES,
    admit_pod,
    admit_tolerations,
    default_pod,
    default_pod_spec,
    qos_class,
)
from kaito.embedded.apiserver.kinds.podspec import validate_pod_spec
from kaito.embedded.apiserver.strategy import FORBIDDEN, INVALID, FieldError, Object
from kaito.runtime.resources import Resource

_IMMUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MUTABLE = ("activeDeadlineSeconds", "tolerations", "schedulingGates")


class PodStrategy(BuiltinStrategy):
    """Pods. `spec.nodeName` is set through the binding subresource, which skips these rules."""

    status_metadata = ("labels", "annotations")

    def __init__(
        self,
        resource: Resource,
        priority_of: Callable[[str], int | None] = PRIORITIES.get,
        *,
        generation: bool = False,
        short_names: Sequence[str] = (),
        categories: Sequence[str] = (),
        subresources: Sequence[str] = (),
        selectable_fields: Sequence[str] = (),
    ) -> None:
        """`priority_of` gives the value of a priority class by its name, None if there is no such class."""
        super().__init__(
            resource,
            generation=generation,
            short_names=short_names,
            categories=categories,
            subresources=subresources,
            selectable_fields=selectable_fields,
        )
        self._priority_of = priority_of

    def default(self, obj: Object, old: Object | None) -> None:
        default_pod_spec(obj["spec"])
        default_pod(obj)

    def created(self, obj: Object) -> None:
        admit_pod(obj, self._priority_of)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}
        if obj["spec"].get("schedulingGates"):
            obj["status"]["conditions"] = [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "lastProbeTime": None,
                    "lastTransitionTime": obj["metadata"].get("creationTimestamp"),
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }
            ]

    def updated(self, new: Object, old: Object) -> None:
        admit_tolerations(new["spec"])
        for name in ("serviceAccountName", "serviceAccount", "priority", "preemptionPolicy", "nodeName"):
            if name in old["spec"]:
                new["spec"].setdefault(name, old["spec"][name])

    def prepare_status_update(self, new: Object, old: Object) -> None:
        super().prepare_status_update(new, old)
        status = new["status"]
        status.setdefault("qosClass", qos_class(new["spec"]))
        if status.get("podIP") and not status.get("podIPs"):
            status["podIPs"] = [{"ip": status["podIP"]}]

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
        gated = bool(old["spec"].get("schedulingGates"))
        known = {item["name"] for item in old["spec"].get("schedulingGates") or ()}
        for index, item in enumerate(new["spec"].get("schedulingGates") or ()):
            if item["name"] not in known:
                text = f"only deletion is allowed, but found new scheduling gate '{item['name']}'"
                errors.append(FieldError(f"spec.schedulingGates[{index}].name", FORBIDDEN, text))
        if _frozen(new["spec"], gated=gated) != _frozen(old["spec"], gated=gated):
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


def _frozen(spec: Object, *, gated: bool) -> dict[str, Any]:
    mutable = _MUTABLE + (("nodeSelector", "affinity") if gated else ())
    result = {key: value for key, value in spec.items() if key not in mutable}
    for group in ("containers", "initContainers"):
        if group in spec:
            result[group] = [{**container, "image": ""} for container in spec[group]]
    return result
