"""The catalogue: presets, GPU SKUs and pure functions over them. Data lies in `presets/catalog/*.yaml`."""

from kaito.catalog.fit import ARCHITECTURE_MODULES, AdapterFacts, Verdict, adapter_fits
from kaito.catalog.load import CatalogError, catalog_directory, load_catalog
from kaito.catalog.models import Catalog, Dimensions, GpuSku, Preset

__all__ = [
    "ARCHITECTURE_MODULES",
    "AdapterFacts",
    "Catalog",
    "CatalogError",
    "Dimensions",
    "GpuSku",
    "Preset",
    "Verdict",
    "adapter_fits",
    "catalog_directory",
    "load_catalog",
]
