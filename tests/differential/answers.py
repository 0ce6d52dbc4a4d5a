"""From scenarios to comparable answers: played on a server, or read from what was recorded of the real one."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from differential.compare import Difference, compare
from differential.normalise import Normal, Normaliser
from differential.player import Address, Player
from differential.scenarios import PATHS, REPOSITORY, Scenario, Step, fill

RECORDED: Final = Path(__file__).parent / "recorded"

Answers = dict[str, list[Normal]]
"""The normalised answers to each scenario's compared steps, by its name."""


class StaleRecording(Exception):
    """The corpus has changed since the real server's answers were recorded."""


async def played(address: Address, scenarios: Sequence[Scenario]) -> Answers:
    """What a server answers to every scenario."""
    async with Player(address) as player:
        exchanges = await player.play_all(scenarios)
    found: Answers = {}
    for scenario in scenarios:
        normaliser = Normaliser(scenario.namespace)
        normal = [(each.step, normaliser.normal(each)) for each in exchanges[scenario.name]]
        found[scenario.name] = [answer for step, answer in normal if not step.quiet]
    return found


def requests(scenario: Scenario) -> list[str]:
    """The request line of every compared step, with the namespace and kept values as `<name>`."""
    opened = {step.open: step for step in scenario.steps if step.open}
    shown = [opened[step.collect] if step.collect else step for step in scenario.steps if not step.open]
    return [str(fill(step.do, PATHS)) for step in shown if not step.quiet]


def differences(scenarios: Iterable[Scenario], real: Answers, own: Answers) -> list[Difference]:
    """Every difference between two servers' answers to the same scenarios."""
    found = []
    for scenario in scenarios:
        found += compare(scenario.name, requests(scenario), real[scenario.name], own[scenario.name])
    return found


@dataclass(frozen=True, slots=True)
class Recording:
    """The real server's answers to one corpus file, as a file of one scenario per line, compressed."""

    path: Path

    @staticmethod
    def of(stem: str) -> Recording:
        return Recording(RECORDED / f"{stem}.jsonl.gz")

    def write(self, scenarios: Iterable[Scenario], answers: Answers) -> None:
        text = "".join(_line(each, answers[each.name]) for each in scenarios)
        # Without a time in the file the same answers make the same bytes.
        self.path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))

    def read(self, scenarios: Sequence[Scenario]) -> Answers:
        """The recorded answers to these scenarios.

        Raises:
            StaleRecording: a scenario is new or has changed since.
        """
        text = gzip.decompress(self.path.read_bytes()).decode() if self.path.exists() else ""
        entries = [json.loads(line) for line in text.splitlines()]
        known = {entry["scenario"]: entry for entry in entries}
        for scenario in scenarios:
            if known.get(scenario.name, {}).get("steps") != digest(scenario.steps):
                raise StaleRecording(
                    f"{self.path.name} has no answers to {scenario.name} as it is now: make record-differences"
                )
        return {scenario.name: known[scenario.name]["answers"] for scenario in scenarios}


def digest(steps: Sequence[Step]) -> str:
    """What changes when a step does, or a file it sends."""
    data: Any = [step.as_data() for step in steps]
    data += [(REPOSITORY / step.file).read_text() for step in steps if step.file]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def _line(scenario: Scenario, answers: Sequence[Normal]) -> str:
    entry = {"scenario": scenario.name, "steps": digest(scenario.steps), "answers": list(answers)}
    return json.dumps(entry, separators=(",", ":"), sort_keys=True) + "\n"
