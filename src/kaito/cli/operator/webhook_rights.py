"""What the admission webhook of `kaito operator` asks of the API server."""

from __future__ import annotations

from typing import Final

from kaito.cli.operator.webhook_manifest import CONFIGURATION
from kaito.runtime.resources import CONFIGMAPS, SECRETS
from kaito.runtime.rights import Right
from kaito.runtime.webhook.certificates import VALIDATING

SECRET: Final = "kaito-webhook-cert"
"""The Secret with the webhook's certificate and authority, in the operator's namespace."""

RIGHTS: Final[tuple[Right, ...]] = (
    Right.of(
        SECRETS,
        "create",
        own_namespace=True,
        why="The operator makes the certificate that its webhook shows.",
    ),
    Right.of(
        SECRETS,
        "get",
        "list",
        "watch",
        "update",
        names=(SECRET,),
        own_namespace=True,
        why="All replicas show the same certificate, and one of them renews it.",
    ),
    Right.of(
        VALIDATING,
        "get",
        "list",
        "watch",
        "update",
        names=(CONFIGURATION,),
        why="The API server learns there which authority the certificate is from.",
    ),
    Right.of(
        CONFIGMAPS, "list", why="What inference.config names is looked into before a Workspace is stored."
    ),
)
