"""What the admission webhooks of Workspaces and Adapters have in common: when nothing is asked, and how answers read.

A webhook only adds to CEL in the CRD. It never stands in the way of an object that is on its way out, of status or of
the operator's own metadata, and what an object had before this write passes again, as ratcheting does it for CEL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito.api.images import image_problem
from kaito.runtime.webhook.admission import AdmissionRequest, Allow, Cause, Deny, Operation
from kaito.runtime.webhook.diff import same

Object = dict[str, Any]

MAX_FINDINGS: Final = 32
"""Most things told of one object; more help nobody, and an answer stays small whatever is sent."""
TEXT_LIMIT: Final = 1024
"""Characters of one sentence: names in it are the user's, and may be of any length."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to tell: the field, and what to write there."""

    path: str
    sentence: str
    reason: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}"[:TEXT_LIMIT]


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is to be told of an object."""

    refusals: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    def without(self, other: Findings) -> Findings:
        """What is not in `other` as well."""
        return Findings(
            tuple(each for each in self.refusals if each not in other.refusals),
            tuple(each for each in self.warnings if each not in other.warnings),
        )


Judge = Callable[[Object], Findings]
"""What is to be told of an object, whatever it holds. Raises nothing."""
LookUp = Callable[[Object, Object | None], Awaitable[Findings]]
"""The same of what other objects say; also sees what was stored before, or None."""


async def nothing_else(new: Object, old: Object | None) -> Findings:
    """For kinds that are judged by themselves."""
    return Findings()


class Admission:
    """The handler of one kind."""

    def __init__(self, blocks: tuple[str, ...], judge: Judge, look_up: LookUp = nothing_else) -> None:
        """`blocks` are the fields at the root that a user writes, metadata aside."""
        self._blocks = blocks
        self._judge = judge
        self._look_up = look_up

    async def __call__(self, request: AdmissionRequest) -> Allow | Deny:
        """Allows with warnings, or refuses with every cause."""
        new, old = request.object, request.old_object
        if request.operation not in (Operation.CREATE, Operation.UPDATE) or request.sub_resource:
            return Allow()
        if new is None or mapping(new.get("metadata")).get("deletionTimestamp") is not None:
            return Allow()
        if old is not None and self._untouched(old, new):
            return Allow()
        found = self._judge(new)
        if old is not None:
            found = found.without(self._judge(old))
        more = await self._look_up(new, old)
        refusals = (*found.refusals, *more.refusals)[:MAX_FINDINGS]
        warnings = [str(each) for each in (*found.warnings, *more.warnings)[:MAX_FINDINGS]]
        if not refusals:
            return Allow(warnings=warnings)
        name = request.name or mapping(new.get("metadata")).get("generateName") or ""
        return Deny(
            f'{request.kind.kind}.{request.kind.group} "{name}" is invalid',
            reason="Invalid",
            code=422,
            causes=[Cause(each.path, each.sentence[:TEXT_LIMIT], each.reason) for each in refusals],
            warnings=warnings,
        )

    def _untouched(self, old: Object, new: Object) -> bool:
        """Whether this write changes status, or metadata other than annotations, alone."""
        return same(annotations_in(old), annotations_in(new)) and all(
            same(old.get(block), new.get(block)) for block in self._blocks
        )


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is an object; an empty one otherwise."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[Any]:
    """The value if it is a list; an empty one otherwise."""
    return value if isinstance(value, list) else []


def annotations_in(obj: Object) -> Mapping[str, Any]:
    """The annotations of any object at all."""
    return mapping(mapping(obj.get("metadata")).get("annotations"))


def image_warnings(path: str, value: object, known: Mapping[str, object]) -> Iterator[Finding]:
    """Says so where the text is no image reference, or still holds a placeholder; `known` are texts that this operator
    was told the meaning of."""
    if isinstance(value, str) and value and value not in known:
        problem = image_problem(value)
        if problem is not None:
            yield Finding(path, problem)
