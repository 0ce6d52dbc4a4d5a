"""Admission and conversion webhooks: a server, its certificates, and the types that handlers see.

    from kaito.runtime.webhook import Allow, Cause, Deny, WebhookOptions, WebhookServer

Certificates come from cert-manager through a mounted Secret, or from `kaito.runtime.webhook.certificates`, which makes
and rotates them itself (needs the package `cryptography`, extra `webhook`).
"""

from kaito.runtime.webhook.admission import (
    AdmissionRequest,
    Allow,
    Cause,
    Deny,
    GroupVersionKind,
    GroupVersionResource,
    Handler,
    Operation,
    UserInfo,
)
from kaito.runtime.webhook.certwatcher import CertificateError
from kaito.runtime.webhook.conversion import Converter
from kaito.runtime.webhook.server import WebhookOptions, WebhookServer, mutate_path, validate_path

__all__ = [
    "AdmissionRequest",
    "Allow",
    "Cause",
    "CertificateError",
    "Converter",
    "Deny",
    "GroupVersionKind",
    "GroupVersionResource",
    "Handler",
    "Operation",
    "UserInfo",
    "WebhookOptions",
    "WebhookServer",
    "mutate_path",
    "validate_path",
]
