"""Models that only the hub knows, and commits that only the hub knows: asked for once, and kept in `status.resolved`.

What is kept holds for as long as the spec names the same model: neither a new commit on the hub nor a new catalogue
moves a model that runs. A model that the catalogue has is served without the hub; where the hub cannot be asked for the
commit of its weights, they are those of the day on which a pod starts.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson
from pydantic import ValidationError

from kaito.catalog import Catalog, Preset, Quantization
from kaito.catalog.hub import is_hub_id
from kaito.catalog.memory import GIB
from kaito.controllers.workspace.config import WorkspaceConfig
from kaito.controllers.workspace.decide.problems import Problem
from kaito.controllers.workspace.decide.resolved import FOR, key_of, read_model, read_weights, with_model
from kaito.controllers.workspace.decide.weights_source import (
    Hub,
    WeightsSource,
    own_weights,
    weights_key,
    weights_source,
)
from kaito.controllers.workspace.model import Need, Object

PATH: Final = "inference.preset.name"
LOOKUP: Final = "ModelLookup"
"""Reason while the hub is asked."""
FACTS: Final = "facts"
"""Key in `status.resolved.model`, beside `id` and `revision`: the model as an entry of the catalogue."""


@dataclass(frozen=True, slots=True)
class Question:
    """What has to be asked of the hub for a Workspace, once."""

    need: Need
    key: str
    """Of the parts of the spec that it follows from."""
    indispensable: bool
    """Whether nothing can be planned without the answer; otherwise it only tells the commit."""


def preset_name(workspace: Object) -> str:
    """What `inference.preset.name` says; "" where there is none."""
    name = ((workspace.get("inference") or {}).get("preset") or {}).get("name")
    return name.strip() if isinstance(name, str) else ""


def known_preset(workspace: Object, catalog: Catalog) -> Preset | None:
    """The model that the Workspace names: as it was looked up for it, else as the catalogue has it, else None. Weights
    of the user's own that were looked at have the size that was found, not the catalogue's."""
    found, kept = _named(workspace, catalog), read_weights(workspace) or {}
    size, method = kept.get("bytes"), kept.get("quantization")
    if found is None or not isinstance(size, int) or isinstance(size, bool) or size < 1:
        return found
    source = own_weights(workspace)
    if source is None or kept.get(FOR) != weights_key(source):
        return found
    return _stored_as(found, size, method if isinstance(method, str) else None)


def _named(workspace: Object, catalog: Catalog) -> Preset | None:
    name = preset_name(workspace)
    if not name:
        return None
    listed = catalog.preset(name)
    kept = read_model(workspace)
    if kept is None or kept.get(FOR) != _key(workspace):
        return listed
    facts = kept.get(FACTS)
    if isinstance(facts, dict):
        return _entry(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)) or listed
    revision = kept.get("revision")
    if listed is None or not isinstance(revision, str) or listed.revision == revision:
        return listed
    return _pinned(listed, revision)


def not_looked_up(workspace: Object, catalog: Catalog) -> Problem | None:
    """That the Workspace names a model of the hub which was not asked about yet."""
    name = preset_name(workspace)
    if known_preset(workspace, catalog) is not None or not is_hub_id(name):
        return None
    return Problem.at(PATH, LOOKUP, f"{name} is not in the catalogue; the hub is asked what it is")


def question(workspace: Object, catalog: Catalog, config: WorkspaceConfig) -> Question | None:
    """What must be asked, or None where all is known. The Workspace's fields have the types of the API's model."""
    name = preset_name(workspace)
    kept = read_model(workspace)
    if not name or workspace.get("tuning") is not None:
        return None
    if kept is not None and kept.get(FOR) == _key(workspace) and known_preset(workspace, catalog) is not None:
        return None
    preset = catalog.preset(name)
    if preset is None:
        if not is_hub_id(name):
            return None
        return Question(Need("model", name, _revision(workspace), _secret(workspace)), _key(workspace), True)
    source = weights_source(workspace, preset, config)
    model = isinstance(source, Hub) and not source.own and source.repository == preset.repo
    if isinstance(source, Hub) and model and source.revision is None:
        return Question(Need("model", source.repository, None, source.secret), _key(workspace), False)
    return None


def kept_commit(status: Object, workspace: Object, source: WeightsSource) -> Object:
    """The status with the commit at which the model's own weights are downloaded, once that is decided: a catalogue
    that records another one does not move it."""
    kept = read_model(workspace)
    if not isinstance(source, Hub) or source.own or not source.pinned:
        return status
    if kept is not None and kept.get(FOR) == _key(workspace):
        return status
    return with_model(status, {FOR: _key(workspace), "id": source.repository, "revision": source.revision})


def model_part(asked: Question, facts: Object) -> Object:
    """What is kept in `status.resolved.model` of an answer."""
    kept: Object = {FOR: asked.key, "id": facts["id"], "revision": facts["revision"]}
    return {**kept, FACTS: facts[FACTS]} if asked.indispensable else kept


def _key(workspace: Object) -> str:
    return key_of({"id": preset_name(workspace).lower(), "revision": _revision(workspace)})


def _revision(workspace: Object) -> str | None:
    """The commit that the Workspace names for the model itself; weights of another repository are no matter here."""
    written: dict[str, Any] = (workspace.get("inference") or {}).get("preset") or {}
    own = written.get("weights") or {}
    if str(own.get("huggingFace") or "").lower() != preset_name(workspace).lower():
        return None
    return own.get("revision") or None


def _secret(workspace: Object) -> str | None:
    options = ((workspace.get("inference") or {}).get("preset") or {}).get("presetOptions") or {}
    return options.get("modelAccessSecret") or None


@lru_cache(maxsize=1024)
def _entry(facts: bytes) -> Preset | None:
    """The entry; None where a later version of this program no longer reads it, and it is asked for again."""
    try:
        return Preset.model_validate_json(facts)
    except ValidationError:
        return None


@lru_cache(maxsize=256)
def _stored_as(preset: Preset, size: int, method: str | None) -> Preset:
    """The preset with weights of that many bytes. A method that is no name of one counts as none."""
    gib = size / GIB
    changes: dict[str, Any] = {"weights_gib": gib, "quantization": None}
    if method is not None:
        with suppress(ValidationError):
            changes["quantization"] = Quantization(method=method.lower())
    if preset.disk_gib is not None and preset.weights_gib is not None and gib > preset.weights_gib:
        changes["disk_gib"] = preset.disk_gib + math.ceil(gib - preset.weights_gib)
    return preset.model_copy(update=changes)


@lru_cache(maxsize=256)
def _pinned(preset: Preset, revision: str) -> Preset:
    return preset.model_copy(update={"revision": revision})
