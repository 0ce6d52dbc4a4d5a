"""`kaito local up --weights=real`: weights come from a hub, resumed and verified, and answer under their own name.

The hub is a server on loopback that answers like the real one; what it holds under a Phi-3 preset's name are the demo's
weights, since they are the only ones small enough.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito_presets.demo import weights_path
from presets.hub_server import HubServer
from support.local_mode import EXAMPLES, KAITO, start_local_mode, stop_local_mode

pytestmark = [pytest.mark.processes, pytest.mark.slow]

PRESET = "phi-3-mini-128k-instruct"
REPOSITORY = "microsoft/Phi-3-mini-128k-instruct"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    files = {path.name: path.read_bytes() for path in weights_path().iterdir() if "stand-in" not in path.name}
    server.repositories[REPOSITORY] = files
    yield server
    server.close()


def test_real_weights_are_downloaded_resumed_and_served_under_their_own_name(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.break_after = [700]  # the first file's connection is cut: the download must go on from there
    root = tmp_path / ".kaito"
    mode = start_local_mode(
        root, "--weights=real", f"--preset={PRESET}", environment={"HF_ENDPOINT": hub.url}
    )
    try:
        told = mode.output.read_text()
        assert "of disk and" in told
        assert f"Real weights answer for {PRESET}" in told
        assert "stand-in weights" not in told
        assert any(wanted for _, wanted in hub.file_requests()), "nothing was resumed"
        manifest = (EXAMPLES / "inference/kaito_workspace_phi_3.yaml").read_text()
        (root / "ws.yaml").write_text(manifest.replace("name: phi-3-mini-4k-instruct", f"name: {PRESET}"))
        mode.kubectl("apply", "-f", str(root / "ws.yaml"))
        mode.wait_ready("workspace-phi-3-mini")
        path = "/api/v1/namespaces/default/services/workspace-phi-3-mini:80/proxy/v1/models"
        models = json.loads(mode.kubectl("get", "--raw", path).stdout)["data"]
        assert models[0]["id"] == PRESET
        answer = mode.kaito("chat", "workspace-phi-3-mini", "What is the capital of France?").stdout.strip()
        assert answer == "The capital of France is Paris."
    finally:
        stop_local_mode(mode)


@pytest.mark.parametrize(
    ("preset", "word"),
    [("phi-3-mini-999k", "phi-3-mini"), ("tiny-phi-3", "not published"), (PRESET, "microsoft/")],
)
def test_what_cannot_be_downloaded_is_refused_before_anything_starts(
    tmp_path: Path, preset: str, word: str
) -> None:
    empty = HubServer()
    try:
        done = subprocess.run(
            [str(KAITO), "local", "up", "--weights=real", f"--preset={preset}"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_ENDPOINT": empty.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        empty.close()
    assert done.returncode == 1
    assert word in done.stderr
    assert "Traceback" not in done.stderr
