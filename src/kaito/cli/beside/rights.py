"""What it takes to see who else is there."""

from __future__ import annotations

from typing import Final

from kaito.cli.beside.rules import GO_WEBHOOK, Installation, lease_names
from kaito.runtime.resources import DEPLOYMENTS, LEASES
from kaito.runtime.rights import Right
from kaito.runtime.webhook.certificates import VALIDATING


def _rights(mine: Installation) -> tuple[Right, ...]:
    why = "Another KAITO in the cluster is seen by its {}, and this one does not start beside it."
    rights = [
        Right.of(DEPLOYMENTS, "list", why=why.format("Deployment")),
        Right.of(LEASES, "list", names=lease_names(mine), why=why.format("Lease")),
    ]
    if mine.workspaces:
        why = "Go KAITO leaves a webhook behind that refuses every write of a Workspace; it is named at the start."
        rights.append(Right.of(VALIDATING, "list", names=(GO_WEBHOOK,), why=why))
    return tuple(rights)


OPERATOR_RIGHTS: Final = _rights(Installation("", workspaces=True, claims=False))
"""`kaito operator` as it runs in a cluster: without a provisioner in it."""
PROVISIONER_RIGHTS: Final = _rights(Installation("", workspaces=False, claims=True))
"""`kaito provisioner`; and besides the above, an operator with a cloud in it."""
