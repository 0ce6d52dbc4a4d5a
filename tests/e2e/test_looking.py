"""Weights of a user's own in an image, as the local mode treats them: looked at by a pod, and bought for only then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito_presets.demo import weights_path
from presets.test_puller import make_layout
from support.local_mode import LocalMode, start_local_mode, stop_local_mode

pytestmark = [pytest.mark.processes, pytest.mark.slow]

FITS, OTHERS, NOWHERE = (f"registry.example.com/{name}:1" for name in ("fits", "others", "nowhere"))
TAR = "application/vnd.oci.image.layer.v1.tar"


def image_of(directory: Path, **config: int) -> Path:
    """An image layout with the demo's weights; config: what its config.json says otherwise."""
    files = {path.name: path.read_bytes() for path in weights_path().iterdir()}
    files["config.json"] = json.dumps({**json.loads(files["config.json"]), **config}).encode()
    layer = [(f"workspace/weights/{name}", content) for name, content in files.items()]
    return make_layout(directory, [*layer], media_type=TAR)


@pytest.fixture(scope="module")
def mode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMode]:
    root = tmp_path_factory.mktemp("looking")
    images = {FITS: image_of(root / "fits"), OTHERS: image_of(root / "others", num_hidden_layers=3)}
    found = start_local_mode(
        root / ".kaito", *(f"--image={name}=oci:{layout}" for name, layout in images.items())
    )
    yield found
    stop_local_mode(found)


def apply(mode: LocalMode, name: str, image: str) -> None:
    workspace = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "resource": {"instanceType": "Standard_D4s_v5", "labelSelector": {"matchLabels": {"apps": name}}},
        "inference": {"preset": {"name": "tiny-phi-3", "weights": {"image": image}}},
    }
    (mode.root / f"{name}.json").write_text(json.dumps(workspace))
    mode.kubectl("apply", "-f", str(mode.root / f"{name}.json"))


def test_weights_that_fit_are_served_and_how_large_they_are_is_known(mode: LocalMode) -> None:
    apply(mode, "fits", FITS)
    mode.wait_ready("fits")
    kept = json.loads(
        mode.kubectl("get", "workspace", "fits", "-o", "jsonpath={.status.resolved.weights}").stdout
    )
    assert kept["bytes"] == (weights_path() / "model.safetensors").stat().st_size
    answer = mode.kaito("chat", "fits", "What is the capital of France?").stdout.strip()
    assert answer == "The capital of France is Paris."
    assert mode.kubectl("get", "pods", "-l", "kaito.sh/weights-check", "-o", "name").stdout == ""


@pytest.mark.parametrize(
    ("name", "image", "reason", "says"),
    [
        ("others", OTHERS, "WeightsDoNotFit", "num_hidden_layers is 3, not 2"),
        ("nowhere", NOWHERE, "ModelNotFound", "can't be pulled"),
    ],
)
def test_weights_that_would_not_do_cost_no_node(
    mode: LocalMode, name: str, image: str, reason: str, says: str
) -> None:
    apply(mode, name, image)
    mode.kubectl("wait", f"workspace/{name}", f"--for=jsonpath={{.status.reason}}={reason}", "--timeout=60s")
    path = 'jsonpath={.status.conditions[?(@.type=="ResourceReady")].message}'
    message = mode.kubectl("get", "workspace", name, "-o", path).stdout
    assert message.startswith("no node is asked for before this is mended: inference.preset.weights.image: ")
    assert says in message
    assert mode.kubectl("get", "machines", "-l", f"kaito.sh/workspace={name}", "-o", "name").stdout == ""
    mode.kubectl("delete", "workspace", name, "--timeout=30s")
