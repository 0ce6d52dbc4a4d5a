"""A small custom kind, Thing, for tests of schemas and rules."""

from __future__ import annotations

import copy
from typing import Any

from kaito.embedded.apiserver.kinds.crd import crd_strategy
from kaito.embedded.apiserver.strategy import KindStrategy

STRING, INTEGER = {"type": "string"}, {"type": "integer"}


def definition(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"spec": spec, "status": {"type": "object", "properties": {"phase": STRING}}},
        **more,
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }


def strategy(properties: dict[str, Any], **more: Any) -> KindStrategy:
    return crd_strategy(definition({"type": "object", "properties": properties, **more}), "v1")


def thing(spec: Any, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "t", "namespace": "n"},
        "spec": spec,
        **more,
    }


def created(kind: KindStrategy, spec: Any) -> dict[str, Any]:
    obj = thing(copy.deepcopy(spec))
    kind.prune(obj)
    kind.prepare_create(obj)
    kind.complete_create(obj)
    return obj


def problems(kind: KindStrategy, spec: Any, old: Any = None) -> list[str]:
    obj = created(kind, spec)
    if old is None:
        return [str(error) for error in kind.validate(obj)]
    before = created(kind, old)
    kind.prepare_update(obj, before)
    kind.complete_update(obj, before, "")
    return [str(error) for error in kind.validate(obj, before)]
