"""The words of a drain: what is known of a Node's pods and volumes, and the steps that concern them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kaito.controllers.machine.drain import Pod


@dataclass(frozen=True, slots=True)
class PodsOnNode:
    """pods: None while they are not known; problem: why. refused: uid of each pod whose eviction was refused and is
    not tried again yet, to what was said; retry: seconds until the first of them may be tried again."""

    pods: tuple[Pod, ...] | None = None
    problem: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    retry: float | None = None


@dataclass(frozen=True, slots=True)
class VolumesOfNode:
    """names: PersistentVolumes that must be detached before the machine goes; None while they are not known. problem:
    why they are not, or why some of them count that perhaps need not."""

    names: tuple[str, ...] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LookAtPods:
    """See what runs on a Node, and be woken when that changes."""

    node: str


@dataclass(frozen=True, slots=True)
class LookAtVolumes:
    """See what is attached to a Node, and be woken when that changes. staying: pods whose volumes do not count."""

    node: str
    staying: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class Evict:
    """Ask pods to go, as far as their disruption budgets allow it."""

    node: str
    pods: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class DeletePods:
    """Delete pods, whatever their budgets say; each with the seconds it has to end."""

    node: str
    pods: tuple[tuple[Pod, int], ...]


@dataclass(frozen=True, slots=True)
class NoteDeadline:
    """Annotate the claim, if the API server lets us."""

    annotations: Mapping[str, str]


DrainStep = LookAtPods | LookAtVolumes | Evict | DeletePods | NoteDeadline
