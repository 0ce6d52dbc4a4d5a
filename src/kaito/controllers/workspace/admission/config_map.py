"""The ConfigMap that `inference.config` names: what is in it, asked when a Workspace begins to name it.

A ConfigMap that is not there yet is a warning, because whoever applies a folder sends files in the order of their
names; the controller waits for it. One that is there and cannot be read by any server is a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from kaito.catalog import Catalog, GpuSku, Preset, machine_of_sku, no_bfloat16
from kaito.catalog.lines import first_runtime
from kaito.catalog.models import CatalogSource, Runtime
from kaito.catalog.options import fault_in
from kaito.controllers.admission import Finding, Findings, Object, listed, mapping
from kaito.controllers.workspace.decide.arguments import CONFIG_FILE
from kaito.controllers.workspace.decide.asked import runtime_wanted
from kaito.controllers.workspace.decide.obstacles import no_config_map
from kaito.controllers.workspace.decide.settings import settings_in, settings_of
from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.logs import get_logger
from kaito.runtime.resources import CONFIGMAPS

PATH: Final = "inference.config"
LARGEST: Final = 32 * 1024
"""Characters of a file that is looked into: reading YAML takes time, and everybody waits for the answer."""
DEEPEST: Final = 100
"""Brackets that a file may open: no settings are nested like that, and reading them takes longest."""
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNREADABLE: Final = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    RecursionError,
)
"""What reading raises: beside its own errors those of tags that do not fit their text, such as `!!int ""`."""

log = get_logger(__name__)


class ConfigMaps:
    """Looks at the ConfigMap of a Workspace."""

    def __init__(self, client: Client, catalog: CatalogSource) -> None:
        self._client = client
        self._catalog = catalog

    async def look_up(self, new: Object, old: Object | None) -> Findings:
        """Findings about the ConfigMap, if the Workspace names another one than before."""
        name = _name(new)
        namespace = mapping(new.get("metadata")).get("namespace")
        if not name or not isinstance(namespace, str) or (old is not None and _name(old) == name):
            return Findings()
        try:
            # A list of one: the right to list is there already, and get would be one more.
            found = await self._client.list(
                CONFIGMAPS, namespace=namespace, field_selector=f"metadata.name={name}"
            )
        except (ApiError, TransportError) as error:
            log.warning("a ConfigMap could not be looked at; its Workspace passes", name=name, error=error)
            return Findings()
        if not found:
            return Findings(warnings=(Finding(PATH, no_config_map(name, namespace)),))
        preset = mapping(mapping(new.get("inference")).get("preset")).get("name")
        known = self._catalog.current.preset(preset) if isinstance(preset, str) else None
        sizes = _named_sizes(new, self._catalog.current)
        return Findings(
            tuple(config_problems(name, found[0], known, _servers(new, known, sizes))),
            tuple(numbers_warnings(name, found[0], known, sizes)),
        )


def _name(workspace: Object) -> str | None:
    name = mapping(workspace.get("inference")).get("config")
    return name if isinstance(name, str) else None


def _named_sizes(workspace: Object, catalog: Catalog) -> list[GpuSku]:
    resource = mapping(workspace.get("resource"))
    names = [resource.get("instanceType"), *listed(resource.get("instanceTypes"))]
    found = (catalog.sku(name) for name in names if isinstance(name, str))
    return [sku for sku in found if sku is not None and not sku.unusable]


def _servers(workspace: Object, preset: Preset | None, sizes: Sequence[GpuSku]) -> list[Runtime]:
    """What would serve the Workspace, as far as it is known and ours: an image of the user's own has its own server."""
    options = mapping(mapping(mapping(workspace.get("inference")).get("preset")).get("presetOptions"))
    if preset is None or options.get("image"):
        return []
    wanted = runtime_wanted(workspace)
    if wanted is not None:
        return [wanted]
    return list(dict.fromkeys(first_runtime(preset, sku.compute_capability) for sku in sizes)) or [
        preset.runtime
    ]


def numbers_warnings(
    name: str, config_map: Mapping[str, Any], preset: Preset | None, skus: Iterable[GpuSku]
) -> Iterator[Finding]:
    """What becomes of numbers that the file asks for, on the machine sizes that the Workspace names."""
    said = settings_in(mapping(config_map.get("data")).get(CONFIG_FILE))
    if preset is None or not said:
        return
    for sku in skus:
        runtime = first_runtime(preset, sku.compute_capability)
        outcome = no_bfloat16(machine_of_sku(sku))
        if outcome and settings_of(said, runtime).dtype == "bfloat16":
            yield Finding(
                PATH,
                f"dtype bfloat16 in ConfigMap {name} has no effect on {sku.name}: {outcome}; write float16",
            )


def config_problems(
    name: str, config_map: Mapping[str, Any], preset: Preset | None, servers: Iterable[Runtime] = ()
) -> Iterator[Finding]:
    """What no server could read in the file, or could not do with this preset, and what one of these would end with."""
    text = mapping(config_map.get("data")).get(CONFIG_FILE)
    if not isinstance(text, str):
        yield Finding(PATH, f"ConfigMap {name} has no key {CONFIG_FILE}; write the settings there")
        return
    if len(text) > LARGEST:
        return
    if text.count("[") + text.count("{") > DEEPEST:
        yield Finding(
            PATH, f"{CONFIG_FILE} in ConfigMap {name} has more than {DEEPEST} brackets; write plain settings"
        )
        return
    try:
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text, Loader=_LOADER)):
            yaml.compose(text, Loader=_LOADER)  # reads it, but builds nothing of it:
            return  # a few lines of aliases can stand for gigabytes
        document = yaml.load(text, Loader=_LOADER)
    except _UNREADABLE as error:
        place = getattr(error, "problem_mark", None)
        where = f" (line {place.line + 1})" if place is not None else ""
        yield Finding(PATH, f"{CONFIG_FILE} in ConfigMap {name} is not YAML{where}")
        return
    if document is None:
        return
    if not isinstance(document, dict):
        yield Finding(
            PATH, f"{CONFIG_FILE} in ConfigMap {name} is no mapping; write `vllm: {{max-model-len: 4096}}`"
        )
        return
    told = False
    for finding in _sections(name, document, preset):
        told = True
        yield finding
    for server in () if told else servers:
        if fault := fault_in(document, server):
            yield Finding(PATH, f"{fault} ({CONFIG_FILE} in ConfigMap {name})")
            return


def _sections(name: str, document: Mapping[Any, Any], preset: Preset | None) -> Iterator[Finding]:
    for engine in ("vllm", "transformers", "mistralrs"):
        settings = document.get(engine)
        if settings is not None and not isinstance(settings, dict):
            yield Finding(
                PATH, f"{engine} in ConfigMap {name} is no mapping; write `{engine}: {{max-model-len: 4096}}`"
            )
        elif settings:
            yield from _length(name, engine, settings, preset)


def _length(name: str, engine: str, settings: Mapping[Any, Any], preset: Preset | None) -> Iterator[Finding]:
    for key in ("max-model-len", "max_model_len"):
        value = settings.get(key)
        if value is None or value == "auto":
            continue
        where = f"{engine}.{key} in ConfigMap {name}"
        tokens = _whole(value)
        if tokens is None:
            shown = f"is {value[:40]!r}" if isinstance(value, str) else "is no whole number above 0"
            yield Finding(PATH, f"{where} {shown}; write a whole number of tokens from 1, or auto")
        elif preset is not None and preset.context_tokens is not None and tokens > preset.context_tokens:
            yield Finding(
                PATH,
                f"{where} is {tokens}; {preset.name} has a context of at most {preset.context_tokens} tokens",
            )


def _whole(value: object) -> int | None:
    """The number from 1, written as a number or as text; None for anything else."""
    if isinstance(value, str) and len(value) <= 18 and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**18:
        return None
    return value
