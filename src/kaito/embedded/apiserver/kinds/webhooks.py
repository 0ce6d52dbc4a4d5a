"""ValidatingWebhookConfiguration and MutatingWebhookConfiguration: what may be stored."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from kaito.embedded.apiserver.kinds import checks, names
from kaito.embedded.apiserver.kinds.base import BuiltinStrategy
from kaito.embedded.apiserver.schema.expression import Expression
from kaito.embedded.apiserver.schema.rules import RuleError
from kaito.embedded.apiserver.strategy import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    REQUIRED,
    FieldError,
    Object,
)
from kaito.runtime.selectors import SelectorError, label_selector

OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
CONDITION_VARIABLES: Final = ("object", "oldObject", "request")
MAX_CONDITIONS: Final = 64
REVIEW_VERSION: Final = "v1"


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine by name or by address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class WebhookConfigurationStrategy(BuiltinStrategy):
    """Both kinds of configuration; they differ in one field."""

    def desired(self, obj: Object) -> Any:
        return obj.get("webhooks")

    def check(self, obj: Object) -> list[FieldError]:
        errors: list[FieldError] = []
        seen: set[str] = set()
        for index, hook in enumerate(obj.get("webhooks") or ()):
            path = f"webhooks[{index}]"
            name = hook["name"]
            if name in seen:
                errors.append(FieldError(f"{path}.name", DUPLICATE, "", name))
            seen.add(name)
            errors += _check_name(name, f"{path}.name") + _check_hook(hook, path)
        return errors


def _check_name(name: str, path: str) -> list[FieldError]:
    if not name:
        return [FieldError(path, REQUIRED)]
    errors = checks.syntax(name, names.dns_subdomain, path)
    if not errors and name.count(".") < 2:
        text = "should be a domain with at least three segments separated by dots"
        errors.append(FieldError(path, INVALID, text, name))
    return errors


def _check_hook(hook: Object, path: str) -> list[FieldError]:
    errors = _check_versions(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions")
    for index, rule in enumerate(hook.get("rules") or ()):
        errors += _check_rule(rule, f"{path}.rules[{index}]")
    errors += checks.one_of(hook.get("failurePolicy"), ("Fail", "Ignore"), f"{path}.failurePolicy")
    errors += checks.one_of(hook.get("matchPolicy"), ("Equivalent", "Exact"), f"{path}.matchPolicy")
    if not hook.get("sideEffects"):
        errors.append(FieldError(f"{path}.sideEffects", REQUIRED, "must specify one of None, NoneOnDryRun"))
    else:
        errors += checks.one_of(hook["sideEffects"], ("None", "NoneOnDryRun"), f"{path}.sideEffects")
    if not 1 <= hook.get("timeoutSeconds", 10) <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        errors.append(FieldError(f"{path}.timeoutSeconds", INVALID, text, hook["timeoutSeconds"]))
    if "reinvocationPolicy" in hook:
        errors += checks.one_of(
            hook["reinvocationPolicy"], ("IfNeeded", "Never"), f"{path}.reinvocationPolicy"
        )
    for field in ("namespaceSelector", "objectSelector"):
        try:
            label_selector(hook.get(field))
        except SelectorError as error:
            errors.append(FieldError(f"{path}.{field}", INVALID, str(error), hook.get(field)))
    errors += _check_conditions(hook.get("matchConditions") or [], f"{path}.matchConditions")
    return errors + _check_client(hook["clientConfig"], f"{path}.clientConfig")


def _check_versions(versions: Sequence[str], path: str) -> list[FieldError]:
    if not versions:
        return [FieldError(path, REQUIRED, "must specify one of v1, v1beta1")]
    if REVIEW_VERSION not in versions:
        text = "this API server sends reviews of version v1 only"
        return [FieldError(path, INVALID, text, list(versions))]
    return []


def _check_rule(rule: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in ("operations", "apiGroups", "apiVersions", "resources"):
        values = rule.get(field) or []
        if not values:
            errors.append(FieldError(f"{path}.{field}", REQUIRED))
        if field != "resources" and "*" in values and len(values) > 1:
            text = "if '*' is present, must not specify other "
            what = {"operations": "operations", "apiGroups": "API groups", "apiVersions": "API versions"}[
                field
            ]
            errors.append(FieldError(f"{path}.{field}", INVALID, text + what, values))
    for index, operation in enumerate(rule.get("operations") or ()):
        errors += checks.one_of(operation, OPERATIONS, f"{path}.operations[{index}]")
    for field in ("apiVersions", "resources"):
        for index, value in enumerate(rule.get(field) or ()):
            if not value:
                errors.append(FieldError(f"{path}.{field}[{index}]", REQUIRED))
    errors += _check_resources(rule.get("resources") or [], f"{path}.resources")
    return errors + checks.one_of(rule.get("scope"), ("*", "Cluster", "Namespaced"), f"{path}.scope")


def _check_resources(resources: Sequence[str], path: str) -> list[FieldError]:
    """A wildcard leaves no room for what it stands for."""
    plain = any("/" not in each for each in resources)
    if "*/*" in resources and len(resources) > 1:
        text = "if '*/*' is present, must not specify other resources"
        return [FieldError(path, INVALID, text, list(resources))]
    if "*" in resources and plain and any("/" not in each for each in resources if each != "*"):
        text = "if '*' is present, must not specify other resources without subresources"
        return [FieldError(path, INVALID, text, list(resources))]
    return []


def _check_conditions(conditions: Sequence[Object], path: str) -> list[FieldError]:
    if len(conditions) > MAX_CONDITIONS:
        return [FieldError(path, "Too many", f"must have at most {MAX_CONDITIONS} items", len(conditions))]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        name, expression = condition["name"], condition["expression"]
        errors += checks.required_name(name, names.qualified_name, f"{path}[{index}].name")
        if name in seen:
            errors.append(FieldError(f"{path}[{index}].name", DUPLICATE, "", name))
        seen.add(name)
        if not expression.strip():
            errors.append(FieldError(f"{path}[{index}].expression", REQUIRED))
            continue
        try:
            Expression(expression, CONDITION_VARIABLES)
        except RuleError as error:
            errors.append(FieldError(f"{path}[{index}].expression", INVALID, str(error), expression))
    return errors


def _check_client(client: Object, path: str) -> list[FieldError]:
    url, service = client.get("url"), client.get("service")
    if service is not None and url is None:
        return _check_service(service, f"{path}.service")
    if url is not None and service is None:
        return _check_url(url, f"{path}.url")
    return [FieldError(path, REQUIRED, "exactly one of url or service is required")]


def _check_url(url: str, path: str) -> list[FieldError]:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        return [FieldError(path, INVALID, f"url must be a valid URL: {error}{form}", url)]
    if parts.scheme != "https":
        return [FieldError(path, INVALID, f"'https' is the only allowed URL scheme{form}", url)]
    if not host:
        return [FieldError(path, INVALID, f"host must be specified{form}", url)]
    for what, value in (
        ("user information is not permitted in the URL", parts.username),
        ("fragments are not permitted in the URL", parts.fragment),
        ("query parameters are not permitted in the URL", parts.query),
    ):
        if value:
            return [FieldError(path, INVALID, f"{what}{form}", url)]
    if not is_loopback(host):
        text = "this API server calls webhooks on loopback addresses only (127.0.0.1, ::1, localhost)"
        return [FieldError(path, FORBIDDEN, text)]
    return []


def _check_service(service: Object, path: str) -> list[FieldError]:
    errors = checks.required(service["name"], f"{path}.name", "service name is required")
    errors += checks.required(service["namespace"], f"{path}.namespace", "service namespace is required")
    if not 1 <= service.get("port", 443) <= 65535:
        text = "port is not valid: must be between 1 and 65535, inclusive"
        errors.append(FieldError(f"{path}.port", INVALID, text, service["port"]))
    where = service.get("path")
    if where is not None and not where.startswith("/"):
        errors.append(FieldError(f"{path}.path", INVALID, "must start with a '/'", where))
    return errors
