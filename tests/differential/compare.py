"""Where two normalised answers differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from differential.normalise import Normal

ABSENT: Final = "(absent)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs: in which step, at which path of the answer, and both values."""

    scenario: str
    step: int
    request: str
    path: str
    real: Any
    embedded: Any

    def __str__(self) -> str:
        return (
            f"{self.scenario}[{self.step}] {self.request}\n    {self.path}: real {_short(self.real)}, "
            f"embedded {_short(self.embedded)}"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def compare(
    scenario: str, requests: Sequence[str], real: Sequence[Normal], own: Sequence[Normal]
) -> list[Difference]:
    """Every difference between the answers to one scenario."""
    found = []
    for index, request in enumerate(requests):
        for path, left, right in _answers(real[index], own[index]):
            found.append(Difference(scenario, index, request, path, left, right))  # unpacked
    return found


def _answers(left: Normal, right: Normal) -> Iterator[tuple[str, Any, Any]]:
    """Where the statuses differ that is the one difference: the bodies have little in common."""
    if left["status"] != right["status"]:
        yield "status", _outcome(left), _outcome(right)
    else:
        yield from _diff(left, right, "")


def _outcome(answer: Normal) -> str:
    body = answer["body"]
    reason = body.get("reason", "") if isinstance(body, dict) and body.get("kind") == "Status" else ""
    return f"{answer['status']} {reason}".strip()


def _diff(left: Any, right: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted(left.keys() | right.keys()):
            here = f"{path}.{name}" if path else name
            yield from _diff(left.get(name, ABSENT), right.get(name, ABSENT), here)
    elif isinstance(left, list) and isinstance(right, list):
        yield from _diff_lists(left, right, path)
    elif type(left) is not type(right) or left != right:
        yield path, left, right


def _diff_lists(left: list[Any], right: list[Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    key = _key(left, right)
    if key is None:
        for index in range(max(len(left), len(right))):
            one = left[index] if index < len(left) else ABSENT
            other = right[index] if index < len(right) else ABSENT
            yield from _diff(one, other, f"{path}[{index}]")
        return
    ours, theirs = {key(each): each for each in left}, {key(each): each for each in right}
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        yield from _diff(ours.get(name, ABSENT), theirs.get(name, ABSENT), f"{path}[{name}]")
    common = [name for name in ours if name in theirs], [name for name in theirs if name in ours]
    if common[0] != common[1]:
        yield f"{path}[order]", *common


def _key(left: list[Any], right: list[Any]) -> Callable[[Any], str] | None:
    """What names the elements of both lists, if something does: then a missing one is one difference."""
    for key in (_metadata_name, _name, _resource, _cause):
        try:
            names = [[key(each) for each in side] for side in (left, right)]
        except (KeyError, TypeError):
            continue
        if all(len(set(side)) == len(side) for side in names):
            return key
    return None


def _metadata_name(item: Any) -> str:
    metadata = item["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _name(item: Any) -> str:
    return str(item["name"])


def _resource(item: Any) -> str:
    return str(item["subresource"] if "subresource" in item else item["resource"])


def _cause(item: Any) -> str:
    return f"{item['field']}:{item['reason']}"
