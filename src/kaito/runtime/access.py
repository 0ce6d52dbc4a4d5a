"""Whether this program may do what it has to do, and what it may not.

Kubernetes tells everybody his own rights. They are asked for at the start, again when a request was refused as
forbidden, and every few seconds for as long as one is missing; while all are there, nothing is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, TransportError
from kaito.runtime.groups import Group
from kaito.runtime.logs import get_logger
from kaito.runtime.resources import Resource
from kaito.runtime.rest import RequestRecord
from kaito.runtime.rights import Right, rules

RETRY: Final = 10.0
"""Seconds between two looks while something is missing, and at least between two that a refusal led to."""

_GROUP: Final = "authorization.k8s.io"
_RULES: Final = Resource(_GROUP, "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False)
_ACCESS: Final = Resource(
    _GROUP, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
_ELSEWHERE: Final = "default"
"""A namespace that is not ours: what is allowed there is allowed everywhere, as a rule."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Need:
    """One verb of a right, on one name if it has names."""

    verb: str
    right: Right
    name: str = ""
    namespace: str = ""
    """"" is all namespaces, and what has none."""

    def __str__(self) -> str:
        named = f" {self.name}" if self.name else ""
        where = f" in the namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.right.qualified}{named}{where}"


class RightsCheck:
    """A runnable, and a check for /readyz, that know which rights are missing."""

    name = "rights"
    group = Group.SERVERS

    def __init__(
        self,
        client: Client,
        clock: Clock,
        rights: Iterable[Right],
        namespace: str,
        *,
        remedy: str,
        on_recovery: Callable[[], None] = lambda: None,
    ) -> None:
        """`namespace` is ours; `remedy` says in a sentence how rights come back. `on_recovery` is called when all are
        there again: what was refused meanwhile may be waiting for a long time."""
        self._client = client
        self._clock = clock
        self._needs = tuple(_needs(rights, namespace))
        self._namespace = namespace
        self._remedy = remedy
        self._on_recovery = on_recovery
        self._suspected = asyncio.Event()
        self._asked = False
        self.missing: tuple[Need, ...] = ()
        """What was refused when it was last looked at."""

    def observe(self, record: RequestRecord) -> None:
        """For a client's observer: a request that was forbidden is worth a look."""
        if record.code == "403":
            self._suspected.set()

    def check(self) -> None:
        """Raises RuntimeError, which names what is missing."""
        if self.missing:
            raise RuntimeError(f"may not {', '.join(map(str, self.missing))}. {self._remedy}")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._suspected.clear()
            try:
                self._tell(await self._look())
                self._asked = True
            except (ApiError, TransportError) as error:
                log.debug("rights could not be asked for", cause=str(error))
            await self._clock.sleep(RETRY)
            if self._asked and not self.missing:
                await self._suspected.wait()

    async def _look(self) -> tuple[Need, ...]:
        granted = {
            namespace: await self._rules(namespace)
            for namespace in dict.fromkeys((_ELSEWHERE, self._namespace))
        }
        doubtful = [
            need
            for need in self._needs
            if not any(_allows(rule, need) for rule in granted[need.namespace or _ELSEWHERE])
        ]
        # The list of rules may be incomplete: other authorizers than RBAC answer only when asked for one thing.
        return tuple([need for need in doubtful if not await self._may(need)])

    async def _rules(self, namespace: str) -> list[Mapping[str, Any]]:
        body = {"apiVersion": _RULES.api_version, "kind": _RULES.kind, "spec": {"namespace": namespace}}
        answer = await self._client.json("POST", _RULES.path(), body=body)
        return list((answer.get("status") or {}).get("resourceRules") or ())

    async def _may(self, need: Need) -> bool:
        plural, _, subresource = need.right.resource.partition("/")
        asked = {
            "verb": need.verb,
            "group": need.right.group,
            "resource": plural,
            "subresource": subresource,
            "name": need.name,
            "namespace": need.namespace,
        }
        spec = {"resourceAttributes": {key: value for key, value in asked.items() if value}}
        body = {"apiVersion": _ACCESS.api_version, "kind": _ACCESS.kind, "spec": spec}
        answer = await self._client.json("POST", _ACCESS.path(), body=body)
        return bool((answer.get("status") or {}).get("allowed"))

    def _tell(self, missing: tuple[Need, ...]) -> None:
        before, self.missing = self.missing, missing
        for need in missing:
            if need not in before:
                log.error(
                    "a right is missing",
                    verb=need.verb,
                    resource=need.right.qualified,
                    names=need.name or "all",
                    namespace=need.namespace or "all",
                    needed=" ".join(need.right.why.split()),
                    remedy=self._remedy,
                )
        for need in before:
            if need not in missing:
                log.info("a right is there again", right=str(need))
        if before and not missing:
            self._on_recovery()


def _needs(rights: Iterable[Right], namespace: str) -> Iterator[Need]:
    for right in rules(rights):
        for verb in right.verbs:
            for name in right.names or ("",):
                yield Need(verb, right, name, namespace if right.own_namespace else "")


def _allows(rule: Mapping[str, Any], need: Need) -> bool:
    subresource = need.right.resource.partition("/")[2]
    wanted = {need.right.resource, "*", *([f"*/{subresource}"] if subresource else [])}
    names = rule.get("resourceNames") or ()
    return (
        bool({need.verb, "*"} & set(rule.get("verbs") or ()))
        and bool({need.right.group, "*"} & set(rule.get("apiGroups") or ()))
        and bool(wanted & set(rule.get("resources") or ()))
        and (not names or need.name in names)
    )
