"""`status.resolved`: what was found out or chosen once and holds until the spec says otherwise.

Three parts are read and written here, each beside the others and whatever else lies there: `model`, what was looked up
of a model that the catalogue does not have, `weights`, the commit of the user's own, and `serving`, the choices that
cost money. Neither a new catalogue nor new
prices move a running model; `for` says which spec a choice was made for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, cast, get_args

import orjson

from kaito.catalog.memory import Parallelism
from kaito.catalog.models import Dtype, Runtime
from kaito.controllers.workspace.model import Object

MODEL: Final = "model"
SERVING: Final = "serving"
WEIGHTS: Final = "weights"
FOR: Final = "for"


@dataclass(frozen=True, slots=True)
class Choice:
    """How a model is served, on one machine size."""

    instance_type: str
    """"" where only the labels of existing nodes are known."""
    nodes: int
    copies: int
    """As many as nodes: each serves the whole model. 1: all nodes serve one copy together."""
    runtime: Runtime
    parallelism: Parallelism
    dtype: Dtype
    context: int | None
    """Tokens that a request may have; None: the engine finds out."""
    why: str = ""
    """Why this size and this number of nodes, as a sentence; "" where the user named both."""
    sizes: tuple[str, ...] = ()
    """The sizes that are tried, in this order, where the user named none."""
    planned: int | None = None
    """Tokens that cache was counted for, where the user's file says it; None: the usual."""
    sequences: int = 1
    """Requests that cache was counted for."""
    ranks: tuple[int, ...] = ()
    """Of the adapters that room was counted for."""

    @property
    def distributed(self) -> bool:
        """Whether all nodes serve one copy of the model together."""
        return self.nodes > 1 and self.copies == 1


def key_of(parts: Mapping[str, Any]) -> str:
    """16 hex digits over the parts of a spec that a choice follows from."""
    return hashlib.sha256(orjson.dumps(dict(parts), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def read_choice(workspace: Mapping[str, Any], key: str | None) -> Choice | None:
    """The choice that was made for that key, or, without one, for any; None where there is none, or it cannot be
    read."""
    part = _part(workspace, SERVING)
    if part is None or (key is not None and part.get(FOR) != key):
        return None
    runtime, dtype, context = part.get("runtime"), part.get("dtype"), part.get("context")
    numbers = [part.get(name) for name in ("nodes", "copies", "tensor", "pipeline", "data")]
    if not all(_positive(each) for each in numbers) or not (context is None or _positive(context)):
        return None
    if runtime not in get_args(Runtime) or dtype not in get_args(Dtype):
        return None
    nodes, copies, tensor, pipeline, data = cast("list[int]", numbers)
    sizes, ranks = part.get("sizes"), part.get("adapterRanks")
    planned, sequences = part.get("plannedContext"), part.get("concurrency")
    return Choice(
        str(part.get("instanceType") or ""),
        nodes,
        copies,
        cast(Runtime, runtime),
        Parallelism(tensor, pipeline, data),
        cast(Dtype, dtype),
        context,
        str(part.get("why") or ""),
        tuple(str(each) for each in sizes) if isinstance(sizes, list) else (),
        planned if _positive(planned) else None,
        sequences if _positive(sequences) else 1,
        tuple(each for each in ranks if _positive(each)) if isinstance(ranks, list) else (),
    )


def read_former(workspace: Mapping[str, Any], spec: str) -> Choice | None:
    """The choice that was made for that spec, whatever was beside it then; None where there is none."""
    kept = (_part(workspace, SERVING) or {}).get(FOR)
    return read_choice(workspace, None) if isinstance(kept, str) and kept.partition("-")[0] == spec else None


def with_settings(spec: str, settings: Mapping[str, Any]) -> str:
    """What a choice is made for: a spec, and what is beside it, if anything is: what its ConfigMap says, its adapters,
    and how many are answered at once."""
    return f"{spec}-{key_of(settings)}" if settings else spec


def has_choice(workspace: Mapping[str, Any]) -> bool:
    """Whether any choice is written down, whatever it was made for."""
    return _part(workspace, SERVING) is not None


def counts_adapters(workspace: Mapping[str, Any]) -> bool:
    """Whether the choice was made by a version that counts room for adapters: it says so even where there are none."""
    return "adapterRanks" in (_part(workspace, SERVING) or {})


def with_choice(status: Object, key: str, choice: Choice | None) -> Object:
    """The status with the choice for that key, or without any."""
    if choice is None:
        return _with(status, SERVING, None)
    part: Object = {
        FOR: key,
        "instanceType": choice.instance_type,
        "nodes": choice.nodes,
        "copies": choice.copies,
        "runtime": choice.runtime,
        "tensor": choice.parallelism.tensor,
        "pipeline": choice.parallelism.pipeline,
        "data": choice.parallelism.data,
        "dtype": choice.dtype,
        "adapterRanks": list(choice.ranks),
    }
    if choice.context is not None:
        part["context"] = choice.context
    if choice.why:
        part["why"] = choice.why
    if choice.sizes:
        part["sizes"] = list(choice.sizes)
    if choice.planned is not None:
        part["plannedContext"] = choice.planned
    if choice.sequences > 1:
        part["concurrency"] = choice.sequences
    return _with(status, SERVING, part)


def read_model(workspace: Mapping[str, Any]) -> Object | None:
    """What was looked up of the Workspace's model: `{id, revision, …}`; None where nothing was."""
    return _part(workspace, MODEL)


def with_model(status: Object, facts: Object | None) -> Object:
    """The status with what was looked up of the model, or without."""
    return _with(status, MODEL, facts)


def read_weights(workspace: Mapping[str, Any]) -> Object | None:
    """At which commit weights of the user's own are served: `{id, revision}`; None where that was not found out."""
    return _part(workspace, WEIGHTS)


def with_weights(status: Object, part: Object | None) -> Object:
    """The status with the commit of the weights, or without."""
    return _with(status, WEIGHTS, part)


def _part(workspace: Mapping[str, Any], name: str) -> Object | None:
    resolved = (workspace.get("status") or {}).get("resolved")
    part = resolved.get(name) if isinstance(resolved, dict) else None
    return part if isinstance(part, dict) else None


def _with(status: Object, name: str, part: Object | None) -> Object:
    resolved = status.get("resolved")
    rest = (
        {key: value for key, value in resolved.items() if key != name} if isinstance(resolved, dict) else {}
    )
    if part is not None:
        rest[name] = part
    kept = {key: value for key, value in status.items() if key != "resolved"}
    return {**kept, "resolved": rest} if rest else kept


def _positive(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
