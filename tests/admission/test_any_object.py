"""The webhook has an answer for everything that JSON can say."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from admission.cases import BYO, CATALOG, MACHINE
from kaito.controllers.adapter.admission import judge as judge_adapter
from kaito.controllers.admission import Findings
from kaito.controllers.workspace.admission import judge
from kaito.controllers.workspace.admission.config_map import config_problems

WORDS = st.sampled_from(
    [
        "",
        "mig",
        "In",
        "base",
        "phi-2",
        "phi-4",
        "Standard_NC6s_v3",
        "Standard_D4s_v5",
        "REPO_HERE.io/x",
        "true",
        "1e9",
        "lora",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=8)
)
KEYS = st.sampled_from(
    [
        "metadata", "annotations", "labels", "namespace", "name", "deletionTimestamp", "resource", "count",
        "instanceType", "instanceTypes", "labelSelector", "matchLabels", "matchExpressions", "key", "operator",
        "values", "partition", "mode", "profile", "inference", "preset", "presetOptions", "image",
        "modelAccessSecret", "template", "spec", "containers", "initContainers", "config", "adapters", "source",
        "adapterRef", "strength", "urls", "volumeSource", "tuning", "method", "input", "output", "imagePushSecret",
        "status", "kaito.sh/node-image-family", "kaito.sh/enablelb", "kaito.sh/performance-mode",
        "kaito.sh/bypass-resource-checks", "kaito.sh/workspace",
    ]
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


def maps(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def odd(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what a schema would let through."""
    return st.one_of(good, good, good, VALUES)


NAMES = odd(WORDS)
SOURCE = odd(maps(name=NAMES, image=NAMES, volumeSource=VALUES, urls=odd(st.lists(NAMES, max_size=2))))
EXPRESSION = odd(maps(key=NAMES, operator=NAMES, values=odd(st.lists(NAMES, max_size=2))))
WORKSPACES = maps(
    metadata=odd(
        maps(name=NAMES, namespace=NAMES, annotations=odd(st.dictionaries(KEYS, NAMES, max_size=3)))
    ),
    resource=odd(
        maps(
            count=odd(st.integers(-1, 3)),
            instanceType=NAMES,
            instanceTypes=odd(st.lists(NAMES, max_size=3)),
            labelSelector=odd(
                maps(
                    matchLabels=odd(st.dictionaries(KEYS, NAMES, max_size=3)),
                    matchExpressions=odd(st.lists(EXPRESSION, max_size=2)),
                )
            ),
            partition=odd(maps(mode=NAMES, profile=NAMES, count=odd(st.integers()))),
        )
    ),
    inference=odd(
        maps(
            preset=odd(maps(name=NAMES, presetOptions=odd(maps(image=NAMES, modelAccessSecret=NAMES)))),
            template=odd(maps(spec=odd(maps(containers=odd(st.lists(maps(image=NAMES), max_size=2)))))),
            config=NAMES,
            adapters=odd(
                st.lists(
                    odd(maps(source=SOURCE, adapterRef=odd(maps(name=NAMES)), strength=NAMES)), max_size=3
                )
            ),
        )
    ),
    tuning=odd(maps(preset=odd(maps(name=NAMES)), method=NAMES, input=SOURCE, output=SOURCE)),
)


@settings(deadline=None)
@given(WORKSPACES | st.dictionaries(KEYS | st.text(), VALUES, max_size=6))
def test_every_workspace_has_an_answer(workspace: dict[str, Any]) -> None:
    for config in (MACHINE, BYO):
        found = judge(workspace, CATALOG, config, {})
        assert isinstance(found, Findings)
        assert all(each.sentence for each in (*found.refusals, *found.warnings))
        assert found.without(found) == Findings()


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6) | maps(metadata=VALUES, spec=odd(maps(source=SOURCE))))
def test_every_adapter_has_an_answer(adapter: dict[str, Any]) -> None:
    assert isinstance(judge_adapter(adapter, {}), Findings)


@settings(deadline=None)
@given(
    st.dictionaries(st.just("data"), st.dictionaries(st.just("inference_config.yaml"), st.text() | VALUES))
)
def test_every_config_map_has_an_answer(config_map: dict[str, Any]) -> None:
    preset = CATALOG.preset("phi-4")
    assert all(each.sentence for each in config_problems("c", config_map, preset))
