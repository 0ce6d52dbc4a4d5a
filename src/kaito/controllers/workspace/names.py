"""Names of everything that belongs to a Workspace. Pure, and the same after every restart."""

from __future__ import annotations

import hashlib
import re
from typing import Final

LABEL_LIMIT: Final = 63
"""Characters; names that become label values or Service names may not be longer (RFC 1123 label)."""


def bounded(name: str, limit: int = LABEL_LIMIT) -> str:
    """`name` itself when it fits, else its beginning, a dash and 9 hex digits of its hash."""
    if len(name) <= limit:
        return name
    return f"{name[: limit - 10].rstrip('-.')}-{_hex(name, 9)}"


def adapter_name(workspace: str, source: str) -> str:
    """Object name of the Adapter made for an inline adapter."""
    return bounded(f"{workspace}-{source}")


def headless_name(workspace: str) -> str:
    """Name of the headless Service that gives a StatefulSet's pods their addresses."""
    return bounded(f"{workspace}-headless")


def look_name(workspace: str, uid: str, key: str, number: int) -> str:
    """Name of the pod that looks at a Workspace's weights: another one for other weights, and for each look."""
    return f"{bounded(workspace, LABEL_LIMIT - 18)}-weights-{_hex(f'{uid}/{key}/{number}', 9)}"


def claim_name(uid: str, slot: int, attempt: int) -> str:
    """Name of the claim for a slot's attempt: 11 characters, because AKS allows an agent pool no more than 12."""
    return f"ws{_hex(f'{uid}/{slot}/{attempt}', 9)}"


def pool_name(namespace: str, workspace: str) -> str:
    """Name of the Workspace's NodePool, as Go KAITO makes it: at most 63 characters, because it becomes a label."""
    whole = f"{namespace}-{workspace}"
    return whole if len(whole) <= LABEL_LIMIT else f"{whole[: LABEL_LIMIT - 10]}-{_hex(whole, 9)}"


def part_name(prefix: str, name: str) -> str:
    """Name of a volume or container for an adapter or a Secret: no dots, at most 63 characters, its own for each."""
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower())
    whole = f"{prefix}-{plain}"
    if plain == name:
        return bounded(whole)
    return f"{whole[: LABEL_LIMIT - 10].rstrip('-')}-{_hex(name, 9)}"


def _hex(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
