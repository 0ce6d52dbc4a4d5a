"""Every GPU of the catalogue has machine code in the torch of the image that its pods get."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from hack.torch_wheels import TorchWheel, WheelError, read_wheel, recorded, versions
from kaito.catalog import Demand, GpuSku, Preset, load_catalog, machine_of_sku
from kaito.catalog.lines import LINES, Line, least_capability, line_for
from kaito.catalog.models import Runtime
from kaito.catalog.sizing import Refused, size

ROOT = Path(__file__).parents[2]
WITH_TORCH = [line for line in LINES if line.torch is not None]
USABLE = [sku for sku in load_catalog().skus if not sku.unusable]


def wheel(line: Line) -> TorchWheel:
    assert line.torch is not None
    return recorded()[line.torch]


def lacking(skus: list[GpuSku], runtime: Runtime) -> list[str]:
    """Sizes whose GPUs find no code in the image that they get."""
    found = []
    for sku in skus:
        line = line_for(runtime, sku.compute_capability)
        if line is None or sku.compute_capability is None or not wheel(line).runs_on(sku.compute_capability):
            found.append(sku.name)
    return found


def test_every_size_has_code_in_the_transformers_image_that_it_gets() -> None:
    assert lacking(USABLE, "transformers") == []


def test_every_size_that_vllm_takes_has_code_in_its_image() -> None:
    small = Preset(name="small", runtimes=("vllm",), tag="1", gpu_memory_gib=1)
    demand = Demand(runtime="vllm")
    taken = [sku for sku in USABLE if not isinstance(size(small, machine_of_sku(sku), demand), Refused)]
    assert lacking(taken, "vllm") == []
    left = {sku.model for sku in USABLE if sku not in taken}
    assert left == {"NVIDIA V100"}


def test_a_size_without_code_would_be_found() -> None:
    older = USABLE[0].model_copy(update={"name": "p2.xlarge", "compute_capability": 3.7})
    assert lacking([older], "transformers") == ["p2.xlarge"]
    newer = USABLE[0].model_copy(update={"name": "later", "compute_capability": 13.0})
    assert lacking([newer], "transformers") == ["later"]


@pytest.mark.parametrize("line", WITH_TORCH, ids=lambda line: line.name)
def test_a_line_begins_at_the_oldest_gpus_that_its_torch_has_code_for(line: Line) -> None:
    first = wheel(line).architectures[0]
    assert first == f"sm_{round(line.least_capability * 10)}"
    assert wheel(line).runs_on(line.least_capability)
    assert not wheel(line).runs_on(round(line.least_capability - 0.5, 1))


def test_the_oldest_gpus_of_a_runtime_are_those_of_its_oldest_line() -> None:
    assert least_capability("transformers") == 7.0
    assert least_capability("vllm") == 7.5
    assert line_for("transformers", 6.0) is None


def test_the_record_has_the_versions_of_the_images_and_no_others() -> None:
    assert set(recorded()) == set(versions())
    for line in WITH_TORCH:
        constraints = ROOT / "images" / f"runtime-{line.runtime}"
        if constraints.is_dir():
            file = constraints / f"constraints{line.name.removeprefix(line.runtime)}.txt"
            assert f"torch=={line.torch}" in file.read_text().splitlines()


def test_the_newest_line_is_what_the_engine_s_own_tests_run_on() -> None:
    """`make test-models` is evidence for the image only where both hold the same versions."""
    tested = set((ROOT / "constraints-models.txt").read_text().splitlines())
    image = (ROOT / "images/runtime-transformers/constraints.txt").read_text().splitlines()
    assert {line for line in image if not line.startswith("#")} <= tested


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        (7.0, True),
        (7.2, True),
        (7.5, True),
        (8.0, False),
        (8.6, True),
        (8.9, True),
        (9.0, True),
        (6.1, False),
    ],
)
def test_code_runs_on_later_gpus_of_its_generation(capability: float, runs: bool) -> None:
    made = TorchWheel("1", "x.whl", "", "12.8", ("sm_70", "sm_75", "sm_86", "sm_90a", "sm_90"))
    assert made.runs_on(capability) is runs


def pack(
    path: Path, library: bytes, version: str = "__version__ = '2.99.0+cu130'\ncuda: str = '13.0'\n"
) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("torch/lib/libtorch_python.so", library)
        archive.writestr("torch/version.py", version)
    return path


def test_the_list_is_read_out_of_a_wheel(tmp_path: Path) -> None:
    path = pack(
        tmp_path / "torch.whl", b"\x7fELF sm_9 is no list\x00sm_75 sm_90a sm_120\x00 rest sm_80 sm_90 \n"
    )
    found = read_wheel(path)
    assert found == TorchWheel(
        "2.99.0",
        "torch.whl",
        hashlib.sha256(path.read_bytes()).hexdigest(),
        "13.0",
        ("sm_75", "sm_90a", "sm_120"),
    )


@pytest.mark.parametrize("library", [b"no list", b"\x00sm_70\x00sm_80 sm_90\x00"])
def test_a_wheel_without_one_list_is_refused(tmp_path: Path, library: bytes) -> None:
    with pytest.raises(WheelError, match=r"torch\.whl: expected one list"):
        read_wheel(pack(tmp_path / "torch.whl", library))


def test_a_wheel_for_the_cpu_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "torch.whl", b"\x00sm_75\x00", "__version__ = '2.99.0+cpu'\n")
    with pytest.raises(WheelError, match="expected one list"):
        read_wheel(path)
