"""Server-side apply and updates of Deployments, with the arguments tests leave out filled in."""

from __future__ import annotations

import copy
from typing import Any

from kaito.embedded.apiserver.kinds.tables import TABLE
from kaito.embedded.apiserver.patching.apply import server_side_apply, track_update
from kaito.embedded.apiserver.strategy import MergeSchema

T0, T1, T2 = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"
DEPLOYMENT = TABLE.merge_schema("Deployment")
ANY = MergeSchema("any")


def apply(
    live: Any, applied: Any, manager: str = "a", *, force: bool = False, now: str = T1, **more: Any
) -> Any:
    schema = more.pop("schema", DEPLOYMENT)
    return server_side_apply(
        copy.deepcopy(live), applied, manager=manager, force=force, schema=schema, now=now, **more
    )


def update(live: Any, new: Any, manager: str = "u", *, now: str = T1, **more: Any) -> Any:
    new = copy.deepcopy(new)
    track_update(live, new, manager=manager, schema=more.pop("schema", DEPLOYMENT), now=now, **more)
    return new


def deployment(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def with_containers(*containers: dict[str, Any]) -> dict[str, Any]:
    return deployment(template={"spec": {"containers": list(containers)}})


def fields(obj: Any, manager: str, operation: str = "Apply") -> Any:
    found = [
        entry["fieldsV1"]
        for entry in obj["metadata"]["managedFields"]
        if entry["manager"] == manager and entry["operation"] == operation
    ]
    return found[0] if found else None
