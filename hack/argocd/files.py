"""The files: one Lua script for each kind, and all of them as a patch of the ConfigMap argocd-cm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from kaito.api.reasons import ADAPTER_REASONS, CLAIM_REASONS, WORKSPACE_REASONS, Course
from kaito.controllers.machine import MACHINE_SHAPE, NODECLAIM_SHAPE

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "manifests" / "argocd"
_SOURCES: Final = Path(__file__).parent
_MADE: Final = (
    "Made by `python -m hack.argocd` (`make manifests`); change hack/argocd or kaito.api.reasons instead."
)
_NO_DRIFT: Final = """jqPathExpressions:
  - .webhooks[]?.clientConfig.caBundle
"""


def checks() -> dict[str, str]:
    """The scripts by the name of the resource in Argo CD's settings, `group_Kind`."""
    claim = _source("claim")
    return {
        "kaito.sh_Workspace": _script({**CLAIM_REASONS, **WORKSPACE_REASONS}, _source("workspace")),
        "kaito.sh_Adapter": _script(ADAPTER_REASONS, _source("adapter")),
        "karpenter.sh_Machine": _script(CLAIM_REASONS, _staged(claim, MACHINE_SHAPE.dependents)),
        "karpenter.sh_NodeClaim": _script(CLAIM_REASONS, _staged(claim, NODECLAIM_SHAPE.dependents)),
        "argoproj.io_Application": f"-- {_MADE}\n{_source('application')}",
    }


def files() -> dict[Path, str]:
    """Every file and what belongs into it."""
    scripts = {FOLDER / "health" / f"{_kind(name)}.lua": script for name, script in checks().items()}
    return {**scripts, FOLDER / "argocd-cm.yaml": _settings()}


def stale() -> list[Path]:
    """The files that are not what they would be if they were written now."""
    return [path for path, text in files().items() if not path.is_file() or path.read_text("utf-8") != text]


def write() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _settings() -> str:
    data = {f"resource.customizations.health.{name}": script for name, script in checks().items()}
    webhook = "admissionregistration.k8s.io_ValidatingWebhookConfiguration"
    data[f"resource.customizations.ignoreDifferences.{webhook}"] = _NO_DRIFT
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": data,
    }
    return f"# {_MADE}\n# A patch: docs/gitops.md.\n{yaml.dump(document, Dumper=_Blocks, sort_keys=False, width=1000)}"


def _script(reasons: Mapping[str, Course], body: str) -> str:
    stuck = sorted(reason for reason, course in reasons.items() if course is Course.STUCK)
    entries = "\n".join(f"  {reason} = true," for reason in stuck)
    return f"-- {_MADE}\n{_source('health').replace('@STUCK@', entries)}\n{body}"


def _staged(script: str, stages: tuple[str, ...]) -> str:
    return script.replace("@STAGES@", ", ".join(f'"{stage}"' for stage in stages))


def _source(name: str) -> str:
    return (_SOURCES / f"{name}.lua").read_text(encoding="utf-8")


def _kind(name: str) -> str:
    return name.partition("_")[2].lower()


class _Blocks(yaml.SafeDumper):
    """Writes texts of several lines as blocks, as people do."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Blocks.add_representer(str, _block)
