"""Jobs, CronJobs and PodDisruptionBudgets."""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.kinds import checks
from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.kinds.metadata import IMMUTABLE, selector_matches, validate_selector
from kaito.embedded.apiserver.kinds.poddefaults import default_pod_spec
from kaito.embedded.apiserver.kinds.podspec import validate_template
from kaito.embedded.apiserver.strategy import INVALID, NOT_SUPPORTED, REQUIRED, FieldError, Object

_UID_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")
_NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")
_JOB_POLICIES = ("OnFailure", "Never")
_BACKOFF_LIMIT = 6
_UNLIMITED = 2**31 - 1
_SUSPENDED_MUTABLE = ("nodeSelector", "tolerations", "affinity", "schedulingGates")


def _default_job_spec(spec: Object) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", _UNLIMITED if "backoffLimitPerIndex" in spec else _BACKOFF_LIMIT)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    spec.setdefault("manualSelector", False)
    default_pod_spec(spec["template"]["spec"])


def _check_job_spec(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in (
        "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
    ):  # fmt: skip
        errors += checks.non_negative(spec.get(name), f"{path}.{name}")
    errors += checks.one_of(spec.get("completionMode"), ("Indexed", "NonIndexed"), f"{path}.completionMode")
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        errors.append(FieldError(f"{path}.completions", REQUIRED, "when completion mode is Indexed"))
    errors += validate_template(spec["template"], f"{path}.template")
    policy = spec["template"]["spec"].get("restartPolicy")
    here = f"{path}.template.spec.restartPolicy"
    if policy == "Always":
        errors.append(FieldError(here, REQUIRED, 'valid values: "OnFailure", "Never"'))
    elif policy not in _JOB_POLICIES:
        errors.append(FieldError(here, NOT_SUPPORTED, checks.supported(_JOB_POLICIES), policy))
    return errors


class JobStrategy(BuiltinStrategy):
    """Jobs: the selector and the labels it selects by are made from the Job's uid."""

    def default(self, obj: Object, old: Object | None) -> None:
        _default_job_spec(obj["spec"])
        labels = obj["spec"]["template"]["metadata"].get("labels")
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)

    def created(self, obj: Object) -> None:
        spec = obj["spec"]
        if spec.get("manualSelector") or "selector" in spec:
            return
        meta = obj["metadata"]
        bare = not spec["template"]["metadata"].get("labels") and not meta.get("labels")
        labels = spec["template"]["metadata"].setdefault("labels", {})
        for names, value in ((_UID_LABELS, meta.get("uid", "")), (_NAME_LABELS, meta.get("name", ""))):
            for name in names:
                labels.setdefault(name, value)
        spec["selector"] = {"matchLabels": {_UID_LABELS[0]: meta.get("uid", "")}}
        if bare:
            meta["labels"] = dict(labels)

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        errors = _check_job_spec(spec, "spec")
        selector = spec.get("selector")
        if selector is None:
            return [*errors, FieldError("spec.selector", REQUIRED)]
        errors += validate_selector(selector, "spec.selector")
        labels = spec["template"]["metadata"].get("labels") or {}
        uid = obj["metadata"].get("uid")
        if not spec.get("manualSelector") and selector != {"matchLabels": {_UID_LABELS[0]: uid}}:
            text = "`selector` not auto-generated"
            errors.append(FieldError("spec.selector", INVALID, text, selector))
        if not selector_matches(selector, labels):
            text = "`selector` does not match template `labels`"
            errors.append(FieldError("spec.template.metadata.labels", INVALID, text, labels))
        return errors

    def check_update(self, new: Object, old: Object) -> list[FieldError]:
        spec, before = new["spec"], old["spec"]
        errors = [
            FieldError(f"spec.{name}", INVALID, IMMUTABLE, spec.get(name))
            for name in (
                "selector",
                "completionMode",
                "podFailurePolicy",
                "backoffLimitPerIndex",
                "managedBy",
            )
            if spec.get(name) != before.get(name)
        ]
        elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get(
            "parallelism"
        )
        if spec.get("completions") != before.get("completions") and not elastic:
            errors.append(FieldError("spec.completions", INVALID, IMMUTABLE, spec.get("completions")))
        suspended = bool(before.get("suspend")) and "startTime" not in (old.get("status") or {})
        if _template(spec, suspended) != _template(before, suspended):
            errors.append(FieldError("spec.template", INVALID, IMMUTABLE, spec["template"]))
        return errors


def _template(spec: Object, suspended: bool) -> Any:
    """The pod template as far as it is immutable: scheduling may be steered while the Job is suspended."""
    template = spec["template"]
    if not suspended:
        return template
    return {key: value for key, value in template["spec"].items() if key not in _SUSPENDED_MUTABLE}


class CronJobStrategy(BuiltinStrategy):
    """CronJobs: stored and validated; no controller here runs them."""

    def default(self, obj: Object, old: Object | None) -> None:
        # Kubernetes leaves the defaults of the Job to the Job.
        default_pod_spec(obj["spec"]["jobTemplate"]["spec"]["template"]["spec"])

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        name = obj["metadata"].get("name", "")
        errors: list[FieldError] = []
        if len(name) > 52:
            errors.append(FieldError("metadata.name", INVALID, "must be no more than 52 characters", name))
        schedule = spec.get("schedule", "")
        if not schedule:
            errors.append(FieldError("spec.schedule", REQUIRED))
        elif not schedule.startswith("@") and len(schedule.split()) != 5:
            text = f"expected exactly 5 fields, found {len(schedule.split())}: [{schedule}]"
            errors.append(FieldError("spec.schedule", INVALID, text, schedule))
        policies = ("Allow", "Forbid", "Replace")
        errors += checks.one_of(spec.get("concurrencyPolicy"), policies, "spec.concurrencyPolicy")
        for field in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            errors += checks.non_negative(spec.get(field), f"spec.{field}")
        return errors + _check_job_spec(spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")

    def warnings(self, obj: Object) -> list[str]:
        return ["no CronJob controller runs here: this object makes no Jobs"]


class DisruptionBudgetStrategy(BuiltinStrategy):
    """PodDisruptionBudgets."""

    def check(self, obj: Object) -> list[FieldError]:
        spec = obj["spec"]
        errors: list[FieldError] = []
        if "minAvailable" in spec and "maxUnavailable" in spec:
            text = "minAvailable and maxUnavailable cannot be both set"
            errors.append(FieldError("spec", INVALID, text, spec))
        for name in ("minAvailable", "maxUnavailable"):
            errors += checks.int_or_percent(spec.get(name), f"spec.{name}", most=100)
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None:
            known = ("AlwaysAllow", "IfHealthyBudget")
            errors += checks.one_of(policy, known, "spec.unhealthyPodEvictionPolicy")
        return errors + validate_selector(spec.get("selector"), "spec.selector")
