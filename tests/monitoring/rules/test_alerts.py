"""Every alert, judged by promtool: it fires in its minute and not before, and stays silent for all that is normal."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.alerts.files import TARGET, alerts
from monitoring.rules.cases import CASES, Series

pytestmark = pytest.mark.monitoring

RULES = TARGET / "rules" / "kaito.rules.yaml"
AFTER = 60
"""Minutes for which nothing may fire in a quiet world."""


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    assert found is not None, (
        "promtool is not on PATH: run `hack/debian-packages.sh prometheus`, or make test-monitoring"
    )
    return found


def run(promtool: str, *args: str | Path) -> None:
    done = subprocess.run([promtool, *map(str, args)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def world(series: Series, expected: Mapping[int, list[str]], name: str) -> dict[str, Any]:
    """One of promtool's tests: which series of the alert are there in these minutes."""
    return {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{name}",alertstate="firing"}}',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": labels, "value": 1} for labels in found],
            }
            for minute, found in expected.items()
        ],
    }


def played(promtool: str, folder: Path, tests: list[dict[str, Any]]) -> None:
    file = folder / "alerts.test.yaml"
    content = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    run(promtool, "test", "rules", file)


def firing(name: str, labels: Mapping[str, str]) -> str:
    severity = next(alert.severity for alert in alerts() if alert.name == name)
    every = {"alertname": name, "alertstate": "firing", "severity": severity, **labels}
    return "ALERTS{" + ",".join(f'{key}="{value}"' for key, value in sorted(every.items())) + "}"


def test_prometheus_takes_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", RULES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_fires_in_its_minute_and_not_before(promtool: str, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    expected = {case.minute - 1: [], case.minute: [firing(name, case.labels)]}
    played(promtool, tmp_path, [world(case.series, expected, name)])


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_is_silent_otherwise(promtool: str, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    minutes = {minute: list[str]() for minute in range(AFTER)}
    played(promtool, tmp_path, [world(series, minutes, name) for series in case.quiet.values()])


def test_a_cache_that_is_not_heard_of(promtool: str, tmp_path: Path) -> None:
    """The second half of a question with `or`."""
    name = "KaitoCacheStale"
    series = {'kaito_informer_age_seconds{resource="nodes"}': "0x4 901x60"}
    expected = {5: [], 6: [firing(name, {"resource": "nodes"})]}
    played(promtool, tmp_path, [world(series, expected, name)])


def test_an_example_is_told_in_full(promtool: str, tmp_path: Path) -> None:
    """Templates are filled in: names, figures and units."""
    alert = next(each for each in alerts() if each.name == "KaitoClaimStuck")
    case = CASES[alert.name]
    text = "A Machine has been registering for 36m 0s."
    told = {**alert.annotations, "description": text}
    test = {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": f"{case.minute}m",
                "alertname": alert.name,
                "exp_alerts": [
                    {"exp_labels": {"severity": "warning", **case.labels}, "exp_annotations": told}
                ],
            }
        ],
    }
    played(promtool, tmp_path, [test])


def test_prometheus_takes_the_scrape_job(promtool: str, tmp_path: Path) -> None:
    """All but the discovery of pods: Debian builds its Prometheus without Kubernetes."""
    [job] = yaml.safe_load(
        (TARGET / "scrape-annotations" / "inference.scrape.yaml").read_text(encoding="utf-8")
    )
    del job["kubernetes_sd_configs"]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump({"scrape_configs": [job], "rule_files": [str(RULES)]}), encoding="utf-8")
    run(promtool, "check", "config", file)
