"""The embedded server against the real one: recorded answers everywhere, live ones where the real server runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from differential import ledger
from differential.answers import Answers, Recording, differences, played
from differential.compare import Difference
from differential.player import Address
from differential.record import everything
from differential.scenarios import Scenario
from kaito.testing.backends import chosen_name, start

FILES = everything()
SCENARIOS: list[Scenario] = [each for listed in FILES.values() for each in listed]


def recorded() -> Answers:
    answers: Answers = {}
    for stem, listed in FILES.items():
        answers |= Recording.of(stem).read(listed)
    return answers


async def answers_of(name: str, directory: Path) -> Answers:
    async with start(name, directory=directory) as backend:
        return await played(Address.of_kubeconfig(backend.kubeconfig), SCENARIOS)


def hold_to_the_ledger(found: list[Difference]) -> None:
    verdict = ledger.judge(found, ledger.load())
    assert not verdict.unlisted, "differences that ledger.yaml does not list:\n" + "\n".join(
        map(str, verdict.unlisted[:40])
    )
    assert not verdict.gone, "rules of ledger.yaml that no difference needs any more:\n" + "\n".join(
        map(str, verdict.gone)
    )


async def test_the_embedded_server_answers_as_the_real_one_did(tmp_path: Path) -> None:
    hold_to_the_ledger(differences(SCENARIOS, recorded(), await answers_of("embedded", tmp_path)))


@pytest.mark.skipif(
    chosen_name() != "real", reason="plays on kube-apiserver, which `make test-cluster` builds and chooses"
)
async def test_the_real_server_still_answers_as_recorded(tmp_path: Path) -> None:
    drift = differences(SCENARIOS, await answers_of("real", tmp_path), recorded())
    assert not drift, "recorded answers are not the real server's any more (make record-differences):\n" + (
        "\n".join(map(str, drift[:40]))
    )
