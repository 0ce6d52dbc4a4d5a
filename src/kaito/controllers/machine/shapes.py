"""Machine and NodeClaim as one thing: everything in which the two APIs differ is here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito.api import labels
from kaito.api.resources import MACHINES, NODECLAIMS
from kaito.provisioner.cloud import ClaimSpec
from kaito.runtime.clock import parse_time
from kaito.runtime.objects import ObjectMeta
from kaito.runtime.resources import Resource

Object = Mapping[str, Any]

RESTRICTED_KEYS: Final = frozenset(
    {labels.HOSTNAME_LABEL, labels.REGISTERED_LABEL, labels.INITIALIZED_LABEL, labels.NODEPOOL_LABEL}
)
"""Requirement keys whose value is not copied onto the claim as a label."""
_NOT_ZERO: Final = re.compile(r"[1-9]")


class InvalidClaim(ValueError):
    """The claim says too little to make a node from; the message names the field."""


@dataclass(frozen=True, slots=True)
class ClaimShape:
    """One of the two APIs.

    launched, registered, initialized: names of the condition types. with_generation: whether its conditions have
    observedGeneration.
    """

    resource: Resource
    launched: str
    registered: str
    initialized: str
    with_generation: bool

    @property
    def dependents(self) -> tuple[str, str, str]:
        return self.launched, self.registered, self.initialized

    def is_ours(self, meta: ObjectMeta, claim: Object) -> bool:
        """Whether this claim is KAITO's: by its node class, or by the label of a KAITO object.

        Several controllers share these kinds: a claim whose node class is of another group is never touched, whatever
        its labels say.
        """
        reference = (claim.get("spec") or {}).get("nodeClassRef") or {}
        group = reference.get("group") or ""
        if group == labels.NODE_CLASS_GROUP and reference.get("kind") == labels.NODE_CLASS_KIND:
            return True
        labelled = labels.WORKSPACE_LABEL in meta.labels or labels.RAGENGINE_LABEL in meta.labels
        return labelled and group in ("", labels.NODE_CLASS_GROUP)

    def class_labels(self, claim: Object) -> dict[str, str]:
        """The label of claim and Node that names the node class: its group and kind as key, its name as value."""
        reference = (claim.get("spec") or {}).get("nodeClassRef") or {}
        if not (reference.get("group") and reference.get("kind") and reference.get("name")):
            return {}
        return {f"{reference['group']}/{reference['kind'].lower()}": reference["name"]}

    def claim_spec(self, claim: Object) -> ClaimSpec:
        """The claim in the provider's words. Raises `InvalidClaim` where no instance type is named."""
        metadata, spec = claim["metadata"], claim.get("spec") or {}
        types = dict(_required(spec)).get(labels.INSTANCE_TYPE_LABEL, ())
        if not types:
            raise InvalidClaim(
                f"spec.requirements names no instance type; add `key: {labels.INSTANCE_TYPE_LABEL}, operator: In` "
                "with the types to try, best first"
            )
        return ClaimSpec(
            name=metadata["name"],
            uid=metadata["uid"],
            created=parse_time(metadata["creationTimestamp"]),
            instance_types=tuple(types),
            labels={**single_valued_labels(claim), **(metadata.get("labels") or {})},
            annotations=dict(metadata.get("annotations") or {}),
            taints=tuple(spec.get("taints") or ()),
            startup_taints=tuple(spec.get("startupTaints") or ()),
            requests=requests(claim),
            requirements=dict(_required(spec)),
            kind=self.resource.kind,
        )


MACHINE_SHAPE: Final = ClaimShape(
    MACHINES, "MachineLaunched", "MachineRegistered", "MachineInitialized", with_generation=False
)
NODECLAIM_SHAPE: Final = ClaimShape(NODECLAIMS, "Launched", "Registered", "Initialized", with_generation=True)
SHAPES: Final = (MACHINE_SHAPE, NODECLAIM_SHAPE)


def requests(claim: Object) -> dict[str, str]:
    """Resources the node must offer, zeros left out."""
    found = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return {name: str(quantity) for name, quantity in found.items() if is_positive(quantity)}


def single_valued_labels(claim: Object) -> dict[str, str]:
    """Labels that the requirements leave no choice about; they belong on claim and node."""
    return {
        key: values[0]
        for key, values in _required(claim.get("spec") or {})
        if len(values) == 1 and key not in RESTRICTED_KEYS
    }


def is_positive(quantity: object) -> bool:
    """Whether a quantity is above zero: it has a digit other than 0 and no minus sign."""
    text = str(quantity)
    number = re.split(r"[eE]", text, maxsplit=1)[0]
    return not text.startswith("-") and bool(_NOT_ZERO.search(number))


def _required(spec: Object) -> Iterator[tuple[str, tuple[str, ...]]]:
    for requirement in spec.get("requirements") or ():
        if requirement.get("operator") == "In" and requirement.get("values"):
            yield requirement["key"], tuple(requirement["values"])
