"""Every listed behaviour has a test or a reason, and every mark names a listed behaviour."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from runtime.conformance.behaviours import all_behaviours

TESTS = Path(__file__).parents[2]


def marks() -> Iterator[tuple[str, str]]:
    """(id, where) of every `pytest.mark.conforms(...)` in the test files."""
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "mark.conforms" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.conforms":
                for argument in node.args:
                    where = f"{path.relative_to(TESTS)}:{node.lineno}"
                    assert isinstance(argument, ast.Constant), f"{where}: ids are written out as text"
                    yield str(argument.value), where


def test_every_behaviour_has_a_test_or_a_reason() -> None:
    shown = {identity for identity, _ in marks()}
    missing = [
        behaviour.id
        for behaviour in all_behaviours()
        if not behaviour.not_applicable and behaviour.id not in shown
    ]
    assert not missing, f"{len(missing)} behaviours have neither a marked test nor a reason: {missing}"


def test_every_mark_names_a_behaviour() -> None:
    known = {behaviour.id for behaviour in all_behaviours()}
    unknown = [f"{where}: {identity}" for identity, where in marks() if identity not in known]
    assert not unknown, unknown


def test_nothing_that_means_nothing_has_a_test() -> None:
    shown = {identity for identity, _ in marks()}
    both = [
        behaviour.id for behaviour in all_behaviours() if behaviour.not_applicable and behaviour.id in shown
    ]
    assert not both, f"a test shows what is listed as meaningless here: {both}"


def test_ids_are_unique_and_sentences_are_sentences() -> None:
    behaviours = all_behaviours()
    repeated = [identity for identity, count in Counter(b.id for b in behaviours).items() if count > 1]
    assert not repeated, repeated
    for behaviour in behaviours:
        for text in filter(None, (behaviour.sentence, behaviour.not_applicable)):
            assert text.endswith("."), f"{behaviour.id}: {text!r}"
