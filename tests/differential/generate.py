"""Sequences of operations made from a seed: the same seed always gives the same sequence.

They work on a handful of objects, so that operations meet: creates of what is there, patches of what has gone, applies
by several managers, writes with an old version.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from differential.scenarios import Scenario, Step

GENERATED: Final = "generated"
SEEDS: Final = range(24)
"""Seeds of the sequences that every test run plays."""
_LENGTH: Final = 14
_NAMES: Final = ("a", "b")
_MANAGERS: Final = ("one", "two", "three")
_VALUES: Final = ("1", "2", "")


def sequences() -> list[Scenario]:
    return [sequence(seed) for seed in SEEDS]


def sequence(seed: int) -> Scenario:
    """The sequence of a seed, over one kind."""
    chance = random.Random(seed)
    maker = _KINDS[seed % len(_KINDS)]
    steps = [maker(chance) for _ in range(_LENGTH)]
    return Scenario(f"seed-{seed}", tuple(steps))


def _maps(chance: random.Random) -> Step:
    name = chance.choice(_NAMES)
    data = {key: chance.choice(_VALUES) for key in chance.sample(("x", "y", "z"), chance.randrange(3))}
    labels = {key: chance.choice(_VALUES) for key in chance.sample(("l", "m"), chance.randrange(2))}
    metadata: dict[str, Any] = {"name": name}
    if labels:
        metadata["labels"] = labels
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    if data or chance.random() < 0.3:
        body["data"] = data
    return _write(chance, "<core>/configmaps", name, body, {"data": _nullable(chance, data)})


def _things(chance: random.Random) -> Step:
    name = chance.choice(_NAMES)
    spec: dict[str, Any] = {"color": "red"}
    parts: dict[str, Callable[[], Any]] = {
        "mode": lambda: chance.choice(("plain", "fast")),
        "replicas": lambda: chance.choice((0, 1, 4, 11)),
        "tags": lambda: chance.sample(("p", "q", "r", "s"), chance.randrange(1, 4)),
        "ports": lambda: [
            {"port": number, **({"name": chance.choice("vw")} if chance.random() < 0.5 else {})}
            for number in chance.sample((1, 2, 3), chance.randrange(1, 4))
        ],
        "nested": lambda: chance.choice(({}, {"level": 1}, {"name": "n"})),
        "whole": lambda: chance.choice(({"k": "v"}, {"k": "w", "j": "x"})),
        "free": lambda: chance.choice(({"a": 1}, {"a": {"b": [1]}}, {"c": "d"})),
        "list": lambda: chance.choice(([1], [1, 2], [])),
    }
    for part in chance.sample(sorted(parts), chance.randrange(4)):
        spec[part] = parts[part]()
    body = {
        "apiVersion": "differential.example.com/v1",
        "kind": "Thing",
        "metadata": {"name": name},
        "spec": spec,
    }
    patch = {"spec": _nullable(chance, {key: value for key, value in spec.items() if key != "color"})}
    return _write(chance, "<things>", name, body, patch)


def _deployments(chance: random.Random) -> Step:
    name = chance.choice(_NAMES)
    containers = [
        {
            "name": each,
            "image": chance.choice(("i:1", "i:2")),
            **({"env": _environment(chance)} if chance.random() < 0.5 else {}),
        }
        for each in chance.sample(("c", "d"), chance.randrange(1, 3))
    ]
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": containers}}
    spec: dict[str, Any] = {"selector": {"matchLabels": {"app": "a"}}, "template": template}
    if chance.random() < 0.5:
        spec["replicas"] = chance.choice((0, 2, 3))
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    return _write(chance, "<apps>/deployments", name, body, patch, strategic=True)


def _environment(chance: random.Random) -> list[dict[str, str]]:
    names = chance.sample(("A", "B", "C"), chance.randrange(1, 4))
    return [{"name": each, "value": chance.choice(("1", "2"))} for each in names]


_KINDS: Final = (_maps, _things, _deployments)


def _nullable(chance: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    """A merge patch: some of the fields are taken away instead."""
    return {key: None if chance.random() < 0.3 else value for key, value in fields.items()}


def _write(
    chance: random.Random,
    path: str,
    name: str,
    body: dict[str, Any],
    patch: dict[str, Any],
    *,
    strategic: bool = False,
) -> Step:
    manager = chance.choice(_MANAGERS)
    ways: list[tuple[int, Callable[[], Step]]] = [
        (2, lambda: Step(f"POST {path}?fieldManager={manager}", body=body)),
        (2, lambda: Step(f"PATCH {path}/{name}?fieldManager={manager}", type="<merge>", body=patch)),
        (4, lambda: Step(f"PATCH {path}/{name}?fieldManager={manager}", type="<apply>", body=body)),
        (
            2,
            lambda: Step(f"PATCH {path}/{name}?fieldManager={manager}&force=true", type="<apply>", body=body),
        ),
        (1, lambda: Step(f"GET {path}/{name}")),
        (1, lambda: Step(f"GET {path}?fieldSelector=metadata.name%3D{name}")),
        (1, lambda: Step(f"DELETE {path}/{name}", body={"propagationPolicy": "Background"})),
    ]
    if strategic:
        ways.append(
            (3, lambda: Step(f"PATCH {path}/{name}?fieldManager={manager}", type="<strategic>", body=patch))
        )
    weights = [weight for weight, _ in ways]
    return chance.choices([way for _, way in ways], weights)[0]()
