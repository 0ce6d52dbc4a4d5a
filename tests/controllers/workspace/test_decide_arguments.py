"""What of a Workspace's annotations reaches the server's command line."""

from __future__ import annotations

import pytest

from controllers.workspace.builders import decided, provisioned, step, workspace, written
from kaito.controllers.workspace import Observed


def arguments(annotations: dict[str, str], preset: str = "phi-3-mini-4k-instruct") -> list[str]:
    observed, _ = step(Observed(workspace(preset, annotations=annotations)))
    pod = written(decided(provisioned(observed)), "Deployment")["spec"]["template"]
    return list(pod["spec"]["containers"][0]["args"])


@pytest.mark.parametrize("mode", ["interactivity", "throughput"])
def test_vllm_is_told_its_mode(mode: str) -> None:
    assert f"--performance-mode={mode}" in arguments({"kaito.sh/performance-mode": mode})


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"kaito.sh/performance-mode": "balanced"},
        {"kaito.sh/performance-mode": "fast"},
        {"kaito.sh/performance-mode": "throughput", "kaito.sh/runtime": "transformers"},
    ],
)
def test_no_mode_is_told_where_there_is_none(annotations: dict[str, str]) -> None:
    assert not [each for each in arguments(annotations) if "performance" in each]
