"""What Machine and NodeClaim have in common: requirements, taints, resources.

Shapes, limits and patterns are those of Karpenter's own CRDs, because its controllers and KAITO's read the
same objects.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from kaito.runtime.crd import Format, Object, Quantity

QUALIFIED_NAME: Final = (
    r"^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?\/)?[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?$"
)
"""Key of a label or taint."""
LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
"""Value of a label or taint."""

Quantities = dict[str, Quantity]


class ClaimResources(Object):
    """Resources the node must offer."""

    requests: Quantities | None = None
    """Least amounts, such as `storage: 50Gi`."""


class ClaimTaint(Object):
    """A taint of the node. Permissive: Karpenter's v1alpha5 checks nothing here."""

    key: str
    """Its key."""
    effect: str
    """NoSchedule, PreferNoSchedule or NoExecute."""
    value: str | None = None
    """Its value."""
    time_added: Annotated[str, Format("date-time")] | None = None
    """When a NoExecute taint was added."""


class ClaimRequirement(Object):
    """A requirement on the node's labels."""

    key: str
    """Label key."""
    operator: str
    """In, NotIn, Exists, DoesNotExist, Gt or Lt."""
    values: Annotated[list[str], Field()] | None = None
    """Label values, in the order of preference where it matters."""
