"""The dashboards are what the code says, fit Grafana, and ask for nothing that our programs do not show."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
import yaml

from hack.dashboards import boards
from hack.dashboards.boards import BOARDS, ROOT, TARGET
from hack.dashboards.model import COLUMNS, RUNBOOK, Dashboard, Panel, Query, Variable
from hack.dashboards.promql import Selector, filled_in, selectors
from kaito.cli.kubectl import find_kubectl
from support.families import SCRAPE_LABELS, SERVER_LABELS, Family, operator_families, server_families

BOARD_IDS = [board.uid for board in BOARDS]
LAST_APPLIED_LIMIT = 262_144
"""Bytes that annotations may take: `kubectl apply` without --server-side keeps the whole object in one."""


def queries() -> Iterator[tuple[Dashboard, str, str]]:
    """(dashboard, title of panel or name of variable, PromQL)."""
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                yield board, panel.title, query.expr
        for variable in board.variables:
            if isinstance(variable, Variable):
                selector = (
                    f"{variable.metric}{{{variable.matchers}}}" if variable.matchers else variable.metric
                )
                yield board, f"variable {variable.name}", f"count by ({variable.name}) ({selector})"


QUERIES = list(queries())


def known(board: Dashboard) -> dict[str, tuple[Family, frozenset[str]]]:
    """Series by name, with the labels that they may have, that a dashboard can ask for. That of servers may compare
    them with what the operator planned."""
    operators = {
        name: (each, each.labels | SCRAPE_LABELS) for each in operator_families() for name in each.series
    }
    if board.uid != "kaito-inference":
        return operators
    servers = {
        name: (each, each.labels | SERVER_LABELS) for each in server_families() for name in each.series
    }
    return {name: each for name, each in operators.items() if name.startswith("kaito_workspace_")} | servers


def test_the_files_are_what_the_code_says() -> None:
    assert boards.stale() == [], "run `make manifests`"


def test_every_run_writes_the_same_bytes() -> None:
    assert boards.files() == boards.files()
    for board in BOARDS:
        assert json.loads(board.json())["uid"] == board.uid


@pytest.mark.parametrize("board", BOARDS, ids=BOARD_IDS)
def test_a_dashboard_fits_grafana(board: Dashboard) -> None:
    tree = json.loads((TARGET / f"{board.uid}.json").read_text(encoding="utf-8"))
    panels: list[dict[str, Any]] = tree["panels"]
    assert tree["schemaVersion"] == 39
    assert len(tree["uid"]) <= 40
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(panels, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    refs = [[target["refId"] for target in panel.get("targets", ())] for panel in panels]
    assert all(len(set(each)) == len(each) for each in refs)


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


@pytest.mark.parametrize("board", BOARDS, ids=BOARD_IDS)
def test_the_data_source_is_a_choice(board: Dashboard) -> None:
    tree = json.loads(board.json())
    first = tree["templating"]["list"][0]
    assert (first["type"], first["name"], first["query"]) == ("datasource", "datasource", "prometheus")
    sources = list(find_all(tree, "datasource"))
    assert len(sources) > len(list(board.panels))
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def find_all(tree: Any, key: str) -> Iterator[Any]:
    match tree:
        case dict():
            for name, value in tree.items():
                if name == key:
                    yield value
                else:
                    yield from find_all(value, key)
        case list():
            for value in tree:
                yield from find_all(value, key)


def test_ids_do_not_depend_on_the_neighbours() -> None:
    def panel(title: str) -> Panel:
        return Panel(title, "stat", (Query("up"),), "What.", "Bad.")

    before = panel("Memory").id
    assert panel("Memory").id == before
    assert panel("Memory ").id != before


@pytest.mark.parametrize("board", BOARDS, ids=BOARD_IDS)
def test_every_panel_says_what_it_shows_and_what_is_bad(board: Dashboard) -> None:
    for panel in board.panels:
        for sentence in (panel.what, panel.bad):
            assert sentence.endswith((".", "?")), (panel.title, sentence)
        assert list(panel.thresholds) == sorted(panel.thresholds), panel.title


@pytest.mark.parametrize(("board", "where", "expr"), QUERIES, ids=[f"{b.uid}: {w}" for b, w, _ in QUERIES])
def test_a_query_asks_for_series_and_labels_that_exist(board: Dashboard, where: str, expr: str) -> None:
    there = known(board)
    asked = selectors(filled_in(expr))
    assert asked, expr
    for selector in asked:
        assert selector.metric in there, f"{where}: nothing shows {selector.metric}"
        family, labels = there[selector.metric]
        allowed = labels | ({"le"} if selector.metric.endswith("_bucket") else set())
        assert selector.labels <= allowed, f"{where}: {family.name} has no {selector.labels - allowed}"


def test_a_table_has_a_column_for_each_label_that_its_query_keeps() -> None:
    for board in BOARDS:
        for panel in board.panels:
            if panel.kind == "table":
                (query,) = panel.queries
                kept = re.match(r"max by \(([^)]+)\) ", query.expr)
                assert kept is not None, query.expr
                assert tuple(kept[1].split(", ")) == tuple(label for label, _ in panel.columns)


def test_every_family_of_ours_has_a_panel() -> None:
    shown: set[str] = set()
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                shown |= {selector.metric for selector in selectors(filled_in(query.expr))}
    without = [
        family.name
        for family in (*operator_families(), *server_families())
        if family.name.startswith(("kaito_", "controller_runtime_", "workqueue_", "rest_client_"))
        if not family.series & shown
    ]
    assert without == [], "add panels in hack/dashboards"


def test_runbooks_that_panels_name_exist() -> None:
    named = {panel.runbook for board in BOARDS for panel in board.panels if panel.runbook}
    page = (ROOT / RUNBOOK).read_text(encoding="utf-8")
    assert named - set(re.findall(r"^#+ (.+)$", page, re.MULTILINE)) == set()


def test_the_parser_sees_selectors_everywhere() -> None:
    found = selectors(
        'sum by (a) (rate(x{b="1"}[5m])) / on (c) group_left (d) max without (e) (y offset 1m) or -z > 0'
    )
    assert found == {
        Selector("x", frozenset({"a", "b"})),
        Selector("y", frozenset()),
        Selector("z", frozenset()),
    }


@pytest.mark.parametrize("name", ["grafana", "kube-prometheus-stack", "scrape-annotations"])
def test_grafanas_sidecar_finds_every_dashboard(name: str) -> None:
    rendered = subprocess.run(
        [str(find_kubectl()), "kustomize", str(TARGET.parent / name)],
        capture_output=True,
        text=True,
        check=True,
    )
    maps = [each for each in yaml.safe_load_all(rendered.stdout) if "grafana_dashboard" in labels_of(each)]
    assert {each["metadata"]["name"] for each in maps} == {f"{board.uid}-dashboard" for board in BOARDS}
    for each in maps:
        assert each["kind"] == "ConfigMap"
        assert each["metadata"]["namespace"] == "kaito-system"
        assert labels_of(each)["grafana_dashboard"] == "1"
        ((file, text),) = each["data"].items()
        assert json.loads(text) == json.loads((TARGET / file).read_text(encoding="utf-8"))
        assert len(json.dumps(each)) < LAST_APPLIED_LIMIT * 0.9


def labels_of(tree: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = tree["metadata"].get("labels") or {}
    return found
