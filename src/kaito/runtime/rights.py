"""Rights that a part of an operator needs, written down where its requests are written.

A package that sends requests says so in its `rights.py`; roles are generated from what is said there, tests compare it
with what is really asked, and an operator that is refused something looks up here whether it should have been allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kaito.runtime.resources import EVENTS, LEASES, Resource


@dataclass(frozen=True, slots=True)
class Right:
    """Some verbs on one resource.

    Raises ValueError where it says nothing: no verbs, no reason, or names for a verb that has none.
    """

    group: str
    """API group; "" is the core group."""
    resource: str
    """`plural` or `plural/subresource`, as RBAC rules write it."""
    verbs: tuple[str, ...]
    why: str
    """What for: one sentence, which stands beside the rule in the manifests."""
    names: tuple[str, ...] = ()
    """The only objects that are meant; empty: all."""
    own_namespace: bool = False
    """Only in the namespace that the operator runs in."""

    def __post_init__(self) -> None:
        if not self.verbs or not self.why.strip():
            raise ValueError(f"a right on {self.resource!r} needs verbs, and the reason for them")
        if self.names and "create" in self.verbs and "/" not in self.resource:
            raise ValueError(
                f"a right to create {self.resource} cannot be limited to names: an object to be made has none "
                "when the server decides; write it as a right of its own"
            )

    @classmethod
    def of(
        cls,
        resource: Resource,
        *verbs: str,
        why: str,
        subresource: str = "",
        names: Sequence[str] = (),
        own_namespace: bool = False,
    ) -> Right:
        """The same for a `Resource`."""
        name = f"{resource.plural}/{subresource}" if subresource else resource.plural
        return cls(resource.group, name, verbs, why, tuple(names), own_namespace)

    @property
    def qualified(self) -> str:
        """`workspaces.kaito.sh/status`, as sentences name it."""
        plural, slash, subresource = self.resource.partition("/")
        return f"{plural}.{self.group}{slash}{subresource}" if self.group else self.resource

    def covers(self, verb: str, group: str, resource: str, name: str = "") -> bool:
        """Whether a request of this kind is what this right is for; `name` is "" where it names no object."""
        return (
            verb in self.verbs
            and (group, resource) == (self.group, self.resource)
            and (not self.names or name in self.names)
        )


def rules(rights: Iterable[Right]) -> list[Right]:
    """The same rights with no verb said twice, sorted; those on the same objects are one, with all reasons."""
    merged: dict[tuple[str, str, tuple[str, ...], bool], Right] = {}
    for right in rights:
        key = (right.group, right.resource, right.names, right.own_namespace)
        known = merged.get(key)
        if known is None:
            merged[key] = replace(right, verbs=tuple(sorted(set(right.verbs))))
            continue
        why = known.why if right.why in known.why.split("\n") else f"{known.why}\n{right.why}"
        merged[key] = replace(known, verbs=tuple(sorted({*known.verbs, *right.verbs})), why=why)
    return [merged[key] for key in sorted(merged)]


EVENT_RIGHTS: Final[tuple[Right, ...]] = (
    Right.of(
        EVENTS,
        *("create", "patch"),
        why="Events are written where their objects are, and counted up when they happen again.",
    ),
)
"""What every `EventRecorder` needs."""


def leader_rights(lease: str) -> tuple[Right, ...]:
    """What leader election on the Lease of that name needs, in the operator's namespace."""
    return (
        Right.of(
            LEASES,
            "create",
            why="Leader election: the first replica makes the Lease; what is not there yet has no name.",
            own_namespace=True,
        ),
        Right.of(
            LEASES,
            *("get", "update", "watch"),
            why="Leader election: replicas read, renew, release and watch their own Lease and no other.",
            names=(lease,),
            own_namespace=True,
        ),
    )
