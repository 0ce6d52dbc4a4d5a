"""Validation of pod specs and pod templates: volumes, scheduling, policies."""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.kinds import checks, names
from kaito.embedded.apiserver.kinds.metadata import duplicates, validate_labels, validate_selector
from kaito.embedded.apiserver.kinds.podcontainers import validate_containers
from kaito.embedded.apiserver.strategy import FORBIDDEN, INVALID, REQUIRED, FieldError, Object

RESTART_POLICIES = ("Always", "Never", "OnFailure")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_NODE_OPERATORS = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")
_MAX_SECONDS = 2**31 - 1
_REQUIRED_IN_VOLUME = {
    "hostPath": "path",
    "secret": "secretName",
    "configMap": "name",
    "persistentVolumeClaim": "claimName",
    "csi": "driver",
    "nfs": "server",
}


def validate_pod_spec(spec: Object, path: str) -> list[FieldError]:
    """All errors of a pod spec at `path`."""
    volumes = spec.get("volumes") or []
    errors = _validate_volumes(volumes, f"{path}.volumes")
    errors += validate_containers(spec, path, {item.get("name") for item in volumes})
    errors += checks.one_of(spec.get("restartPolicy"), RESTART_POLICIES, f"{path}.restartPolicy")
    errors += checks.one_of(spec.get("dnsPolicy"), _DNS_POLICIES, f"{path}.dnsPolicy")
    grace = spec.get("terminationGracePeriodSeconds")
    errors += checks.non_negative(grace, f"{path}.terminationGracePeriodSeconds")
    errors += checks.in_range(
        spec.get("activeDeadlineSeconds"), 1, _MAX_SECONDS, f"{path}.activeDeadlineSeconds"
    )
    if spec.get("nodeSelector"):
        errors += validate_labels(spec["nodeSelector"], f"{path}.nodeSelector")
    for name, check in _NAMED:
        if spec.get(name):
            errors += checks.syntax(spec[name], check, f"{path}.{name}")
    errors += validate_tolerations(spec.get("tolerations") or (), f"{path}.tolerations")
    if spec.get("affinity"):
        errors += _validate_affinity(spec["affinity"], f"{path}.affinity")
    for index, item in enumerate(spec.get("topologySpreadConstraints") or ()):
        errors += _validate_spread(item, f"{path}.topologySpreadConstraints[{index}]")
    errors += _validate_network(spec, path)
    if spec.get("schedulingGates") and spec.get("nodeName"):
        text = "cannot be set until all schedulingGates have been cleared"
        errors.append(FieldError(f"{path}.nodeName", FORBIDDEN, text))
    for index, item in enumerate(spec.get("readinessGates") or ()):
        here = f"{path}.readinessGates[{index}].conditionType"
        errors += checks.syntax(item.get("conditionType", ""), names.qualified_name, here)
    for index, item in enumerate(spec.get("hostAliases") or ()):
        errors += checks.syntax(item.get("ip", ""), names.ip_address, f"{path}.hostAliases[{index}].ip")
    return errors


def _validate_network(spec: Object, path: str) -> list[FieldError]:
    """DNS that is the pod's own must be given, and ports on the node's network are the node's."""
    errors: list[FieldError] = []
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        text = "must provide `dnsConfig` when `dnsPolicy` is None"
        errors.append(FieldError(f"{path}.dnsConfig", REQUIRED, text))
    for group in ("initContainers", "containers") if spec.get("hostNetwork") else ():
        for place, container in enumerate(spec.get(group) or ()):
            for index, port in enumerate(container.get("ports") or ()):
                if port.get("hostPort") != port.get("containerPort"):
                    here = f"{path}.{group}[{place}].ports[{index}].containerPort"
                    text = "must match `hostPort` when `hostNetwork` is true"
                    errors.append(FieldError(here, INVALID, text, port.get("containerPort")))
    return errors


_NAMED = (
    ("serviceAccountName", names.dns_subdomain),
    ("nodeName", names.dns_subdomain),
    ("priorityClassName", names.dns_subdomain),
    ("runtimeClassName", names.dns_subdomain),
    ("hostname", names.dns_label),
    ("subdomain", names.dns_label),
)


def validate_template(template: Object, path: str) -> list[FieldError]:
    """A pod template: labels, annotations and spec."""
    meta = template.get("metadata") or {}
    errors = validate_labels(meta.get("labels") or {}, f"{path}.metadata.labels")
    for key in meta.get("annotations") or {}:
        errors += checks.syntax(key.lower(), names.qualified_name, f"{path}.metadata.annotations")
    return errors + validate_pod_spec(template.get("spec") or {}, f"{path}.spec")


def _validate_volumes(volumes: list[Any], path: str) -> list[FieldError]:
    errors = duplicates([item.get("name") for item in volumes], path, "name")
    for index, volume in enumerate(volumes):
        here = f"{path}[{index}]"
        errors += checks.required_name(volume.get("name"), names.dns_label, f"{here}.name")
        sources = [name for name in volume if name != "name"]
        if not sources:
            errors.append(FieldError(here, REQUIRED, "must specify a volume type"))
        errors += [
            FieldError(f"{here}.{name}", FORBIDDEN, "may not specify more than 1 volume type")
            for name in sources[1:]
        ]
        for name in sources[:1]:
            field = _REQUIRED_IN_VOLUME.get(name)
            if field:
                errors += checks.required(volume[name].get(field), f"{here}.{name}.{field}")
        host = (volume.get("hostPath") or {}).get("path", "")
        if ".." in host.split("/"):
            errors.append(FieldError(f"{here}.hostPath.path", INVALID, "must not contain '..'", host))
    return errors


def validate_tolerations(tolerations: Any, path: str) -> list[FieldError]:
    """Tolerations of a pod."""
    errors: list[FieldError] = []
    for index, item in enumerate(tolerations):
        here = f"{path}[{index}]"
        key, operator, value = item.get("key", ""), item.get("operator", "Equal"), item.get("value", "")
        if key:
            errors += checks.syntax(key, names.qualified_name, f"{here}.key")
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(FieldError(f"{here}.operator", INVALID, text, operator))
        if operator == "Exists" and value:
            text = "value must be empty when `operator` is 'Exists'"
            errors.append(FieldError(f"{here}.operator", INVALID, text, item))
        elif operator == "Equal":
            errors += checks.syntax(value, names.label_value, f"{here}.operator")
        else:
            errors += checks.one_of(operator, ("Equal", "Exists"), f"{here}.operator")
        if item.get("effect"):
            errors += checks.one_of(item["effect"], _EFFECTS, f"{here}.effect")
        if "tolerationSeconds" in item and item.get("effect") != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(FieldError(f"{here}.effect", INVALID, text, item.get("effect", "")))
    return errors


def _validate_affinity(affinity: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    node = affinity.get("nodeAffinity") or {}
    here = f"{path}.nodeAffinity"
    wanted = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if wanted is not None:
        terms_path = f"{here}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        terms = wanted.get("nodeSelectorTerms") or []
        if not terms:
            errors.append(FieldError(terms_path, REQUIRED, "must have at least one node selector term"))
        for index, term in enumerate(terms):
            errors += _validate_node_term(term, f"{terms_path}[{index}]")
    for index, item in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        item_path = f"{here}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        errors += checks.in_range(item.get("weight", 0), 1, 100, f"{item_path}.weight")
        errors += _validate_node_term(item.get("preference") or {}, f"{item_path}.preference")
    for name in ("podAffinity", "podAntiAffinity"):
        errors += _validate_pod_affinity(affinity.get(name) or {}, f"{path}.{name}")
    return errors


def _validate_node_term(term: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("matchExpressions", "matchFields"):
        for index, item in enumerate(term.get(name) or ()):
            here = f"{path}.{name}[{index}]"
            operator, values = item.get("operator", ""), item.get("values") or []
            if operator not in _NODE_OPERATORS:
                errors.append(
                    FieldError(f"{here}.operator", INVALID, "not a valid selector operator", operator)
                )
            elif operator in ("In", "NotIn") and not values:
                text = "must be specified when `operator` is 'In' or 'NotIn'"
                errors.append(FieldError(f"{here}.values", REQUIRED, text))
            elif operator in ("Exists", "DoesNotExist") and values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(FieldError(f"{here}.values", FORBIDDEN, text))
            elif operator in ("Gt", "Lt") and len(values) != 1:
                text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                errors.append(FieldError(f"{here}.values", REQUIRED, text))
            if name == "matchExpressions":
                errors += checks.syntax(item.get("key", ""), names.qualified_name, f"{here}.key")
    return errors


def _validate_pod_affinity(affinity: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, term in enumerate(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
        here = f"{path}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"
        errors += _validate_pod_term(term, here)
    for index, item in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        here = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        errors += checks.in_range(item.get("weight", 0), 1, 100, f"{here}.weight")
        errors += _validate_pod_term(item.get("podAffinityTerm") or {}, f"{here}.podAffinityTerm")
    return errors


def _validate_pod_term(term: Object, path: str) -> list[FieldError]:
    errors = validate_selector(term.get("labelSelector"), f"{path}.labelSelector")
    if not term.get("topologyKey"):
        errors.append(FieldError(f"{path}.topologyKey", REQUIRED, "can not be empty"))
    return errors


def _validate_spread(item: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if item.get("maxSkew", 0) <= 0:
        errors.append(
            FieldError(f"{path}.maxSkew", INVALID, "must be greater than zero", item.get("maxSkew", 0))
        )
    if not item.get("topologyKey"):
        errors.append(FieldError(f"{path}.topologyKey", REQUIRED, "can not be empty"))
    allowed = ("DoNotSchedule", "ScheduleAnyway")
    errors += checks.one_of(item.get("whenUnsatisfiable"), allowed, f"{path}.whenUnsatisfiable")
    return errors + validate_selector(item.get("labelSelector"), f"{path}.labelSelector")
