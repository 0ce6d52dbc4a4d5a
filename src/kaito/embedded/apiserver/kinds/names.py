"""Syntax of names, labels and keys, with Kubernetes' sentences. Each check returns what is wrong, or ()."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

Check = Callable[[str], tuple[str, ...]]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"

_LABEL_RE, _SUBDOMAIN_RE = re.compile(_LABEL), re.compile(_SUBDOMAIN)
_LABEL_1035_RE, _QUALIFIED_RE, _VALUE_RE = re.compile(_LABEL_1035), re.compile(_QUALIFIED), re.compile(_VALUE)
_CONFIG_KEY_RE = re.compile(_CONFIG_KEY)

SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
LABEL_1035_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    f"'{_LABEL_1035}')"
)
_QUALIFIED_WORDS = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
CONFIG_KEY_MESSAGE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    f"or 'key-name', regex used for validation is '{_CONFIG_KEY}')"
)


def max_length(limit: int) -> str:
    """The sentence for text that is too long."""
    return f"must be no more than {limit} characters"


@lru_cache(maxsize=8192)
def dns_subdomain(value: str) -> tuple[str, ...]:
    """DNS-1123 subdomain, at most 253: the name of most objects."""
    errors = (max_length(253),) if len(value) > 253 else ()
    return errors if _SUBDOMAIN_RE.fullmatch(value) else (*errors, SUBDOMAIN_MESSAGE)


@lru_cache(maxsize=8192)
def dns_label(value: str) -> tuple[str, ...]:
    """DNS-1123 label, at most 63: namespaces, containers, volumes."""
    errors = (max_length(63),) if len(value) > 63 else ()
    if _LABEL_RE.fullmatch(value):
        return errors
    if _SUBDOMAIN_RE.fullmatch(value):
        return (*errors, "must not contain dots")
    return (*errors, LABEL_MESSAGE)


@lru_cache(maxsize=4096)
def dns_label_1035(value: str) -> tuple[str, ...]:
    """DNS-1035 label, at most 63: Services and CRD names."""
    errors = (max_length(63),) if len(value) > 63 else ()
    return errors if _LABEL_1035_RE.fullmatch(value) else (*errors, LABEL_1035_MESSAGE)


def path_segment(value: str) -> tuple[str, ...]:
    """Anything that can stand in a URL path: names of RBAC objects."""
    if value in (".", ".."):
        return (f"may not be '{value}'",)
    return tuple(f"may not contain '{sign}'" for sign in "/%" if sign in value)


@lru_cache(maxsize=8192)
def qualified_name(value: str) -> tuple[str, ...]:
    """`[prefix/]name`: label keys, annotation keys, finalizers, resource names."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return (
            f"a qualified name {_QUALIFIED_WORDS} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')",
        )
    errors: list[str] = []
    if slash and not prefix:
        errors.append("prefix part must be non-empty")
    elif slash:
        errors += [f"prefix part {message}" for message in dns_subdomain(prefix)]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append(f"name part {max_length(63)}")
    if not _QUALIFIED_RE.fullmatch(name):
        errors.append(f"name part {_QUALIFIED_WORDS}")
    return tuple(errors)


@lru_cache(maxsize=8192)
def label_value(value: str) -> tuple[str, ...]:
    """The value of a label."""
    errors = (max_length(63),) if len(value) > 63 else ()
    return errors if _VALUE_RE.fullmatch(value) else (*errors, VALUE_MESSAGE)


@lru_cache(maxsize=4096)
def config_key(value: str) -> tuple[str, ...]:
    """A key of a ConfigMap or Secret."""
    errors: list[str] = [max_length(253)] if len(value) > 253 else []
    if not _CONFIG_KEY_RE.fullmatch(value):
        errors.append(CONFIG_KEY_MESSAGE)
    if value in (".", ".."):
        errors.append(f"must not be '{value}'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return tuple(errors)


@lru_cache(maxsize=4096)
def env_name(value: str) -> tuple[str, ...]:
    """The name of an environment variable: any printable ASCII except '='."""
    if not value:
        return ("environment variable name must be non-empty",)
    if any(not 32 <= ord(sign) <= 126 or sign == "=" for sign in value):
        return (
            "a valid environment variable name must consist only of printable ASCII characters other than '='",
        )
    return ()


def port_name(value: str) -> tuple[str, ...]:
    """IANA service name: the name of a container's port."""
    errors: list[str] = []
    if len(value) > 15:
        errors.append("must be no more than 15 characters")
    if not re.fullmatch(r"[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search(r"[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        errors.append("must not begin or end with a hyphen")
    return tuple(errors)


def port_number(value: int) -> tuple[str, ...]:
    """1 to 65535."""
    return () if 1 <= value <= 65535 else ("must be between 1 and 65535, inclusive",)


def ip_address(value: str) -> tuple[str, ...]:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return ("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",)
    return ()
