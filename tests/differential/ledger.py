"""The known differences, as rules with reasons; see `ledger.yaml`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from differential.compare import Difference

LEDGER: Final = Path(__file__).parent / "ledger.yaml"


@dataclass(frozen=True, slots=True)
class Rule:
    """Differences that are known: globs over verb, resource (the request's path) and field, and why they stay.

    `real` and `embedded`, where given, are globs over the text of the values, to keep a rule narrow.
    """

    verb: str
    resource: str
    field: str
    reason: str
    real: str = "*"
    embedded: str = "*"

    def covers(self, difference: Difference) -> bool:
        verb, _, target = difference.request.partition(" ")
        return (
            fnmatchcase(verb, self.verb)
            and fnmatchcase(target, self.resource)
            and fnmatchcase(_plain(difference.path), self.field)
            and fnmatchcase(_plain(str(difference.real)), self.real)
            and fnmatchcase(_plain(str(difference.embedded)), self.embedded)
        )


def _plain(text: str) -> str:
    """Without brackets, which a glob would read as a set of characters: `rules[0].x` becomes `rules.0.x`."""
    return text.replace("[", ".").replace("]", "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`unlisted`: differences that no rule covers; `gone`: rules that cover none."""

    unlisted: list[Difference]
    gone: list[Rule]


def load(path: Path = LEDGER) -> list[Rule]:
    """The rules of a ledger file.

    Raises:
        ValueError: a rule gives no reason.
    """
    entries: list[dict[str, Any]] = yaml.safe_load(path.read_text()) or []
    found = [Rule(**entry) for entry in entries]
    for rule in found:
        if len(rule.reason.split()) < 4:
            raise ValueError(
                f"{path.name}: {rule.verb} {rule.resource} {rule.field}: the reason must be a sentence"
            )
    return found


def judge(differences: Iterable[Difference], known: Iterable[Rule]) -> Verdict:
    """Which differences are not in the ledger, and which of its rules no difference needs."""
    unlisted, needed = [], set()
    known = list(known)
    for difference in differences:
        covering = [rule for rule in known if rule.covers(difference)]
        needed.update(covering)
        if not covering:
            unlisted.append(difference)
    return Verdict(unlisted, [rule for rule in known if rule not in needed])
