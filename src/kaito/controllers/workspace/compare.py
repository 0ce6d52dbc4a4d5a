"""Is a live child what we rendered? Two looks, because each is blind to what the other sees.

The hash annotation sees that we no longer want something (a field we stopped writing). The comparison of fields sees
that somebody else changed something we want. Fields that we do not write are nobody's business here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from kaito.api.labels import DESIRED_HASH_ANNOTATION
from kaito.api.quantities import amount

MERGE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "containers.ports": ("containerPort", "protocol"),
    "initContainers.ports": ("containerPort", "protocol"),
    "spec.ports": ("port", "protocol"),
    "ownerReferences": ("uid",),
}
"""Lists that Kubernetes merges by key: `field`, or `parent.field` where the field's name alone does not tell."""

_DEFAULTS: Final[Mapping[str, Any]] = {"protocol": "TCP"}
_QUANTITY_PARENTS: Final = frozenset({"requests", "limits"})
_QUANTITY_FIELDS: Final = frozenset({"sizeLimit", "divisor"})


def desired_hash(body: Mapping[str, Any]) -> str:
    """16 hex digits over a rendered manifest, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def stamped(body: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash as an annotation."""
    metadata = dict(body.get("metadata") or {})
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        DESIRED_HASH_ANNOTATION: desired_hash(body),
    }
    return {**body, "metadata": metadata}


def in_sync(desired: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether every field of the (stamped) manifest, its hash included, stands in the live object."""
    return difference(desired, live) is None


def difference(desired: Mapping[str, Any], live: Mapping[str, Any]) -> str | None:
    """Path of the first desired field that the live object lacks or has otherwise; None if there is none.

    Both are JSON: dicts and lists, nothing that merely behaves like them.
    """
    return _differs(desired, live, ())


def same_quantity(left: Any, right: Any) -> bool:
    """Whether two Kubernetes quantities are the same amount (`1000m` and `1`, `1Gi` and `1024Mi`)."""
    first, second = amount(left), amount(right)
    return first == second if first is not None and second is not None else left == right


def _differs(desired: Any, live: Any, path: tuple[str, ...]) -> str | None:
    if isinstance(desired, dict):
        return _map_differs(desired, live, path)
    if isinstance(desired, list):
        return _list_differs(desired, live, path)
    if len(path) > 1 and (path[-2] in _QUANTITY_PARENTS or path[-1] in _QUANTITY_FIELDS):
        return None if same_quantity(desired, live) else _text(path)
    return None if desired == live and type(desired) is type(live) else _text(path)


def _map_differs(desired: dict[str, Any], live: Any, path: tuple[str, ...]) -> str | None:
    if not isinstance(live, dict):
        return _text(path)
    for key, value in desired.items():
        if key not in live:
            if not value:  # servers leave out empty values: `readOnly: false`, `nodeSelector: {}`
                continue
            return _text((*path, key))
        found = _differs(value, live[key], (*path, key))
        if found is not None:
            return found
    return None


def _list_differs(desired: list[Any], live: Any, path: tuple[str, ...]) -> str | None:
    if not isinstance(live, list):
        return _text(path)
    keys = _merge_keys(path)
    if keys is None or not all(isinstance(item, dict) for item in desired):
        if len(desired) != len(live):
            return _text(path)
        pairs = list(zip(desired, live, strict=True))
    else:
        by_key = {_key(item, keys): item for item in live if isinstance(item, dict)}
        pairs = [(item, by_key.get(_key(item, keys))) for item in desired]
    for index, (item, other) in enumerate(pairs):
        found = _differs(item, other, (*path, str(index)))
        if found is not None:
            return found
    return None


def _merge_keys(path: tuple[str, ...]) -> tuple[str, ...] | None:
    names = [part for part in path if not part.isdigit()]
    if len(names) > 1 and (keys := MERGE_KEYS.get(f"{names[-2]}.{names[-1]}")) is not None:
        return keys
    return MERGE_KEYS.get(names[-1]) if names else None


def _key(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(key, _DEFAULTS.get(key)) for key in keys)


def _text(path: tuple[str, ...]) -> str:
    return ".".join(path)
