"""`make explore-differences`: plays sequences of fresh seeds on both servers.

A sequence whose answers differ in a way that the ledger does not know is shortened to the steps that show it and added
to `corpus/found.yaml`, where every later run plays it.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from differential import ledger
from differential.answers import differences, played
from differential.compare import Difference
from differential.generate import sequence
from differential.player import Address
from differential.scenarios import FOUND, Scenario, corpus
from kaito.testing.backends import start


class Explorer:
    """Both servers, and what the ledger says."""

    def __init__(self, real: Address, own: Address) -> None:
        self._real = real
        self._own = own
        self._rules = ledger.load()
        self._runs = 0

    async def unlisted(self, scenarios: Sequence[Scenario]) -> list[Difference]:
        """Differences that the ledger does not know; every run is in namespaces of its own."""
        self._runs += 1
        fresh = [replace(each, name=f"{each.name}-{self._runs}") for each in scenarios]
        real, own = await asyncio.gather(played(self._real, fresh), played(self._own, fresh))
        return ledger.judge(differences(fresh, real, own), self._rules).unlisted

    async def shortened(self, scenario: Scenario) -> Scenario:
        """The scenario without the steps that its differences do not need."""
        steps = list(scenario.steps)
        position = len(steps) - 1
        while position >= 0:
            shorter = replace(scenario, steps=tuple(steps[:position] + steps[position + 1 :]))
            if shorter.steps and await self.unlisted([shorter]):
                steps = list(shorter.steps)
            position -= 1
        return replace(scenario, steps=tuple(steps))


async def explore(count: int, first: int, limit: int) -> list[Scenario]:
    """The shortened sequences that showed something new, of `count` seeds from `first` on; at most `limit`."""
    definitions = corpus()["00-setup"]
    found: list[Scenario] = []
    with TemporaryDirectory() as directory:
        places = [Path(directory, name) for name in ("real", "embedded")]
        async with (
            start("real", directory=places[0]) as real,
            start("embedded", directory=places[1]) as own,
        ):
            addresses = [Address.of_kubeconfig(each.kubeconfig) for each in (real, own)]
            for address in addresses:
                await played(address, definitions)
            explorer = Explorer(*addresses)
            for seed in range(first, first + count):
                if len(found) < limit and await explorer.unlisted([sequence(seed)]):
                    found.append(await explorer.shortened(sequence(seed)))
    return found


def append(scenarios: Sequence[Scenario]) -> None:
    """Adds scenarios to the corpus."""
    known = (yaml.safe_load(FOUND.read_text()) if FOUND.exists() else None) or {}
    for scenario in scenarios:
        known[scenario.name.replace("seed", "found")] = [step.as_data() for step in scenario.steps]
    head = "# Shortened sequences in which exploration saw a difference; each is played by every run since.\n"
    FOUND.write_text(head + yaml.safe_dump(known, sort_keys=False, default_flow_style=None, width=110))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="seeds to play")
    parser.add_argument("--first", type=int, default=None, help="first seed; a random one by default")
    parser.add_argument("--limit", type=int, default=5, help="stop shortening after so many finds")
    options = parser.parse_args()
    first = options.first if options.first is not None else secrets.randbelow(2**31)
    found = asyncio.run(explore(options.count, first, options.limit))
    append(found)
    sys.stdout.write(f"seeds {first} to {first + options.count - 1}: {len(found)} new cases\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
