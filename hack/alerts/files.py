"""The rules in the forms that ways of monitoring take, and the files that hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from hack.alerts import controllers, provisioning, workspaces
from hack.alerts.model import Alert, Group

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "manifests" / "monitoring"
GROUPS: tuple[Group, ...] = (
    workspaces.GROUP,
    provisioning.GROUP,
    controllers.RUNNING,
    controllers.WORKING,
    controllers.ADMISSION,
)
MADE_BY = "# Written by `make manifests` (hack/alerts). Each alert has a section in docs/runbook.md.\n"
AZURE_SEVERITIES = {"critical": 1, "warning": 2, "info": 3}
"""Error, warning, informational."""
INTERVAL = "1m"


def alerts() -> list[Alert]:
    """All of them."""
    return [alert for group in GROUPS for alert in group]


def rules() -> dict[str, Any]:
    """As a Prometheus rule file."""
    return {
        "groups": [
            {"name": group.name, "interval": INTERVAL, "rules": [alert.rule() for alert in group]}
            for group in GROUPS
        ]
    }


def prometheus_rule() -> dict[str, Any]:
    """As the Prometheus operator's PrometheusRule. The label `release` is what kube-prometheus-stack looks for."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "kaito",
            "namespace": "kaito-system",
            "labels": {
                "app.kubernetes.io/name": "kaito",
                "app.kubernetes.io/part-of": "kaito",
                "release": "kube-prometheus-stack",
            },
        },
        "spec": rules(),
    }


def azure_template() -> dict[str, Any]:
    """As an Azure resource template: Azure managed Prometheus takes rules as Azure resources, not from the cluster.

    Names of fields follow Microsoft.AlertsManagement/prometheusRuleGroups, version 2023-03-01.
    """
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {
            "clusterName": {"type": "string", "metadata": {"description": "Name of the AKS cluster."}},
            "azureMonitorWorkspace": {
                "type": "string",
                "metadata": {
                    "description": "Resource id of the Azure Monitor workspace that holds its metrics."
                },
            },
            "location": {
                "type": "string",
                "defaultValue": "[resourceGroup().location]",
                "metadata": {"description": "Region of the Azure Monitor workspace."},
            },
            "actionGroups": {
                "type": "array",
                "defaultValue": [],
                "metadata": {
                    "description": "Resource ids of the action groups to tell; empty: alerts are only shown."
                },
            },
        },
        "variables": {
            "copy": [
                {
                    "name": "actions",
                    "count": "[length(parameters('actionGroups'))]",
                    "input": {"actionGroupId": "[parameters('actionGroups')[copyIndex('actions')]]"},
                }
            ]
        },
        "resources": [_azure_group(group) for group in GROUPS],
    }


def _azure_group(group: Group) -> dict[str, Any]:
    return {
        "type": "Microsoft.AlertsManagement/prometheusRuleGroups",
        "apiVersion": "2023-03-01",
        "name": f"[concat('{group.name}-', parameters('clusterName'))]",
        "location": "[parameters('location')]",
        "properties": {
            "description": group.about,
            "enabled": True,
            "clusterName": "[parameters('clusterName')]",
            "scopes": ["[parameters('azureMonitorWorkspace')]"],
            "interval": "PT1M",
            "rules": [_azure_rule(alert) for alert in group],
        },
    }


def _azure_rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "enabled": True,
        "expression": alert.expr,
        "for": f"PT{alert.wait.upper()}",
        "severity": AZURE_SEVERITIES[alert.severity],
        "labels": {"severity": alert.severity},
        "annotations": alert.annotations,
        "resolveConfiguration": {"autoResolved": True, "timeToResolve": "PT5M"},
        "actions": "[variables('actions')]",
    }


def files() -> dict[Path, str]:
    """Content by path."""
    return {
        TARGET / "rules" / "kaito.rules.yaml": MADE_BY + _yaml(rules()),
        TARGET / "kube-prometheus-stack" / "prometheusrule.yaml": MADE_BY + _yaml(prometheus_rule()),
        TARGET / "azure-managed-prometheus" / "rules.template.json": json.dumps(azure_template(), indent=2)
        + "\n",
    }


def _yaml(tree: Any) -> str:
    return yaml.safe_dump(tree, sort_keys=False, width=110, allow_unicode=True)


def stale() -> list[Path]:
    """Files that are not what the rules say."""
    return [
        path
        for path, text in files().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def write() -> None:
    """Writes them all."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
