"""Asks the webhook's handlers as an API server does."""

from __future__ import annotations

import copy
from typing import Any

from kaito.api.resources import ADAPTERS, WORKSPACES
from kaito.catalog import Catalog
from kaito.controllers.adapter.admission import adapter_admission
from kaito.controllers.admission import Admission
from kaito.controllers.workspace import WorkspaceConfig
from kaito.controllers.workspace.admission import workspace_admission
from kaito.runtime.client import Client
from kaito.runtime.resources import Resource
from kaito.runtime.webhook.admission import (
    AdmissionRequest,
    Allow,
    Deny,
    GroupVersionKind,
    GroupVersionResource,
    Operation,
    decide,
)

Object = dict[str, Any]


async def ask(
    handler: Admission, new: Object, old: Object | None = None, resource: Resource = WORKSPACES, **more: Any
) -> Allow | Deny:
    """The answer to a creation, or to a change of `old`."""
    kind = GroupVersionKind(resource.group, resource.version, resource.kind)
    plural = GroupVersionResource(resource.group, resource.version, resource.plural)
    operation = Operation.CREATE if old is None else Operation.UPDATE
    request = AdmissionRequest(
        "uid",
        operation,
        kind,
        plural,
        name="ws",
        namespace="default",
        object=copy.deepcopy(new),
        old_object=copy.deepcopy(old),
        **more,
    )
    return await decide([handler], request, mutating=False)


def workspaces(client: Client, catalog: Catalog, config: WorkspaceConfig, *images: str) -> Admission:
    return workspace_admission(client, catalog, config, dict.fromkeys(images))


def adapters(*images: str) -> Admission:
    return adapter_admission(dict.fromkeys(images))


def told(answer: Allow | Deny) -> dict[str, str]:
    """Path to sentence of each cause; of each warning where nothing is refused."""
    if isinstance(answer, Deny):
        return {cause.field: cause.message for cause in answer.causes}
    split = (text.partition(": ") for text in answer.warnings)
    return {path: sentence for path, _, sentence in split}


__all__ = ["ADAPTERS", "adapters", "ask", "told", "workspaces"]
