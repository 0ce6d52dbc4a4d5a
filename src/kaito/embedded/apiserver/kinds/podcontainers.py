"""Validation of containers: names, images, ports, environment, mounts, probes, resources."""

from __future__ import annotations

from typing import Any

from kaito.embedded.apiserver.kinds import checks, names
from kaito.embedded.apiserver.strategy import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    NOT_FOUND,
    REQUIRED,
    FieldError,
    Object,
)

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_FIELD_PATHS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def validate_containers(spec: Object, path: str, volumes: set[str]) -> list[FieldError]:
    """All containers of a pod spec at `path`; `volumes` are the names that mounts may use."""
    errors: list[FieldError] = []
    listed = spec.get("containers") or []
    if not listed:
        errors.append(FieldError(f"{path}.containers", REQUIRED))
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or ()):
            here = f"{path}.{group}[{index}]"
            errors += _validate_container(container, here, volumes)
            name = container.get("name")
            if name in seen:
                errors.append(FieldError(f"{here}.name", DUPLICATE, "", name))
            seen.add(name)
            if group == "initContainers":
                errors += _validate_init(container, here)
            elif "restartPolicy" in container:
                text = "may not be set for non-init containers"
                errors.append(FieldError(f"{here}.restartPolicy", FORBIDDEN, text))
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers are not implemented by this API server"
        errors.append(FieldError(f"{path}.ephemeralContainers", FORBIDDEN, text))
    return errors


def _validate_init(container: Object, path: str) -> list[FieldError]:
    policy = container.get("restartPolicy")
    if policy == "Always":
        return []
    if policy is not None:
        return checks.one_of(policy, ("Always",), f"{path}.restartPolicy")
    return [
        FieldError(
            f"{path}.{name}", FORBIDDEN, "may not be set for init containers without restartPolicy=Always"
        )
        for name in ("lifecycle", *_PROBES)
        if container.get(name)
    ]


def _validate_container(container: Object, path: str, volumes: set[str]) -> list[FieldError]:
    errors = checks.required_name(container.get("name"), names.dns_label, f"{path}.name")
    image = container.get("image") or ""
    if not image:
        errors.append(FieldError(f"{path}.image", REQUIRED))
    elif image != image.strip():
        errors.append(
            FieldError(f"{path}.image", INVALID, "must not have leading or trailing whitespace", image)
        )
    errors += _validate_ports(container.get("ports") or (), f"{path}.ports")
    errors += _validate_env(container, path)
    errors += _validate_mounts(container.get("volumeMounts") or (), f"{path}.volumeMounts", volumes)
    for name in _PROBES:
        if name in container:
            errors += _validate_probe(container[name], f"{path}.{name}", once=name != "readinessProbe")
    for name, hook in (container.get("lifecycle") or {}).items():
        if isinstance(hook, dict):
            errors += _validate_handler(hook, f"{path}.lifecycle.{name}")
    errors += checks.one_of(container.get("imagePullPolicy"), _PULL_POLICIES, f"{path}.imagePullPolicy")
    policy = container.get("terminationMessagePolicy")
    errors += checks.one_of(policy, ("File", "FallbackToLogsOnError"), f"{path}.terminationMessagePolicy")
    resources = container.get("resources")
    return errors + (checks.resources(resources, f"{path}.resources") if resources else [])


def _validate_ports(ports: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        here = f"{path}[{index}]"
        name, number, host = port.get("name"), port.get("containerPort", 0), port.get("hostPort", 0)
        if name:
            errors += checks.syntax(name, names.port_name, f"{here}.name")
            if name in seen:
                errors.append(FieldError(f"{here}.name", DUPLICATE, "", name))
            seen.add(name)
        if number == 0:
            errors.append(FieldError(f"{here}.containerPort", REQUIRED))
        else:
            errors += checks.in_range(number, 1, 65535, f"{here}.containerPort")
        if host:
            errors += checks.in_range(host, 1, 65535, f"{here}.hostPort")
        errors += checks.one_of(port.get("protocol"), _PROTOCOLS, f"{here}.protocol")
    return errors


def _validate_env(container: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, item in enumerate(container.get("env") or ()):
        here = f"{path}.env[{index}]"
        name = item.get("name")
        errors += (
            checks.syntax(name, names.env_name, f"{here}.name")
            if name
            else checks.required(name, f"{here}.name")
        )
        if "valueFrom" in item:
            errors += _validate_value_from(item, f"{here}.valueFrom")
    for index, item in enumerate(container.get("envFrom") or ()):
        here = f"{path}.envFrom[{index}]"
        given = [source for source in ("configMapRef", "secretRef") if item.get(source) is not None]
        if len(given) != 1:
            text = (
                "must specify one of: `configMapRef` or `secretRef`"
                if not given
                else "may not have more than one field specified at a time"
            )
            errors.append(FieldError(here, INVALID, text, ""))
        for source in given:
            errors += checks.required(item[source].get("name"), f"{here}.{source}.name")
    return errors


def _validate_value_from(item: Object, path: str) -> list[FieldError]:
    source = item["valueFrom"]
    given = [name for name in _SOURCES if name in source]
    errors: list[FieldError] = []
    if not given:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        errors.append(FieldError(path, INVALID, text, ""))
    elif item.get("value"):
        errors.append(FieldError(path, INVALID, "may not be specified when `value` is not empty", ""))
    elif len(given) > 1:
        errors.append(FieldError(path, INVALID, "may not have more than one field specified at a time", ""))
    if "fieldRef" in source:
        field_path = source["fieldRef"].get("fieldPath", "")
        known = field_path in _FIELD_PATHS or field_path.startswith(
            ("metadata.labels[", "metadata.annotations[")
        )
        if not field_path:
            errors.append(FieldError(f"{path}.fieldRef.fieldPath", REQUIRED))
        elif not known:
            errors += checks.one_of(field_path, _FIELD_PATHS, f"{path}.fieldRef.fieldPath")
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in source:
            errors += checks.required(source[name].get("name"), f"{path}.{name}.name")
            errors += checks.required_name(source[name].get("key"), names.config_key, f"{path}.{name}.key")
    return errors


def _validate_mounts(mounts: Any, path: str, volumes: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        here = f"{path}[{index}]"
        name, target = mount.get("name"), mount.get("mountPath")
        if not name:
            errors.append(FieldError(f"{here}.name", REQUIRED))
        elif name not in volumes:
            errors.append(FieldError(f"{here}.name", NOT_FOUND, "", name))
        if not target:
            errors.append(FieldError(f"{here}.mountPath", REQUIRED))
        elif target in seen:
            errors.append(FieldError(f"{here}.mountPath", INVALID, "must be unique", target))
        seen.add(target or "")
        sub_path = mount.get("subPath", "")
        if sub_path.startswith("/"):
            errors.append(FieldError(f"{here}.subPath", INVALID, "must be a relative path", sub_path))
        elif ".." in sub_path.split("/"):
            errors.append(FieldError(f"{here}.subPath", INVALID, "must not contain '..'", sub_path))
    return errors


def _validate_probe(probe: Object, path: str, *, once: bool) -> list[FieldError]:
    errors = _validate_handler(probe, path)
    for name in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        errors += checks.non_negative(probe.get(name), f"{path}.{name}")
    threshold = probe.get("successThreshold", 1)
    if once and threshold != 1:
        errors.append(FieldError(f"{path}.successThreshold", INVALID, "must be 1", threshold))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        text = "must be greater than 0"
        errors.append(FieldError(f"{path}.terminationGracePeriodSeconds", INVALID, text, grace))
    return errors


def _validate_handler(handler: Object, path: str) -> list[FieldError]:
    given = [name for name in _HANDLERS if name in handler]
    if not given:
        return [FieldError(path, REQUIRED, "must specify a handler type")]
    errors = [
        FieldError(f"{path}.{name}", FORBIDDEN, "may not specify more than 1 handler type")
        for name in given[1:]
    ]
    if "exec" in handler:
        errors += checks.required(handler["exec"].get("command"), f"{path}.exec.command")
    http = handler.get("httpGet")
    if http is not None:
        errors += checks.required(http.get("path"), f"{path}.httpGet.path")
        errors += checks.port(http.get("port", 0), f"{path}.httpGet.port")
        errors += checks.one_of(http.get("scheme"), ("HTTP", "HTTPS"), f"{path}.httpGet.scheme")
    if "tcpSocket" in handler:
        errors += checks.port(handler["tcpSocket"].get("port", 0), f"{path}.tcpSocket.port")
    if "grpc" in handler:
        errors += checks.in_range(handler["grpc"].get("port", 0), 1, 65535, f"{path}.grpc.port")
    return errors
