"""What service accounts ask of an API server, and whether their rights are exactly that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml

from kaito.cli.rbac.generate import rendered
from kaito.cli.rbac.roles import NAMESPACE
from kaito.runtime.errors import Invalid
from kaito.runtime.resources import Resource
from kaito.runtime.rights import Right, rules
from kaito.runtime.transport import BufferedResponse, Request, Response
from kaito.testing.backends import Backend
from kaito.testing.faults import ApiCall
from support.cluster import Object, Wire, World

_RBAC = {
    kind: Resource("rbac.authorization.k8s.io", "v1", f"{kind.lower()}s", kind, kind.startswith("Role"))
    for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
}
_ABOUT_ONESELF = "authorization.k8s.io"
"""Everybody may ask about his own rights: the ClusterRole system:basic-user."""


@dataclass(frozen=True, order=True)
class Used:
    """One right that was made use of."""

    verb: str
    group: str
    resource: str
    name: str = ""


@dataclass
class Account:
    """A service account, and what it has asked for."""

    name: str
    streams_lists: bool = True
    """Whether its API server sends lists as streams; older ones refuse to, and are asked for plain lists."""
    used: set[Used] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)

    def wire(self, backend: Backend) -> AccountWire:
        """A connection that speaks as this account."""
        return AccountWire(backend, self)

    def unused(self, rights: Iterable[Right]) -> list[str]:
        """Verbs that were declared and never used."""
        return [
            f"{verb} {right.qualified} {' '.join(right.names)}".strip()
            for right in rules(rights)
            for verb in right.verbs
            if not any(verb == each.verb and _covers(right, each) for each in self.used)
        ]

    def undeclared(self, rights: Iterable[Right]) -> list[Used]:
        """What was used and nobody declared."""
        declared = list(rights)
        return sorted(each for each in self.used if not any(_covers(right, each) for right in declared))


class AccountWire(Wire):
    """Writes down what is asked, and what is refused."""

    def __init__(self, backend: Backend, account: Account) -> None:
        super().__init__(backend, f"system:serviceaccount:{NAMESPACE}:{account.name}")
        self._account = account

    async def send(self, request: Request, *, timeout: float | None = None, stream: bool = False) -> Response:
        call = ApiCall.of(request)
        if "sendInitialEvents" in call.query and not self._account.streams_lists:
            error = Invalid(
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            )
            return BufferedResponse(error.status, orjson.dumps(error.to_status()))
        response = await super().send(request, timeout=timeout, stream=stream)
        if response.status == 403:
            self._account.refused.append(f"{call}: {(await response.read()).decode()}")
        elif call.resource and call.group != _ABOUT_ONESELF:
            self._account.used.update(uses(call, request, response.status))
        return response


def uses(call: ApiCall, request: Request, status: int) -> Iterator[Used]:
    """The rights that a request made use of, by what it says and how it was answered."""
    resource = f"{call.resource}/{call.subresource}" if call.subresource else call.resource
    name = call.name or call.query.get("fieldSelector", "").removeprefix("metadata.name=")
    yield Used(call.verb, call.group, resource, name)
    if call.verb == "patch" and status == 201:
        yield Used("create", call.group, resource)  # applied, and was not there
    body = orjson.loads(request.body) if request.body else {}
    for owner in (body.get("metadata") or {}).get("ownerReferences") or () if isinstance(body, dict) else ():
        if owner.get("blockOwnerDeletion"):
            group = owner["apiVersion"].rpartition("/")[0]
            yield Used("update", group, f"{owner['kind'].lower()}s/finalizers", owner["name"])


def _covers(right: Right, used: Used) -> bool:
    return right.covers(used.verb, used.group, used.resource, used.name)


def roles(*folders: str) -> list[Object]:
    """The generated objects of these kustomizations below manifests/rbac; "" is the operator's own."""
    return [
        each
        for path, text in rendered().items()
        if path.rpartition("/")[0] in folders and not path.endswith("kustomization.yaml")
        for each in yaml.safe_load_all(text)
    ]


async def apply_roles(world: World, objects: Iterable[Object]) -> None:
    """As `kubectl apply` would."""
    for each in objects:
        await world.client.apply(_RBAC[each["kind"]], each)


async def remove_roles(world: World, objects: Iterable[Object]) -> None:
    """Takes them away again."""
    for each in objects:
        meta: dict[str, Any] = each["metadata"]
        await world.client.delete(_RBAC[each["kind"]], meta["name"], meta.get("namespace"))
