"""`make record-differences`: asks the real server everything in the corpus and keeps its answers in `recorded/`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from differential.answers import Recording, played
from differential.generate import GENERATED, sequences
from differential.player import Address
from differential.scenarios import Scenario, corpus
from kaito.testing.backends import start


def everything() -> dict[str, list[Scenario]]:
    """Every fixed and every derandomised scenario, by the name of its recording."""
    return {**corpus(), GENERATED: sequences()}


async def record() -> int:
    """The number of answers recorded."""
    files = everything()
    with TemporaryDirectory() as directory:
        async with start("real", directory=Path(directory)) as backend:
            scenarios = [each for listed in files.values() for each in listed]
            answers = await played(Address.of_kubeconfig(backend.kubeconfig), scenarios)
    for stem, listed in files.items():
        Recording.of(stem).write(listed, answers)
    return sum(map(len, answers.values()))


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(record())} answers recorded\n")
