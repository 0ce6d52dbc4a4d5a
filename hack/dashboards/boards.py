"""All dashboards, and the files that hold them."""

from __future__ import annotations

from pathlib import Path

from hack.dashboards import inference, operator, provisioning, workspaces
from hack.dashboards.model import Dashboard

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "manifests" / "monitoring" / "dashboards"
BOARDS: tuple[Dashboard, ...] = (operator.BOARD, workspaces.BOARD, provisioning.BOARD, inference.BOARD)

_COMPONENT = """\
# Written by `make manifests` (hack/dashboards). Grafana's sidecar loads every ConfigMap with the label
# grafana_dashboard: "1"; grafana_folder names the folder where the sidecar is told to look for that annotation.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
"""
_GENERATED = """\
  - name: {uid}-dashboard
    namespace: kaito-system
    files: [{uid}.json]
    options:
      disableNameSuffixHash: true
      labels:
        grafana_dashboard: "1"
        app.kubernetes.io/name: kaito
        app.kubernetes.io/part-of: kaito
      annotations:
        grafana_folder: KAITO
"""


def files() -> dict[Path, str]:
    """Content by path."""
    wanted = {TARGET / f"{board.uid}.json": board.json() for board in BOARDS}
    parts = [_COMPONENT, *(_GENERATED.format(uid=board.uid) for board in BOARDS)]
    wanted[TARGET / "kustomization.yaml"] = "".join(parts)
    return wanted


def stale() -> list[Path]:
    """Files that are not what the code says, or that no dashboard makes any more."""
    wanted = files()
    there = {path for path in TARGET.glob("*") if path.is_file()}
    wrong = {
        path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    return sorted(wrong | (there - wanted.keys()))


def write() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    wanted = files()
    for path in stale():
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
