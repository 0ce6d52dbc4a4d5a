"""Objects of builtin kinds, and what their strategies make of them."""

from __future__ import annotations

import copy
from typing import Any

from kaito.embedded.apiserver.strategy import KindStrategy

CONTAINER = {"name": "c", "image": "i"}


def obj(kind: KindStrategy, **fields: Any) -> dict[str, Any]:
    resource = kind.resource
    meta = {"name": "x", "uid": "u-1"} | ({"namespace": "n"} if resource.namespaced else {})
    return copy.deepcopy(
        {"apiVersion": resource.api_version, "kind": resource.kind, **fields}
        | {"metadata": meta | fields.get("metadata", {})}
    )


def created(kind: KindStrategy, **fields: Any) -> dict[str, Any]:
    new = obj(kind, **fields)
    assert kind.prune(new) == []
    kind.prepare_create(new)
    kind.complete_create(new)
    return new


def problems(kind: KindStrategy, **fields: Any) -> list[str]:
    return [str(error) for error in kind.validate(created(kind, **fields))]


def changed(kind: KindStrategy, old: dict[str, Any], **spec: Any) -> tuple[dict[str, Any], list[str]]:
    new = copy.deepcopy(old)
    for key, value in spec.items():
        new["spec"].pop(key, None)
        if value is not None:
            new["spec"][key] = value
    kind.prune(new)
    kind.prepare_update(new, old)
    kind.complete_update(new, old, "")
    return new, [str(error) for error in kind.validate(new, old)]


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [CONTAINER], **spec}}


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{**CONTAINER, **fields}])


def workload(labels: Any = None, template: Any = None, **spec: Any) -> dict[str, Any]:
    return {
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"} if labels is None else labels},
                "spec": {"containers": [CONTAINER], **(template or {})},
            },
            **spec,
        }
    }
