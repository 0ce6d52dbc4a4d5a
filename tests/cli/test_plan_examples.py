"""The examples: what is on a size that Azure retired has a neighbour on one that it sells, and they plan."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kaito.catalog import load_catalog
from kaito.cli.plan.command import plan_documents, read_documents
from kaito.cli.plan.show import lines
from kaito.controllers.workspace import WorkspaceConfig
from kaito.runtime.testing.virtual import EPOCH

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted((EXAMPLES / "inference").glob("*.yaml")) + sorted((EXAMPLES / "fine-tuning").glob("*.yaml"))
CATALOG = load_catalog()


def is_sold(file: Path) -> bool:
    sku = CATALOG.sku(yaml.safe_load(file.read_text())["resource"]["instanceType"])
    return sku is not None and sku.retired is None


@pytest.mark.parametrize("file", [each for each in FILES if not is_sold(each)], ids=lambda each: each.stem)
def test_beside_an_example_on_a_retired_size_is_one_that_differs_in_size_and_names_alone(file: Path) -> None:
    (neighbour,) = [
        each
        for each in FILES
        if each.stem.startswith(f"{file.stem}_") and "with_" not in each.stem[len(file.stem) :]
    ]
    assert is_sold(neighbour)
    old, new = yaml.safe_load(file.read_text()), yaml.safe_load(neighbour.read_text())
    assert new["metadata"]["name"].startswith(old["metadata"]["name"])
    assert (new.get("inference"), new.get("tuning")) == (old.get("inference"), old.get("tuning"))
    labels = [each["resource"]["labelSelector"]["matchLabels"] for each in (old, new)]
    assert labels[0] != labels[1], "they can be applied together"


def test_the_guide_shows_what_is_printed() -> None:
    (plan,) = plan_documents(
        list(read_documents(EXAMPLES / "inference" / "kaito_workspace_phi_3_t4.yaml")),
        WorkspaceConfig(),
        "default",
        EPOCH,
        CATALOG,
        {},
    )
    printed = set(lines(plan))
    page = (EXAMPLES.parent / "docs" / "plan.md").read_text()
    shown = page[page.index("    Workspace default") : page.index("- **nodes**")].rstrip().splitlines()
    assert len(shown) > 10
    assert [each for each in shown if each[4:] not in printed] == ["        …"] * 2


@pytest.mark.parametrize("file", FILES, ids=lambda each: each.stem)
def test_every_example_plans_on_the_size_that_it_names(file: Path) -> None:
    (plan,) = plan_documents(list(read_documents(file)), WorkspaceConfig(), "default", EPOCH, CATALOG, {})
    wanted = yaml.safe_load(file.read_text())
    later = {"tuning"} if "tuning" in wanted else set()
    assert {each.path.split(".")[0].split(":")[0] for each in plan.problems} == later
    if not later:
        assert [each.name for each in plan.sizes] == [wanted["resource"]["instanceType"]]
        assert plan.nodes == 1
        retired = [each for each in plan.warnings if "retired" in each.sentence]
        assert len(retired) == (0 if is_sold(file) else 1)
