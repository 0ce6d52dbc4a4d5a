"""What the providers themselves ask of the API server, beside the machine controller that calls them."""

from __future__ import annotations

from typing import Final

from kaito.runtime.resources import NODES
from kaito.runtime.rights import Right

EXISTING_RIGHTS: Final[tuple[Right, ...]] = (
    Right.of(NODES, "get", why="What a Node looks like now decides what giving it back undoes."),
)
"""With `--cloud-provider=existing`."""
