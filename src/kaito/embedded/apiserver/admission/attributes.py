"""What a request is about, in the terms of webhook rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kaito.embedded.apiserver.core import NAMESPACES
from kaito.embedded.apiserver.reviews import GROUPS, USER
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Object
from kaito.embedded.apiserver.subjects import Subject

CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"
CONNECT: Final = "CONNECT"


class Gvk(NamedTuple):
    """Group, version and kind."""

    group: str
    version: str
    kind: str


@dataclass(frozen=True, slots=True)
class Attributes:
    """One request.

    `served` is what the URL names. `kind` is that of `object`, which for subresources such as scale is not the
    resource's own. `identity` tells two states of the stored object apart: its uid and resourceVersion, "" for none.
    """

    operation: str
    served: Served
    namespace: str
    name: str
    object: Object | None
    old_object: Object | None
    kind: Gvk
    subresource: str = ""
    options: Object = field(default_factory=dict)
    dry_run: bool = False
    identity: str = ""

    @property
    def own_kind(self) -> bool:
        """Whether the object is of the resource's kind, so that it has other versions."""
        return self.kind == kind_of(self.served)

    def review(self, uid: str, matched: Served, user: Subject) -> Object:
        """The `request` of an AdmissionReview for a webhook whose rule matched this version."""
        asked, found = self.served.resource, matched.resource
        kind = kind_of(matched) if self.own_kind else self.kind
        request: Object = {
            "uid": uid,
            "kind": kind._asdict(),
            "resource": {"group": found.group, "version": found.version, "resource": found.plural},
            "requestKind": self.kind._asdict(),
            "requestResource": {"group": asked.group, "version": asked.version, "resource": asked.plural},
            "operation": self.operation,
            "userInfo": {"username": user.user, "groups": list(user.groups)},
            "object": self.object,
            "oldObject": self.old_object,
            "dryRun": self.dry_run,
            "options": self.options or None,
        }
        if self.subresource:
            request["subResource"] = request["requestSubResource"] = self.subresource
        if self.name:
            request["name"] = self.name
        if self.namespace:
            request["namespace"] = self.namespace
        elif asked.name == NAMESPACES and self.name:
            request["namespace"] = self.name
        return request


def subject_of(headers: Mapping[str, str]) -> Subject:
    """Who sends a request: the one user there is, or whom that user impersonates."""
    user = next((value for name, value in headers.items() if name.lower() == "impersonate-user"), "")
    if not user:
        return Subject(USER, GROUPS)
    groups = [value for name, value in headers.items() if name.lower() == "impersonate-group"]
    return Subject.impersonated(user, groups)


def kind_of(served: Served) -> Gvk:
    resource = served.resource
    return Gvk(resource.group, resource.version, resource.kind)
