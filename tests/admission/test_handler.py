"""When the webhook has nothing to say, and how it says several things."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from admission.asking import adapters, ask, told, workspaces
from admission.cases import BYO, CATALOG, MACHINE, of
from api.workspaces import SELECTOR, workspace
from kaito.api.resources import ADAPTERS
from kaito.catalog.prices import Prices
from kaito.controllers.admission import MAX_FINDINGS, Admission, Findings
from kaito.controllers.workspace.admission.config_map import config_problems
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.webhook.admission import Allow, Deny
from support.control_plane import ControlPlane

WRONG = workspace(
    metadata={"name": "ws", "namespace": "default", "annotations": {"kaito.sh/performance-mode": "fast"}},
    resource={"instanceType": "Standard_NC6s_v33", **SELECTOR},
    inference={"preset": {"name": "phi-3-mini"}, "config": "absent"},
)


async def test_several_wrong_things_are_told_together_with_the_warnings(world: ControlPlane) -> None:
    answer = await ask(workspaces(world.client, CATALOG, MACHINE), WRONG)
    assert isinstance(answer, Deny)
    assert answer.message == 'Workspace.kaito.sh "ws" is invalid'
    assert list(told(answer)) == [
        "metadata.annotations[kaito.sh/performance-mode]",
        "inference.preset.name",
        "resource.instanceType",
    ]
    assert answer.warnings == [
        "inference.config: there is no ConfigMap absent in namespace default; create it"
    ]


PRICES = Prices.model_validate(
    {
        "prices": [
            {
                "cloud": "azure",
                "region": "westeurope",
                "size": sku.name,
                "per_hour": sku.memory_gib / 10,
                "currency": "EUR",
                "dated": "2026-01-02",
                "source": "http://127.0.0.1/",
            }
            for sku in CATALOG.skus
            if sku.cloud == "azure"
        ]
    }
)


async def test_what_to_use_instead_of_a_retired_size_is_told_with_its_price(world: ControlPlane) -> None:
    config = replace(MACHINE, prices=PRICES)
    answer = await ask(workspaces(world.client, CATALOG, config), of("inference", "kaito_workspace_phi_3"))
    assert answer.warnings == [
        "resource.instanceType: Azure retired Standard_NC6s_v3 on 2025-09-30; sizes that fit: Standard_NC4as_T4_v3 "
        "(1.60 EUR an hour), Standard_NC8as_T4_v3 (1.60 EUR an hour), Standard_NC16as_T4_v3 (1.60 EUR an hour)"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"status": {"state": "Ready"}},
        {"metadata": {"finalizers": []}},
        {"metadata": {"labels": {"a": "b"}, "managedFields": [], "generation": 2}},
    ],
)
async def test_status_and_other_metadata_are_nobodys_business(world: ControlPlane, change: Any) -> None:
    old = {**WRONG, "status": {}}
    new = {**old, **change, "metadata": {**WRONG["metadata"], **change.get("metadata", {})}}
    assert await ask(workspaces(world.client, CATALOG, MACHINE), new, old) == Allow(warnings=[])
    assert world.requests == []


async def test_what_is_on_its_way_out_is_let_go(world: ControlPlane) -> None:
    leaving = {**WRONG, "metadata": {**WRONG["metadata"], "deletionTimestamp": "2026-11-21T12:00:00Z"}}
    handler = workspaces(world.client, CATALOG, MACHINE)
    assert await ask(handler, {**leaving, "resource": {}}, leaving) == Allow(warnings=[])
    assert await ask(handler, WRONG, WRONG, sub_resource="status") == Allow(warnings=[])


async def test_only_what_gets_worse_is_refused(world: ControlPlane) -> None:
    """A catalogue that forgot a preset, or another flag, locks nobody out of what is stored."""
    handler = workspaces(world.client, CATALOG, MACHINE)
    adapter = {"source": {"name": "a", "image": "r.example/a:1"}}
    edited = {**WRONG, "inference": {**WRONG["inference"], "adapters": [adapter]}}
    assert await ask(handler, edited, WRONG) == Allow(warnings=[])
    worse = {**edited, "resource": {**WRONG["resource"], "instanceType": "Standard_NC7"}}
    answer = await ask(handler, worse, WRONG)
    assert isinstance(answer, Deny)
    assert list(told(answer)) == ["resource.instanceType"]


async def test_a_better_object_is_stored(world: ControlPlane) -> None:
    better = {**WRONG, "resource": {"instanceType": "Standard_NC24ads_A100_v4", **SELECTOR}}
    assert isinstance(await ask(workspaces(world.client, CATALOG, MACHINE), better, WRONG), Allow)


@pytest.mark.parametrize("config", [MACHINE, BYO], ids=["machine", "byo"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("inference", "kaito_workspace_phi_3"),
        ("inference", "kaito_workspace_phi_3_with_adapters"),
        ("fine-tuning", "kaito_workspace_tuning_phi_3"),
    ],
)
async def test_the_examples_apply_as_they_are(world: ControlPlane, config: Any, kind: str, name: str) -> None:
    answer = await ask(workspaces(world.client, CATALOG, config), of(kind, name))
    assert isinstance(answer, Allow)
    assert answer.warnings


async def test_an_image_that_the_operator_knows_needs_no_warning(world: ControlPlane) -> None:
    image = "ACR_REPO_HERE.azurecr.io/ADAPTER_HERE:0.0.1"
    body = of("inference", "kaito_workspace_phi_3_with_adapters")
    plain = told(await ask(workspaces(world.client, CATALOG, MACHINE), body))
    known = told(await ask(workspaces(world.client, CATALOG, MACHINE, image), body))
    assert set(plain) - set(known) == {"inference.adapters[0].source.image"}
    adapter = {"metadata": {"name": "a", "namespace": "default"}, "spec": {"source": {"image": image}}}
    assert (
        "placeholder ACR_REPO_HERE"
        in told(await ask(adapters(), adapter, resource=ADAPTERS))["spec.source.image"]
    )
    assert told(await ask(adapters(image), adapter, resource=ADAPTERS)) == {}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (None, "spec"),
        ({}, "spec.source"),
        ({"source": {}}, "spec.source"),
        ({"source": {"urls": ["https://x"]}}, "spec.source.urls"),
        ({"source": {"image": "r/a:1", "name": "Not A Name"}}, "spec.source.name"),
        ({"source": {"image": 7}}, "spec.source.image"),
    ],
)
async def test_adapters_are_looked_at_when_they_are_made(spec: Any, path: str) -> None:
    body = {"metadata": {"name": "a"}, **({} if spec is None else {"spec": spec})}
    answer = await ask(adapters(), body, resource=ADAPTERS)
    assert isinstance(answer, Deny)
    assert list(told(answer)) == [path]
    assert isinstance(await ask(adapters(), {**body, "more": 1}, body, ADAPTERS), Allow), "stored already"


async def test_an_answer_stays_small_whatever_is_sent(world: ControlPlane) -> None:
    """As with a CRD that has no schema, where nothing was looked at before."""
    entries = [{"source": {"name": "x" * 10_000, "image": "A" * 10_000}, "strength": 7} for _ in range(500)]
    body = workspace(inference={"preset": {"name": "n" * 10_000}, "adapters": entries})
    body["resource"] = {"labelSelector": {"matchLabels": {f"k{each}": 7 for each in range(60)}}}
    answer = await ask(workspaces(world.client, CATALOG, MACHINE), body)
    assert isinstance(answer, Deny)
    assert len(answer.causes) == MAX_FINDINGS
    assert sum(len(cause.message) for cause in answer.causes) + sum(map(len, answer.warnings)) < 100_000


CONTENTS = [
    (None, "has no key inference_config.yaml"),
    ("vllm: [", "is not YAML (line "),
    ("just text", "is no mapping"),
    ("vllm: 7", "vllm in ConfigMap config is no mapping"),
    ("vllm: {max-model-len: many}", "write a whole number of tokens from 1, or auto"),
    ("vllm: {max_model_len: 0}", "write a whole number of tokens from 1, or auto"),
    ("vllm: {max-model-len: true}", "write a whole number of tokens from 1, or auto"),
    ("vllm: {max-model-len: [1]}", "is no whole number above 0"),
    (f"vllm: {{max-model-len: 0x{'f' * 5000}}}", "is no whole number above 0"),
    ('vllm: {max-model-len: !!int ""}', "is not YAML"),
    ("vllm: {max-model-len: !!bool perhaps}", "is not YAML"),
    ("vllm: {max-model-len: !!timestamp today}", "is not YAML"),
    ("mistralrs: {max-model-len: 5000}", "has a context of at most 4096 tokens"),
    ("[" * 10_000, "has more than 100 brackets"),
    ("[" * 100, "is not YAML"),
    ("a: " * 200, "is not YAML"),
    ("a: &a [x]\nb: *c", "is not YAML"),
    ("transformers: {dtype: int3}", "transformers.dtype must be one of auto, bfloat16,"),
    (
        "transformers: {max-num-seqs: few}",
        "transformers.max-num-seqs must be a whole number from 1, not 'few' "
        "(inference_config.yaml in ConfigMap config)",
    ),
]


@pytest.mark.parametrize(("text", "says"), CONTENTS, ids=[str(text)[:20] for text, _ in CONTENTS])
async def test_a_config_that_no_server_could_read_is_refused(
    world: ControlPlane, text: str | None, says: str
) -> None:
    data = {"other": "x"} if text is None else {"inference_config.yaml": text}
    await world.client.create(
        CONFIGMAPS, {"metadata": {"name": "config", "namespace": "default"}, "data": data}
    )
    body = of("inference", "kaito_workspace_phi_3")
    body["inference"]["config"] = "config"
    answer = await ask(workspaces(world.client, CATALOG, MACHINE), body)
    assert isinstance(answer, Deny)
    assert says in told(answer)["inference.config"]


def test_a_config_of_aliases_is_not_unfolded() -> None:
    """Forty lines that stand for a terabyte; whoever builds them never comes back."""
    for first, next_ in (("a0: &a0 x", "- *a{}"), ("a0: &a0 {k: v}", "<<: [*a{0}, *a{0}]")):
        lines = [first]
        for level in range(40):
            word = next_.format(level)
            more = [f"a{level + 1}: &a{level + 1}", f"  {word}"]
            lines += [*more, f"  {word}"] if word.startswith("-") else more
        text = "\n".join([*lines, "vllm:", "  max-model-len: *a40"])
        assert list(config_problems("config", {"data": {"inference_config.yaml": text}}, None)) == []


async def test_a_config_that_cannot_be_looked_at_stops_nobody(world: ControlPlane) -> None:
    body = of("inference", "kaito_workspace_phi_3")
    body["inference"]["config"] = "config"
    await world.transport.close()
    answer = await ask(workspaces(world.client, CATALOG, MACHINE), body)
    assert isinstance(answer, Allow)


async def test_an_object_whose_user_changed_nothing_is_not_even_looked_at() -> None:
    looked: list[Any] = []

    def judge(obj: dict[str, Any]) -> Findings:
        looked.append(obj)
        return Findings()

    handler = Admission(("spec",), judge)
    old = {"metadata": {"name": "x", "annotations": {"a": "b"}}, "spec": {"size": 1}, "status": {"a": 1}}
    assert await ask(handler, {**old, "status": {"a": 2}}, old) == Allow(warnings=[])
    assert looked == []
    await ask(handler, {**old, "spec": {"size": True}}, old)
    assert len(looked) == 2, "the new and the old, and true is not 1"
