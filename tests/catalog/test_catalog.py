"""The catalogue's own files are valid, and lookups say what people need to hear."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaito.catalog import Catalog, CatalogError, catalog_directory, choices, load_catalog
from kaito.catalog.generate import drift, main


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def test_every_seed_preset_and_size_is_known(catalog: Catalog) -> None:
    for name in ("phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct"):
        preset = catalog.preset(name)
        assert preset is not None
        assert preset.architecture == "Phi3ForCausalLM"
        assert preset.tuning
        assert preset.lora
    sku = catalog.sku("Standard_NC6s_v3")
    assert sku is not None
    assert (sku.gpus, sku.memory_gib, sku.model, sku.retired) == (1, 16, "NVIDIA V100", "2025-09-30")
    assert sku.bfloat16 is False


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("phi-3-mini-4k-instruct", "phi-3-mini-4k-instruct"),
        ("Phi-3-Mini-4k-Instruct", "phi-3-mini-4k-instruct"),
        ("microsoft/Phi-3-mini-4k-instruct", "phi-3-mini-4k-instruct"),
        ("mistralai/mistral-7b-instruct-v0.3", "mistral-7b-instruct"),
        ("tiny-phi-3", "tiny-phi-3"),
    ],
)
def test_a_preset_answers_to_its_name_and_hub_id(catalog: Catalog, asked: str, name: str) -> None:
    preset = catalog.preset(asked)
    assert preset is not None
    assert preset.name == name


def test_the_demo_model_needs_no_gpu(catalog: Catalog) -> None:
    preset = catalog.preset("tiny-phi-3")
    assert preset is not None
    assert preset.gpus == 0
    assert preset.required_gpu_memory_gib == 0
    assert preset.runtime == "mistralrs"
    assert preset.revision is None


def test_dimensions_explain_the_cache_size(catalog: Catalog) -> None:
    checked = 0
    for preset in catalog.presets:
        dims = preset.dimensions
        if dims is None or preset.bytes_per_token is None:
            continue
        numbers = dims.latent or 2 * dims.key_value_heads * dims.head_size
        assert preset.bytes_per_token == numbers * dims.layers * 2, preset.name
        checked += 1
    assert checked == 61


def test_nearest_names(catalog: Catalog) -> None:
    assert catalog.preset("phi-3-mini-4k") is None
    assert catalog.nearest_presets("phi-3-mini-4k")[0] == "phi-3-mini-4k-instruct"
    assert catalog.nearest_presets("microsoft/phi3-mini-128k-instruct")[0] == "phi-3-mini-128k-instruct"
    assert "phi-2" not in catalog.nearest_presets("phi-2x", limit=10)
    assert catalog.nearest_presets("zzzzzz") != []
    assert catalog.sku("Standard_NC6_v3") is None
    assert catalog.nearest_skus("Standard_NC6_v3")[0] == "Standard_NC6s_v3"
    assert catalog.nearest_skus("standard_nc24ads_a100v4")[0] == "Standard_NC24ads_A100_v4"


def test_sizes_that_hold_a_preset_come_smallest_first_and_are_on_offer(catalog: Catalog) -> None:
    preset = catalog.preset("phi-4")
    assert preset is not None
    found, _ = choices(preset, catalog.skus)
    assert found
    assert [each.total_gib for each in found] == sorted(each.total_gib for each in found)
    for each in found:
        sku = catalog.sku(each.machine.name)
        assert sku is not None
        assert sku.retired is None
        assert each.total_gib * 0.84 >= 27.31
    mini = catalog.preset("phi-3-mini-4k-instruct")
    assert mini is not None
    assert "Standard_NC6s_v3" not in {each.machine.name for each in choices(mini, catalog.skus)[0]}


def test_sizes_of_another_cloud_or_without_a_runtime_are_never_advised(catalog: Catalog) -> None:
    assert all(name.startswith("Standard_") for name in catalog.nearest_skus("g5.xlarg", 50, "azure"))
    assert catalog.nearest_skus("g5.xlarg", cloud="aws")[0] == "g5.xlarge"
    assert "g4ad.xlarge" not in catalog.nearest_skus("g4ad.xlarge", limit=100)
    preset = catalog.preset("phi-3-mini-4k-instruct")
    assert preset is not None
    for each in choices(preset, catalog.skus)[0]:
        assert not each.machine.name.startswith(("g5g", "g4ad", "trn", "inf"))


@pytest.mark.parametrize("name", ["Standard_ND96asr_v4", "standard_nd96asr_a100_v4"])
def test_the_a100_40_gb_size_is_found_by_both_names_and_asked_for_by_azures(
    catalog: Catalog, name: str
) -> None:
    sku = catalog.sku(name)
    assert sku is not None
    assert sku.name == "Standard_ND96asr_v4"
    assert (sku.gpus, sku.memory_per_gpu_gib, sku.nvme) == (8, 40, False)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Standard_NG32ads_V620_v1", "AMD Radeon PRO V620"),
        ("g4ad.16xlarge", "AMD Radeon Pro V520"),
        ("trn1.2xlarge", "AWS Trainium"),
        ("inf2.48xlarge", "AWS Inferentia2"),
        ("g5g.metal", "arm64"),
    ],
)
def test_sizes_that_no_runtime_works_on_say_why(catalog: Catalog, name: str, says: str) -> None:
    sku = catalog.sku(name)
    assert sku is not None
    assert says in sku.unusable


def test_the_schema_beside_the_files_is_that_of_the_models(tmp_path: Path) -> None:
    directory = catalog_directory()
    assert drift(directory) == [], "run `python -m kaito.catalog.generate`"
    assert drift(tmp_path) == ["catalog.schema.json"]
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "catalog.schema.json").write_text("{}")
    assert main(["--check", str(tmp_path)]) == 1


def test_every_file_names_the_schema() -> None:
    for file in catalog_directory().glob("*.yaml"):
        assert file.read_text().startswith("# yaml-language-server: $schema=catalog.schema.json\n"), file.name


PRESET = "{name: a, runtimes: [vllm], tag: '1'}"
DIMS = "{hidden_size: 8, layers: 3, attention_heads: 2, key_value_heads: 1}"
SPLIT = "attention_layers: {full: 1, recurrent: 3}"
SKU = "{name: A, cloud: azure, gpus: 1, memory_gib: 1, model: X}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("presets: {}", "expected a list"),
        ("models: []", "expected a map with the keys presets and skus"),
        ("- 1", "expected a map"),
        ("presets: [{name: a, runtimes: [vllm], tag: '1', wings: 2}]", "presets.0.wings"),
        ("presets: [{name: a, runtimes: [abacus], tag: '1'}]", "presets.0.runtimes.0"),
        (f"presets: [{PRESET}, {PRESET.replace('name: a', 'name: b, aliases: [A]')}]", "both answer to a"),
        (f"skus: [{SKU}, {SKU.replace('name: A', 'name: a')}]", "twice: a"),
        ("presets: [", "broken.yaml"),
        (f"skus: [{SKU}, {SKU.replace('name: A', 'name: B, aliases: [a]')}]", "twice: a"),
        (f"skus: [{SKU.replace('name: A', 'name: A, replacement: B')}]", "replacement B is not on offer"),
        (
            f"presets: [{PRESET.replace('name: a', f'name: a, dimensions: {DIMS}, {SPLIT}')}]",
            "more than dimensions.layers",
        ),
        (
            f"presets: [{PRESET.replace('name: a', 'name: a, attention_layers: {full: 1, sliding: 1}')}]",
            "window",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(CatalogError, match=says):
        load_catalog(tmp_path)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="holds no"):
        load_catalog(tmp_path)
