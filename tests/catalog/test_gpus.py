"""A Node's labels tell its GPUs, or a sentence says which label does not."""

from __future__ import annotations

import pytest

from kaito.catalog import (
    Machine,
    UnreadableGpus,
    load_catalog,
    machine_of_labels,
    machine_of_sku,
    no_bfloat16,
    part_of,
    slice_of,
)

LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    "nvidia.com/gpu.count": "4",
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "0",
}


def test_labels_of_gpu_feature_discovery_are_read() -> None:
    found = machine_of_labels(LABELS)
    assert found == Machine("", "NVIDIA A100 SXM4 80GB", 4, 80.0, 8.0)
    assert found.bfloat16


def test_the_older_names_of_the_capability_are_read_too_and_none_is_needed() -> None:
    known = {key: value for key, value in LABELS.items() if ".compute." not in key}
    assert machine_of_labels(known).compute_capability is None
    assert machine_of_labels(known).bfloat16 is None
    old = {**known, "nvidia.com/cuda.compute.major": "7", "nvidia.com/cuda.compute.minor": "5"}
    assert machine_of_labels(old).compute_capability == 7.5
    assert machine_of_labels(old).bfloat16 is False


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"nvidia.com/gpu.product": ""},
            "no label nvidia.com/gpu.product: is GPU feature discovery installed",
        ),
        ({"nvidia.com/gpu.count": ""}, "the label nvidia.com/gpu.count is ''"),
        ({"nvidia.com/gpu.count": "0"}, "a number above 0"),
        ({"nvidia.com/gpu.memory": "80Gi"}, "the label nvidia.com/gpu.memory is '80Gi'"),
        ({"nvidia.com/gpu.memory": "9" * 40}, "a number above 0"),
        (
            {"nvidia.com/mig.config": "all-1g.10gb", "nvidia.com/mig.config.state": "success"},
            "the GPUs are split .nvidia.com/mig.config=all-1g.10gb.",
        ),
    ],
)
def test_labels_that_do_not_tell_are_named(changed: dict[str, str], says: str) -> None:
    with pytest.raises(UnreadableGpus, match=says):
        machine_of_labels({**LABELS, **changed})


def test_gpus_that_are_not_split_are_whole() -> None:
    assert machine_of_labels({**LABELS, "nvidia.com/mig.config": "all-disabled"}).gpus == 4
    assert machine_of_labels(
        {**LABELS, "nvidia.com/mig.config": "x", "nvidia.com/mig.config.state": "failed"}
    )


def test_a_part_of_a_node_keeps_the_memory_of_each_gpu() -> None:
    found = part_of(machine_of_labels(LABELS), 2)
    assert (found.gpus, found.memory_gib) == (2, 80)
    for wrong in (0, 5):
        with pytest.raises(UnreadableGpus, match=f"{wrong} GPUs are asked for, and a node has 4"):
            part_of(machine_of_labels(LABELS), wrong)


@pytest.mark.parametrize(
    ("profile", "memory"), [("1g.10gb", 10), ("3g.40gb", 40), ("7g.80gb", 80), ("1g.5.5gb", 5)]
)
def test_a_slice_is_one_gpu_of_the_memory_in_its_name(profile: str, memory: int) -> None:
    found = slice_of(machine_of_labels(LABELS), profile)
    assert (found.gpus, found.memory_gib) == (1, memory)


@pytest.mark.parametrize("profile", ["", "0g.10gb", "1g.0gb", "1g.10GB", "g.10gb", "7g.141gb"])
def test_a_profile_that_no_gpu_has_is_refused(profile: str) -> None:
    with pytest.raises(UnreadableGpus):
        slice_of(machine_of_labels(LABELS), profile)


def test_a_size_without_a_runtime_is_no_machine_to_plan_with() -> None:
    catalog = load_catalog()
    sku = catalog.sku("trn1.32xlarge")
    assert sku is not None
    with pytest.raises(
        UnreadableGpus, match=r"trn1.32xlarge cannot serve models: its accelerators are AWS Trainium"
    ):
        machine_of_sku(sku)


@pytest.mark.parametrize(
    ("capability", "says"),
    [
        (7.0, "NVIDIA X has compute capability 7.0, and bfloat16 needs 8.0: float16 is used"),
        (7.5, "NVIDIA X has compute capability 7.5, and bfloat16 needs 8.0: float16 is used"),
        (8.0, ""),
        (None, ""),
    ],
)
def test_what_becomes_of_bfloat16_is_said(capability: float | None, says: str) -> None:
    assert no_bfloat16(Machine("", "NVIDIA X", 1, 16.0, capability)) == says
