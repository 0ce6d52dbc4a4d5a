"""`kaito local up --node-provisioner=byo`: nothing makes nodes; the user labels the one that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.local_mode import start_local_mode, stop_local_mode

pytestmark = [pytest.mark.processes, pytest.mark.slow]

WORKSPACE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: byo}
resource: {labelSelector: {matchLabels: {apps: phi-3}}}
inference: {preset: {name: phi-3-mini-4k-instruct}}
"""


def test_a_workspace_waits_for_a_labelled_node_and_is_served_there(tmp_path: Path) -> None:
    (tmp_path / "byo.yaml").write_text(WORKSPACE)
    mode = start_local_mode(tmp_path / "a folder", "--node-provisioner=byo")
    try:
        mode.kubectl("apply", "-f", str(tmp_path / "byo.yaml"))
        mode.kubectl("wait", "workspace/byo", "--for=jsonpath={.status.reason}=NodeNotReady", "--timeout=30s")
        label = next(line.split() for line in mode.output.read_text().splitlines() if "kubectl label" in line)
        mode.kubectl(*label[1:])
        mode.wait_ready("byo")
        shown = mode.kubectl("get", "workspace", "byo", "-o", "jsonpath={.status.workerNodes}").stdout
        assert shown == '["kaito-local"]'
        assert mode.kubectl("get", "machine,nodeclaim", "-o", "name").stdout == ""
        asked = mode.kaito("chat", "byo", "What is the capital of France?")
        assert asked.stdout.strip() == "The capital of France is Paris.", asked.stderr + mode.logs()
    finally:
        stop_local_mode(mode)
