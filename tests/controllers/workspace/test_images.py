"""The image of the serving container: by runtime, by what the GPUs can execute, and by where the weights are."""

from __future__ import annotations

import pytest

from kaito.catalog import GpuSku, Machine, Preset, load_catalog
from kaito.catalog.models import Runtime
from kaito.controllers.workspace import WorkspaceConfig
from kaito.controllers.workspace.decide.images import image_line, runtime_image, serving_image

CATALOG = load_catalog()
CONFIG = WorkspaceConfig(registry="r.example/kaito", runtime_tag="9.9.9")


def preset(name: str) -> Preset:
    found = CATALOG.preset(name)
    assert found is not None
    return found


def sku(name: str) -> GpuSku:
    found = CATALOG.sku(name)
    assert found is not None
    return found


PHI = preset("phi-3-mini-4k-instruct")


@pytest.mark.parametrize(
    ("runtime", "size", "line"),
    [
        ("transformers", "Standard_NC6s_v3", "transformers-torch2.10"),
        ("transformers", "p3.2xlarge", "transformers-torch2.10"),
        ("transformers", "Standard_NC4as_T4_v3", "transformers"),
        ("transformers", "Standard_NV36ads_A10_v5", "transformers"),
        ("transformers", "Standard_ND96isr_H200_v5", "transformers"),
        ("vllm", "Standard_NC4as_T4_v3", "vllm"),
        ("vllm", "Standard_NC24ads_A100_v4", "vllm"),
    ],
)
def test_the_line_follows_the_compute_capability(runtime: Runtime, size: str, line: str) -> None:
    image = serving_image(PHI, runtime, sku(size), CONFIG, {})
    assert image == f"r.example/kaito/kaito-phi-3-mini-4k-instruct:0.2.0-{line}"


def test_gpus_that_nobody_described_get_the_newest_line() -> None:
    undescribed = Machine("", "NVIDIA X", 1, 40.0)
    for gpus in (None, undescribed):
        assert image_line("transformers", gpus).name == "transformers"


def test_gpus_that_are_too_old_for_all_lines_get_the_oldest_and_not_an_error() -> None:
    assert (
        image_line("transformers", Machine("", "Tesla P100", 1, 16.0, 6.0)).name == "transformers-torch2.10"
    )
    assert image_line("vllm", sku("Standard_NC6s_v3")).name == "vllm"


def test_weights_that_are_in_no_image_are_served_from_the_runtime() -> None:
    gpus = sku("Standard_NC24ads_A100_v4")
    downloaded = next(each for each in CATALOG.presets if each.image is not None and not each.deprecated)
    assert serving_image(downloaded, "vllm", gpus, CONFIG, {}) == "r.example/kaito/runtime-vllm:9.9.9"
    own = serving_image(PHI, "transformers", sku("Standard_NC6s_v3"), CONFIG, {}, baked=False)
    assert own == "r.example/kaito/runtime-transformers-torch2.10:9.9.9"
    assert own == runtime_image("transformers", sku("Standard_NC6s_v3"), CONFIG)


def test_the_user_s_own_image_is_taken_as_it_is() -> None:
    options = {"image": "mine.example/phi:1"}
    for baked in (True, False):
        image = serving_image(PHI, "transformers", None, CONFIG, options, baked=baked)
        assert image == "mine.example/phi:1"


def test_a_model_for_the_cpu_has_the_runtime_for_the_cpu() -> None:
    tiny = preset("tiny-phi-3")
    image = serving_image(tiny, tiny.runtime, None, CONFIG, {})
    assert image == "r.example/kaito/kaito-tiny-phi-3:0.1.0-mistralrs"
