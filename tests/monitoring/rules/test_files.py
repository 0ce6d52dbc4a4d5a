"""The files of the alerts without Prometheus: written from one source, and asking only for what our programs show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from hack.alerts.files import GROUPS, alerts, azure_template, files, prometheus_rule, rules, stale
from hack.alerts.model import Alert
from hack.families import families, labels, series
from monitoring.rules.cases import CASES
from support.families import server_families

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "manifests" / "monitoring"
ALERTS = {alert.name: alert for alert in alerts()}
ADDED_BY_SCRAPING = frozenset({"job", "instance", "pod", "namespace"})
NOT_OURS = frozenset({"le"})
OF_THE_API_SERVER = {"apiserver_admission_webhook_fail_open_count": {"name", "type"}}
"""Series, with their labels, of a kube-apiserver that is scraped as well: only it knows that it could not reach us."""

SERIES = {name: family for family in families().values() for name in series(family)}
"""What a scrape of the operator and the provisioner brings, by the names that queries use."""
OF_SERVERS = {name: family.labels for family in server_families() for name in family.series}
"""The same of inference servers."""


def selectors(tree: Any) -> list[promql_parser.VectorSelector]:
    """Every series that a query asks for."""
    if isinstance(tree, promql_parser.VectorSelector):
        return [tree]
    if isinstance(tree, promql_parser.MatrixSelector):
        return [tree.vector_selector]
    found: list[promql_parser.VectorSelector] = []
    for part in ("lhs", "rhs", "expr", "args"):
        value = getattr(tree, part, None)
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                found += selectors(each)
    return found


def test_files_are_what_the_rules_say() -> None:
    assert not stale(), "run `make manifests`"


def test_the_readme_counts_them() -> None:
    assert f" {len(ALERTS)} alerts " in (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_is_a_case_for_every_alert_and_an_alert_for_every_case() -> None:
    assert set(CASES) == set(ALERTS)
    assert len(ALERTS) == sum(len(group.alerts) for group in GROUPS), "two alerts have one name"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
class TestAlert:
    def test_it_asks_for_what_there_is(self, alert: Alert) -> None:
        asked = selectors(promql_parser.parse(alert.expr))
        assert asked
        for each in asked:
            wanted = {matcher.name for matcher in each.matchers.matchers}
            if each.name in OF_THE_API_SERVER:
                assert wanted <= OF_THE_API_SERVER[each.name]
                continue
            if each.name in OF_SERVERS and each.name not in SERIES:
                assert wanted <= {*OF_SERVERS[each.name], *ADDED_BY_SCRAPING}
                continue
            assert each.name in SERIES, f"no program of ours shows {each.name}"
            known = {*labels(SERIES[each.name]), *ADDED_BY_SCRAPING, *NOT_OURS}
            assert wanted <= known, f"{each.name} has no label {wanted - known}"

    def test_it_names_labels_that_its_answer_has(self, alert: Alert) -> None:
        named = set(re.findall(r"\$labels\.(\w+)", alert.description))
        grouped = set()
        for group in re.findall(r"by \(([^)]*)\)", alert.expr):
            grouped |= {name.strip() for name in group.split(",")}
        assert named <= grouped - NOT_OURS

    def test_its_words_are_whole(self, alert: Alert) -> None:
        assert re.fullmatch(r"Kaito([A-Z][a-z]+)+", alert.name)
        assert re.fullmatch(r"\d+m", alert.wait), "Azure's durations are made from minutes"
        for text in (alert.summary, alert.description):
            assert text.endswith("."), text
            assert text[0].isupper() or text.startswith("{{"), text
        assert alert.annotations["runbook_url"].endswith(f"runbook.md#{alert.name.lower()}")


def test_all_forms_hold_the_same_alerts() -> None:
    prometheus = {rule["alert"]: rule["expr"] for group in rules()["groups"] for rule in group["rules"]}
    operator = {
        rule["alert"]: rule["expr"]
        for group in prometheus_rule()["spec"]["groups"]
        for rule in group["rules"]
    }
    azure = {
        rule["alert"]: rule["expression"]
        for resource in azure_template()["resources"]
        for rule in resource["properties"]["rules"]
    }
    assert prometheus == operator == azure == {name: alert.expr for name, alert in ALERTS.items()}


def test_azure_limits() -> None:
    """At most 20 rules in a group; severities from 0 to 4; an interval of a minute or more."""
    for resource in azure_template()["resources"]:
        properties = resource["properties"]
        assert len(properties["rules"]) <= 20
        assert properties["interval"] == "PT1M"
        assert all(rule["severity"] in range(5) for rule in properties["rules"])
        assert all(re.fullmatch(r"PT\d+M", rule["for"]) for rule in properties["rules"])


def test_files_can_be_read() -> None:
    for path, text in files().items():
        tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        assert tree


def test_a_family_that_does_not_exist_is_found() -> None:
    """The test above can fail."""
    asked = selectors(
        promql_parser.parse('sum by (x) (rate(kaito_nothing_total{a="b"}[5m])) / on () other > 1')
    )
    assert {each.name for each in asked} == {"kaito_nothing_total", "other"}
    assert not {each.name for each in asked} & set(SERIES)
