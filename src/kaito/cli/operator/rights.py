"""What `kaito operator` asks of the API server beside its controllers."""

from __future__ import annotations

from typing import Final

from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.runtime.definitions import definition_rights
from kaito.runtime.rights import Right

KINDS: Final = (WORKSPACES, ADAPTERS)
"""The kinds that the operator never works without."""
RIGHTS: Final[tuple[Right, ...]] = definition_rights(KINDS)
