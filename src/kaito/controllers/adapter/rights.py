"""What the adapter controller asks of the API server."""

from __future__ import annotations

from typing import Final

from kaito.api.resources import ADAPTERS
from kaito.runtime.rights import EVENT_RIGHTS, Right

RIGHTS: Final[tuple[Right, ...]] = (
    Right.of(ADAPTERS, "list", "watch", why="Adapters are read to say what they hold."),
    Right.of(
        ADAPTERS,
        "patch",
        subresource="status",
        why="What an Adapter holds, or why it cannot be used, is written there.",
    ),
    *EVENT_RIGHTS,
)
