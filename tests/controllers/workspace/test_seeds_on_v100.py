"""The three Workspaces of the introduction, on the machine that they name: one V100 with 16 GB, without bfloat16."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controllers.workspace.builders import (
    CATALOG,
    Object,
    adapter_status,
    as_read,
    condition,
    decided,
    provisioned,
    seed,
    step,
)
from kaito.catalog import Machine, Parallelism, Preset, machine_of_sku, max_context
from kaito.catalog.memory import BLOCK_TOKENS, ledger
from kaito.catalog.sizing import dtype_on
from kaito.controllers.workspace import Observed, WorkspaceConfig
from kaito.controllers.workspace.decide.plan import Plan, make_plan
from kaito.runtime.resources import DEPLOYMENTS

CONFIG = WorkspaceConfig(registry="r.example/kaito", stand_in_weights="tiny-phi-3")


def v100() -> Machine:
    sku = CATALOG.sku("Standard_NC6s_v3")
    assert sku is not None
    return machine_of_sku(sku)


def preset(name: str) -> Preset:
    found = CATALOG.preset(name)
    assert found is not None
    return found


def container(given: Object) -> Object:
    """The serving container, once adapters are read and the node is there."""
    observed, _ = step(Observed(given), CONFIG)
    read = {name: {**each, "status": adapter_status()} for name, each in observed.adapters.items()}
    observed, _ = step(replace(observed, adapters=read), CONFIG)
    _, decision = step(provisioned(observed), CONFIG)
    (workload,) = [write.body for write in decision.writes if write.resource == DEPLOYMENTS]
    found: Object = workload["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("name", ["inference", "adapters", "tuning"])
def test_it_names_that_machine(name: str) -> None:
    assert seed(name)["resource"]["instanceType"] == "Standard_NC6s_v3"
    assert (v100().model, v100().gpus, v100().memory_gib) == ("NVIDIA V100", 1, 16.0)
    assert v100().bfloat16 is False


@pytest.mark.parametrize(
    ("name", "model", "context", "rank"),
    [("inference", "phi-3-mini-4k-instruct", 4096, 0), ("adapters", "phi-3-mini-128k-instruct", 9504, 8)],
)
def test_it_is_served_in_float16_by_an_image_with_code_for_it_and_with_a_context_that_fits(
    name: str, model: str, context: int, rank: int
) -> None:
    served = container(seed(name))
    arguments = dict(each[2:].split("=", 1) for each in served["args"])
    assert served["image"] == f"r.example/kaito/kaito-{model}:0.2.0-transformers-torch2.10"
    assert arguments["preset"] == model
    assert arguments["dtype"] == "float16"
    limit = preset(model).context_tokens
    assert limit is not None
    assert int(arguments.get("max-model-len", limit)) == context
    one = Parallelism()
    assert ledger(preset(model), v100(), one, context, 1, rank).free >= 0
    if context < limit:  # and no longer one would
        assert ledger(preset(model), v100(), one, context + BLOCK_TOKENS, 1, rank).free < 0


@pytest.mark.parametrize("name", ["inference", "adapters"])
def test_its_gpu_and_its_node_are_one_of_each(name: str) -> None:
    assert container(seed(name))["resources"]["limits"]["nvidia.com/gpu"] == "1"
    plan = make_plan(seed(name), None, CATALOG, CONFIG)
    assert isinstance(plan, Plan)
    assert plan.choice is not None
    assert (plan.choice.nodes, plan.choice.runtime, plan.choice.dtype) == (1, "transformers", "float16")


def test_a_config_that_asks_for_bfloat16_does_not_get_it_and_is_told() -> None:
    plan = make_plan(seed("inference"), None, CATALOG, CONFIG, {"vllm": {"dtype": "bfloat16"}})
    assert isinstance(plan, Plan)
    assert plan.choice is not None
    assert plan.choice.dtype == "float16"
    told = "NVIDIA V100 has compute capability 7.0, and bfloat16 needs 8.0: float16 is used"
    assert f"inference.config asks for bfloat16; {told}" in plan.notes


def test_tuning_waits_for_fine_tuning_and_its_model_fits_the_machine_in_float16() -> None:
    given = seed("tuning")
    decision = decided(as_read(given), CONFIG)
    assert "fine-tuning is not available yet" in condition(decision.status, "TuningNotImplemented")["message"]
    model = preset(given["tuning"]["preset"]["name"])
    assert model.name == "phi-3-mini-128k-instruct"
    assert dtype_on(model, v100()) == "float16"
    assert max_context(model, v100(), Parallelism()) == 9584
