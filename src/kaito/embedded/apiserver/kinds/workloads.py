"""Deployments, ReplicaSets, StatefulSets and DaemonSets."""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.kinds import checks
from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.kinds.metadata import IMMUTABLE, selector_matches, validate_selector
from kaito.embedded.apiserver.kinds.poddefaults import default_pod_spec
from kaito.embedded.apiserver.kinds.podspec import validate_template
from kaito.embedded.apiserver.strategy import FORBIDDEN, INVALID, NOT_SUPPORTED, REQUIRED, FieldError, Object

_STATEFULSET_MUTABLE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
_STATEFULSET_FORBIDDEN = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


_PARTS = frozenset(
    {"updatedReplicas", "readyReplicas", "availableReplicas", "fullyLabeledReplicas", "currentReplicas"}
)
"""Counts of a status that cannot be above `replicas`."""


class WorkloadStrategy(BuiltinStrategy):
    """What has replicas, a selector and a pod template. The selector never changes."""

    def default(self, obj: Object, old: Object | None) -> None:
        default_pod_spec(obj["spec"]["template"]["spec"])

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
            errors += checks.non_negative(spec.get(name), f"spec.{name}")
        errors += self._check_selector(spec)
        errors += validate_template(spec["template"], "spec.template")
        return errors + self._check_policy(spec["template"]["spec"])

    def _check_selector(self, spec: Object) -> list[FieldError]:
        selector = spec.get("selector")
        if selector is None:
            return [FieldError("spec.selector", REQUIRED)]
        errors = validate_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            text = f"empty selector is invalid for {self.resource.kind.lower()}"
            errors.append(FieldError("spec.selector", INVALID, text, selector))
        labels = spec["template"]["metadata"].get("labels") or {}
        if not errors and not selector_matches(selector, labels):
            text = "`selector` does not match template `labels`"
            errors.append(FieldError("spec.template.metadata.labels", INVALID, text, labels))
        return errors

    def _check_policy(self, pod: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        policy = pod.get("restartPolicy")
        if policy != "Always":
            text = checks.supported(("Always",))
            errors.append(FieldError("spec.template.spec.restartPolicy", NOT_SUPPORTED, text, policy))
        if "activeDeadlineSeconds" in pod:
            text = f"activeDeadlineSeconds in {self.resource.kind} is not Supported"
            errors.append(FieldError("spec.template.spec.activeDeadlineSeconds", FORBIDDEN, text))
        return errors

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        selector = new["spec"].get("selector")
        if selector != old["spec"].get("selector"):
            return [FieldError("spec.selector", INVALID, IMMUTABLE, selector)]
        return []

    def check_status(self, new: Object, old: Object | None) -> list[FieldError]:
        errors: list[FieldError] = []
        status = new.get("status") or {}
        replicas = status.get("replicas", 0)
        for name, value in status.items():
            if not isinstance(value, int):
                continue
            errors += checks.non_negative(value, f"status.{name}")
            if name in _PARTS and value > replicas:
                text = "cannot be greater than status.replicas"
                errors.append(FieldError(f"status.{name}", INVALID, text, value))
        available, ready = status.get("availableReplicas", 0), status.get("readyReplicas", 0)
        if available > ready:
            text = "cannot be greater than readyReplicas"
            errors.append(FieldError("status.availableReplicas", INVALID, text, available))
        return errors


class DeploymentStrategy(WorkloadStrategy):
    """Deployments: a change of annotations counts as a generation, as in Kubernetes."""

    def desired(self, obj: Object) -> Any:
        return obj.get("spec"), obj["metadata"].get("annotations") or {}

    def default(self, obj: Object, old: Object | None) -> None:
        super().default(obj, old)
        strategy = obj["spec"]["strategy"]
        if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        errors = super().check(obj) + self._check_strategy(spec["strategy"])
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None:
            errors += checks.non_negative(deadline, "spec.progressDeadlineSeconds")
            if deadline <= spec.get("minReadySeconds", 0):
                text = "must be greater than minReadySeconds"
                errors.append(FieldError("spec.progressDeadlineSeconds", INVALID, text, deadline))
        return errors

    def _check_strategy(self, strategy: Object) -> list[FieldError]:
        path = "spec.strategy"
        errors = checks.one_of(strategy.get("type"), ("Recreate", "RollingUpdate"), f"{path}.type")
        rolling = strategy.get("rollingUpdate")
        if strategy.get("type") == "Recreate" and rolling is not None:
            text = "may not be specified when strategy `type` is 'Recreate'"
            errors.append(FieldError(f"{path}.rollingUpdate", FORBIDDEN, text))
        elif rolling:
            for name in ("maxUnavailable", "maxSurge"):
                errors += checks.int_or_percent(rolling.get(name), f"{path}.rollingUpdate.{name}")
            if all(rolling.get(name) in (0, "0%") for name in ("maxUnavailable", "maxSurge")):
                text = "may not be 0 when `maxSurge` is 0"
                value = rolling["maxUnavailable"]
                errors.append(FieldError(f"{path}.rollingUpdate.maxUnavailable", INVALID, text, value))
        return errors


class StatefulSetStrategy(WorkloadStrategy):
    """StatefulSets: most of the spec is fixed at creation."""

    def default(self, obj: Object, old: Object | None) -> None:
        super().default(obj, old)
        spec = obj["spec"]
        strategy = spec["updateStrategy"]
        if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
        for claim in spec.get("volumeClaimTemplates") or ():
            claim.setdefault("apiVersion", "v1")
            claim.setdefault("kind", "PersistentVolumeClaim")
            claim["status"].setdefault("phase", "Pending")

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        errors = super().check(obj)
        errors += checks.one_of(
            spec.get("podManagementPolicy"), ("OrderedReady", "Parallel"), "spec.podManagementPolicy"
        )
        strategy = spec["updateStrategy"]
        errors += checks.one_of(strategy["type"], ("OnDelete", "RollingUpdate"), "spec.updateStrategy.type")
        rolling = strategy.get("rollingUpdate") or {}
        if strategy["type"] == "OnDelete" and rolling:
            text = "only allowed for updateStrategy 'RollingUpdate'"
            errors.append(FieldError("spec.updateStrategy.rollingUpdate", INVALID, text, rolling))
        partition = rolling.get("partition")
        return errors + checks.non_negative(partition, "spec.updateStrategy.rollingUpdate.partition")

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        kept = [
            {key: value for key, value in obj["spec"].items() if key not in _STATEFULSET_MUTABLE}
            for obj in (new, old)
        ]
        return [] if kept[0] == kept[1] else [FieldError("spec", FORBIDDEN, _STATEFULSET_FORBIDDEN)]


class DaemonSetStrategy(WorkloadStrategy):
    """DaemonSets: stored and validated; no controller here runs them."""

    def default(self, obj: Object, old: Object | None) -> None:
        super().default(obj, old)
        strategy = obj["spec"]["updateStrategy"]
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)

    def warnings(self, obj: Object) -> list[str]:
        return ["no DaemonSet controller runs here: this object makes no pods"]


class RevisionStrategy(BuiltinStrategy):
    """ControllerRevisions: what they remember is fixed, only their number moves."""

    def check(self, obj: Object) -> list[FieldError]:
        return checks.non_negative(obj.get("revision", 0), "revision")

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        if new.get("data") != old.get("data"):
            errors.append(FieldError("data", INVALID, IMMUTABLE, new.get("data")))
        return errors
