"""`kaito plan`: how the model is served, what that takes of a GPU and costs, and what other sizes would be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaito.catalog import load_catalog
from kaito.cli.main import app

Object = dict[str, Any]
CATALOG = load_catalog()
PHI4 = "phi-4"
A100 = "Standard_NC24ads_A100_v4"
A10 = "Standard_NV72ads_A10_v5"


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without prices, in a shell that names none."""
    monkeypatch.chdir(tmp_path)
    for name in ("KAITO_PRICES", "LOCATION", "CLOUD_PROVIDER"):
        monkeypatch.delenv(name, raising=False)


def workspace(preset: str = PHI4, **resource: Any) -> Object:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "ws"},
        "resource": {"labelSelector": {"matchLabels": {"a": "b"}}, **resource},
        "inference": {"preset": {"name": preset}},
    }


def told(*documents: Object, flags: tuple[str, ...] = ()) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", "-f", "-", *flags], input=yaml.safe_dump_all(documents))
    return result.exit_code, result.output


def planned(*documents: Object, flags: tuple[str, ...] = ()) -> Object:
    _, output = told(*documents, flags=("--json", *flags))
    (found,) = json.loads(output)["workspaces"]
    return found  # type: ignore[no-any-return]


def priced(per_gib: float = 0.1, cloud: str = "azure", region: str = "westeurope", **named: float) -> Path:
    """A price file: every size costs so much for a GiB of its GPU memory, but for those that are named."""
    rows = [
        {
            "cloud": cloud,
            "region": region,
            "size": sku.name,
            "per_hour": named.get(sku.name, round(sku.memory_gib * per_gib, 4)),
            "currency": "USD",
            "dated": "2026-01-02",
            "source": "http://127.0.0.1/",
        }
        for sku in CATALOG.skus
        if sku.cloud == cloud
    ]
    file = Path(".kaito/prices.yaml")
    file.parent.mkdir(exist_ok=True)
    kept = yaml.safe_load(file.read_text())["prices"] if file.exists() else []
    file.write_text(yaml.safe_dump({"prices": [*kept, *rows]}))
    return file


def test_the_parts_of_a_gpu_are_told_and_add_up() -> None:
    plan = planned(workspace(instanceType=A100))
    (way,) = plan["serving"]
    memory = way["memory"]
    assert sum(memory.values()) - memory["capacity"] == pytest.approx(memory["capacity"], abs=0.01)
    assert (memory["capacity"], way["plannedContext"], way["context"]) == (80, 8192, 16384)
    assert (way["runtime"], way["nodes"], way["tensorParallel"]) == ("vllm", 1, 1)
    assert plan["model"] == {
        "name": "phi-4",
        "repo": "microsoft/phi-4",
        "revision": "187ef0342fff0eb3333be9f00389385e95ef0b61",
    }
    _, output = told(workspace(instanceType=A100))
    assert "weights     cache  overhead      free        of" in output


def test_without_prices_the_cost_is_unknown_and_other_sizes_are_compared_by_memory() -> None:
    plan = planned(workspace(instanceType=A100))
    assert plan["serving"][0]["price"] is None
    others = {each["name"]: each for each in plan["otherInstanceTypes"]}
    assert others["Standard_NC40ads_H100_v5"]["message"] == "14 GiB of GPU memory more"
    assert others[A10]["message"] == "32 GiB of GPU memory less"
    assert set(others) == {sku.name for sku in CATALOG.skus if sku.cloud == "azure"} - {A100}


def test_every_size_that_will_not_do_says_why() -> None:
    others = planned(workspace(instanceType=A100))["otherInstanceTypes"]
    refused = {each["name"]: each["message"] for each in others if not each["fits"]}
    assert refused["Standard_NC6s_v3"] == "Azure retired this size on 2025-09-30"
    assert "AMD" in refused["Standard_NG32ads_V620_v1"]
    fits = [each["fits"] for each in others]
    assert fits == sorted(fits, reverse=True), "those that will do come first"
    one_node = planned(workspace("falcon-40b", instanceType="Standard_NC48ads_A100_v4"))["otherInstanceTypes"]
    refused = {each["name"]: each["message"] for each in one_node if not each["fits"]}
    assert refused["Standard_NV72ads_A10_v5"].startswith("falcon-40b would need 3 nodes")


def test_prices_are_told_for_all_nodes_an_hour_and_a_month() -> None:
    priced(**{A100: 3.5})
    flags = ("--location", "westeurope")
    plan = planned(workspace("deepseek-r1-0528", instanceType="Standard_ND96isr_H200_v5"), flags=flags)
    (way,) = plan["serving"]
    assert way["nodes"] > 0
    assert way["price"]["perHour"] == pytest.approx(112.8 * way["nodes"])
    assert way["price"]["perMonth"] == pytest.approx(112.8 * way["nodes"] * 730)
    assert (way["price"]["dated"], way["price"]["source"]) == ("2026-01-02", "http://127.0.0.1/")
    _, output = told(workspace(instanceType=A100), flags=flags)
    assert "  price     3.50 USD an hour, 2,555 USD a month (2026-01-02)" in output


def test_what_other_sizes_cost_is_compared_in_money_and_the_cheapest_comes_first() -> None:
    priced(**{A100: 3.5, A10: 6.5})
    plan = planned(workspace(instanceType=A100))
    others = plan["otherInstanceTypes"]
    message = {each["name"]: each["message"] for each in others}
    assert message[A10] == "3.00 USD an hour more"
    costs = [each["price"]["perHour"] for each in others if each["fits"]]
    assert costs == sorted(costs)
    dear = planned(workspace(instanceType=A10))
    assert {each["name"]: each["message"] for each in dear["otherInstanceTypes"]}[
        A100
    ] == "3.00 USD an hour less"


def test_where_no_size_is_written_the_cheapest_is_chosen_and_the_reason_told() -> None:
    assert planned(workspace())["instanceTypes"][0]["name"] == A10, "the least memory"
    priced(**{A100: 0.5})
    plan = planned(workspace())
    assert plan["instanceTypes"][0]["name"] == A100
    assert "costs least: 0.50 USD an hour (2026-01-02)" in plan["notes"][0]


def test_a_price_list_with_gaps_never_says_what_costs_least() -> None:
    file = priced(**{A100: 3.5, A10: 6.5})
    rows = [each for each in yaml.safe_load(file.read_text())["prices"] if each["size"] in (A100, A10)]
    file.write_text(yaml.safe_dump({"prices": rows}))
    plan = planned(workspace())
    assert plan["instanceTypes"][0]["name"] == A10, "the least memory"
    assert "has the least GPU memory" in plan["notes"][0]
    assert "prices are known of 2 only" in plan["notes"][0]


def test_sizes_that_a_region_does_not_sell_are_no_gap_and_are_not_chosen() -> None:
    file = priced(**{A100: 3.5, A10: 6.5})
    rows = yaml.safe_load(file.read_text())["prices"]
    keys = ("cloud", "region", "size", "dated")
    file.write_text(
        yaml.safe_dump(
            {
                "prices": [each for each in rows if each["size"] in (A100, A10)],
                "absent": [
                    {key: each[key] for key in keys} for each in rows if each["size"] not in (A100, A10)
                ],
            }
        )
    )
    plan = planned(workspace())
    assert [each["name"] for each in plan["instanceTypes"]] == [A100, A10]
    assert f"of 2 that hold phi-4, 1 x {A100} costs least: 3.50 USD an hour" in plan["notes"][0]
    others = {each["name"]: each["message"] for each in plan["otherInstanceTypes"] if each["fits"]}
    assert others
    assert all(message.endswith("not in the region's price list") for message in others.values())
    assert planned(workspace(instanceType=next(iter(others))))["ok"], "whoever names it knows better"


def test_a_file_of_several_regions_wants_one_to_be_named() -> None:
    priced()
    priced(0.2, region="eastus")
    _, output = told(workspace(instanceType=A100))
    assert "price     unknown: write --location; there are prices of eastus, westeurope" in output
    _, output = told(workspace(instanceType=A100), flags=("--location", "East US"))
    assert "price     16.00 USD an hour" in output
    _, output = told(workspace(instanceType=A100), flags=("--location", "mars"))
    assert "price     unknown: the price file does not have it in mars" in output


def test_what_several_workspaces_cost_together_is_told() -> None:
    bodies = [
        workspace(instanceType=A100),
        workspace(instanceType=A10),
        workspace(instanceType="Standard_NC6s_v33"),
    ]
    for number, body in enumerate(bodies):
        body["metadata"]["name"] = f"ws-{number}"
    assert "Together" not in told(*bodies)[1]
    priced(**{A100: 3.5, A10: 6.5})
    assert told(*bodies)[1].rstrip().endswith("Together 10.00 USD an hour, 7,300 USD a month")
    assert "Together" not in told(bodies[0])[1]


def test_a_price_file_is_named_by_flag_or_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    priced(**{A100: 3.5}).rename("mine.yaml")
    assert "price     unknown" in told(workspace(instanceType=A100))[1]
    assert "3.50 USD" in told(workspace(instanceType=A100), flags=("--prices", "mine.yaml"))[1]
    monkeypatch.setenv("KAITO_PRICES", "mine.yaml")
    assert "3.50 USD" in told(workspace(instanceType=A100))[1]


def test_a_broken_price_file_ends_in_a_sentence() -> None:
    Path("mine.yaml").write_text("prices: 3")
    result = CliRunner().invoke(app, ["plan", "-f", "-", "--prices", "mine.yaml"], input="")
    assert result.exit_code == 1
    assert "the price file mine.yaml: prices:" in str(result.exception)


def test_each_size_that_is_tried_has_its_own_nodes_and_price() -> None:
    priced(**{A100: 3.5})
    sizes = ["Standard_NC80adis_H100_v5", A100]
    body = workspace("llama-3.3-70b-instruct", instanceTypes=sizes)
    body["inference"]["preset"]["presetOptions"] = {"modelAccessSecret": "hub"}
    plan = planned(body)
    assert [(each["instanceType"], each["nodes"]) for each in plan["serving"]] == [
        (sizes[0], 1),
        (sizes[1], 3),
    ]
    assert [each["price"]["perHour"] for each in plan["serving"]] == [18.8, 10.5]
    _, output = told(body)
    assert f"  nodes     1 x {sizes[0]} (2 x NVIDIA H100, 188 GiB), then 3 x {A100}" in output


def test_what_the_config_map_in_the_file_says_counts() -> None:
    body = workspace(instanceType=A100)
    body["inference"]["config"] = "settings"
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"inference_config.yaml": "vllm:\n  max-model-len: 2048\n"},
    }
    plan = planned(config, body)
    (way,) = plan["serving"]
    assert (way["context"], way["plannedContext"]) == (2048, 2048)


@pytest.mark.parametrize("size", [None, A100])
def test_nodes_that_are_there_are_counted_by_their_size_and_cost_nothing_here(size: str | None) -> None:
    priced()
    body = workspace("llama-3.3-70b-instruct", **({"instanceType": size} if size else {}))
    body["inference"]["preset"]["presetOptions"] = {"modelAccessSecret": "hub"}
    plan = planned(body, flags=("--node-provisioner", "byo"))
    assert plan["nodes"] == (3 if size else 1)
    assert (plan["serving"][0]["memory"] is None) is (size is None)
    assert [each["price"] for each in plan["serving"]] == [None]
    assert plan["otherInstanceTypes"] == []


def test_labelled_nodes_that_are_too_small_are_a_problem() -> None:
    body = workspace("falcon-40b", instanceType="Standard_NV72ads_A10_v5")
    code, output = told(body, flags=("--node-provisioner", "byo"))
    assert code == 1
    assert "problem   the nodes with a=b: falcon-40b would need 3 nodes" in output


def test_a_model_without_a_gpu_is_compared_with_no_gpu_size() -> None:
    plan = planned(workspace("tiny-phi-3", instanceType="Standard_D8s_v5"))
    assert plan["otherInstanceTypes"] == []
    assert plan["serving"][0]["memory"] is None


def test_pods_of_ones_own_have_no_sizing() -> None:
    body = workspace(instanceType=A100)
    container = {"name": "mine", "image": "registry.example.com/mine:1"}
    body["inference"] = {"template": {"spec": {"containers": [container]}}}
    plan = planned(body)
    assert (plan["serving"], plan["otherInstanceTypes"], plan["model"]) == ([], [], None)
    assert plan["image"] == container["image"]


def test_where_the_size_is_too_small_the_others_are_told_all_the_same() -> None:
    priced()
    body = workspace("falcon-7b", instanceType="Standard_NC4as_T4_v3")
    code, output = told(body)
    assert code == 1
    assert "problem   resource.instanceType: Standard_NC4as_T4_v3: falcon-7b would need 2 nodes" in output
    others = {each["name"]: each for each in planned(body)["otherInstanceTypes"]}
    assert others["Standard_NC4as_T4_v3"]["fits"] is False
    assert others[A10]["price"]["perHour"] == 4.8
    assert f"{A10}    4.80 USD an hour" in output


def test_that_nothing_is_to_be_served_is_told_once_and_no_size_is_asked_for() -> None:
    for inference in ({}, {"inference": {}}):
        code, output = told({**{k: v for k, v in workspace().items() if k != "inference"}, **inference})
        assert code == 1
        assert output.count("problem ") == 1
        assert "problem   inference" in output


def test_what_is_wrong_elsewhere_brings_no_list_of_sizes() -> None:
    body = workspace("phi-44", instanceType=A100)
    plan = planned(body)
    assert plan["ok"] is False
    assert plan["otherInstanceTypes"] == []
