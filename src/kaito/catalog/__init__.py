"""The catalogue: presets, GPU SKUs and pure functions over them. Data lies in `presets/catalog/*.yaml`."""

from kaito.catalog.fit import ARCHITECTURE_MODULES, AdapterFacts, Verdict, adapter_fits
from kaito.catalog.gpus import (
    Machine,
    UnreadableGpus,
    machine_of_labels,
    machine_of_sku,
    no_bfloat16,
    part_of,
    slice_of,
)
from kaito.catalog.load import CatalogError, catalog_directory, load_catalog
from kaito.catalog.memory import Ledger, Parallelism
from kaito.catalog.models import AttentionLayers, Catalog, Cloud, Dimensions, GpuSku, Preset, Quantization
from kaito.catalog.sizing import Demand, Refused, Sizing, choices, max_context, size

__all__ = [
    "ARCHITECTURE_MODULES",
    "AdapterFacts",
    "AttentionLayers",
    "Catalog",
    "CatalogError",
    "Cloud",
    "Demand",
    "Dimensions",
    "GpuSku",
    "Ledger",
    "Machine",
    "Parallelism",
    "Preset",
    "Quantization",
    "Refused",
    "Sizing",
    "UnreadableGpus",
    "Verdict",
    "adapter_fits",
    "catalog_directory",
    "choices",
    "load_catalog",
    "machine_of_labels",
    "machine_of_sku",
    "max_context",
    "no_bfloat16",
    "part_of",
    "size",
    "slice_of",
]
