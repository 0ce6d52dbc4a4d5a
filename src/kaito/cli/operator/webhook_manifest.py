"""The ValidatingWebhookConfiguration `kaito-admission`: when the API server asks, and what it does without an answer.

    python -m kaito.cli.operator.webhook_manifest [--check] manifests/webhook/configuration.yaml

A webhook that is down blocks nothing: CEL in the CRDs still refuses what it can, the controllers report the rest in
conditions (`failurePolicy: Ignore`), and `matchConditions` leave out every write that there is nothing to say about.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.controllers.adapter.admission import BLOCKS as ADAPTER_BLOCKS
from kaito.controllers.workspace.admission import BLOCKS as WORKSPACE_BLOCKS
from kaito.runtime.crd import to_yaml
from kaito.runtime.resources import Resource

CONFIGURATION: Final = "kaito-admission"
WORKSPACE_PATH: Final = "/validate-workspace"
ADAPTER_PATH: Final = "/validate-adapter"
SERVICE: Final = "kaito-webhook"
TIMEOUT: Final = 5
"""Seconds that an apply waits at most where the webhook's pods do not answer at all."""
PART_OF: Final = {"app.kubernetes.io/name": "kaito", "app.kubernetes.io/part-of": "kaito"}

HOOKS: Final = (
    ("workspaces.kaito.sh", WORKSPACES, WORKSPACE_PATH, WORKSPACE_BLOCKS),
    ("adapters.kaito.sh", ADAPTERS, ADAPTER_PATH, ADAPTER_BLOCKS),
)

HEADER: Final = (
    "# Made from src/kaito by `python -m kaito.cli.operator.webhook_manifest`; change the code instead. The operator\n"
    "# (or cert-manager) writes caBundle, so it is not here: applying this again never takes it away.\n---\n"
)


def by_service(namespace: str, service: str = SERVICE) -> dict[str, Any]:
    """The configuration for an operator behind a Service."""
    return _configuration(
        {
            path: {"service": {"namespace": namespace, "name": service, "path": path, "port": 443}}
            for _, _, path, _ in HOOKS
        }
    )


def by_address(url: str, ca_bundle: str) -> dict[str, Any]:
    """The configuration for an operator at `url` (without a path), whose authority is `ca_bundle` (PEM in base64)."""
    return _configuration({path: {"url": f"{url}{path}", "caBundle": ca_bundle} for _, _, path, _ in HOOKS})


def _configuration(clients: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION, "labels": dict(PART_OF)},
        "webhooks": [_hook(name, resource, clients[path], blocks) for name, resource, path, blocks in HOOKS],
    }


def _hook(name: str, resource: Resource, client: dict[str, Any], blocks: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "clientConfig": client,
        "rules": [
            {
                "apiGroups": [resource.group],
                "apiVersions": [resource.version],
                "operations": ["CREATE", "UPDATE"],
                "resources": [resource.plural],
                "scope": "Namespaced",
            }
        ],
        "matchPolicy": "Equivalent",
        "matchConditions": [
            {"name": "stays", "expression": "!has(object.metadata.deletionTimestamp)"},
            {"name": "user-changed-something", "expression": _changed(blocks)},
        ],
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT,
        "admissionReviewVersions": ["v1"],
    }


def _changed(blocks: Sequence[str]) -> str:
    """CEL: the object is new, or one of the fields that a user writes is another."""
    fields = ["metadata.annotations", *blocks]
    return " || ".join(
        [
            "oldObject == null",
            *(
                f"has(object.{field}) != has(oldObject.{field}) || "
                f"(has(object.{field}) && object.{field} != oldObject.{field})"
                for field in fields
            ),
        ]
    )


def rendered(namespace: str = "kaito-system") -> str:
    """The file's contents."""
    return HEADER + to_yaml(by_service(namespace))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when `--check` finds a difference."""
    parser = argparse.ArgumentParser(
        prog="python -m kaito.cli.operator.webhook_manifest",
        description="Writes the ValidatingWebhookConfiguration.",
    )
    default = Path("manifests/webhook/configuration.yaml")
    parser.add_argument("file", type=Path, nargs="?", default=default)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where file and code differ")
    options = parser.parse_args(arguments)
    differs = not options.file.is_file() or options.file.read_text(encoding="utf-8") != rendered()
    if differs and not options.check:
        options.file.parent.mkdir(parents=True, exist_ok=True)
        options.file.write_text(rendered(), encoding="utf-8")
    if differs:
        print(f"{'differs' if options.check else 'wrote'}: {options.file}")
    return 1 if options.check and differs else 0


if __name__ == "__main__":
    sys.exit(main())
