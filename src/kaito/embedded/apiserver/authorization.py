"""What an impersonated user may do: RBAC, for clients that send `Impersonate-User` (kubectl --as).

The holder of the token may do everything and may be anybody. As somebody else it may do what Roles and ClusterRoles
give that user, and what every user may: discovery. Rules that other roles' labels aggregate are not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.parameters import Params, flag
from kaito.embedded.apiserver.routing import Target, parse_target
from kaito.embedded.apiserver.store import Key, Object
from kaito.embedded.apiserver.subjects import Subject
from kaito.runtime.errors import ApiError, Forbidden, NotFound

SUPERUSERS: Final = "system:masters"
_DISCOVERY: Final = ("/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz")
"""Where the ClusterRoles system:discovery and system:public-info-viewer let everybody read."""
_REVIEWS: Final = ("authentication.k8s.io", "authorization.k8s.io")
_ABOUT_ONESELF: Final = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")
"""What the ClusterRole system:basic-user lets everybody ask."""
_RULE_FIELDS: Final = ("verbs", "apiGroups", "resources", "resourceNames")
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_GROUP: Final = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: a verb on a resource."""

    verb: str
    target: Target

    @property
    def resource(self) -> str:
        """`plural` or `plural/subresource`, as rules write it."""
        target = self.target
        return f"{target.plural}/{target.subresource}" if target.subresource else target.plural

    def allowed_by(self, rule: Mapping[str, Any]) -> bool:
        """Whether one PolicyRule covers it."""
        target = self.target
        names = rule.get("resourceNames") or ()
        resources = rule.get("resources") or ()
        return (
            _covers(rule.get("verbs"), self.verb)
            and _covers(rule.get("apiGroups"), target.group)
            and (_covers(resources, self.resource) or f"*/{target.subresource}" in resources)
            and (not names or target.name in names)
        )


class Authorizer:
    """Judges requests by the stored roles and bindings."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def check(self, subject: Subject, method: str, path: str, params: Params) -> None:
        """Lets a request pass.

        Raises:
            Forbidden: nothing allows it; worded as kube-apiserver does.
            ApiError: it is a question about rights, which is answered for the token's holder only.
        """
        if SUPERUSERS in subject.groups:
            return
        target = parse_target(path)
        if target is None:
            if method == "GET" and any(path == each or path.startswith(f"{each}/") for each in _DISCOVERY):
                return
            raise Forbidden(
                f'User "{subject.user}" cannot {method.lower()} path "{path}"',
                details={},
            )
        if target.group in _REVIEWS:
            if method == "POST" and target.plural in _ABOUT_ONESELF:
                return
            raise ApiError(
                f"{target.plural} for an impersonated user is not implemented: ask by doing, with dryRun=All",
                status=501,
                reason="NotImplemented",
            )
        question = Question(_verb(method, target, params), _with_selected_name(target, params))
        if not self.allows(subject, question):
            raise _forbidden(subject, question)

    def allows(self, subject: Subject, question: Question) -> bool:
        """Whether a subject may do this."""
        rules = self.rules(subject, question.target.namespace)
        return SUPERUSERS in subject.groups or any(question.allowed_by(rule) for rule in rules)

    def about(self, subject: Subject, review: Object) -> Object:
        """The status of a review that an impersonated user asks for about himself."""
        spec = review.get("spec") or {}
        if review["kind"] == "SelfSubjectRulesReview":
            rules = [
                {key: rule[key] for key in _RULE_FIELDS if rule.get(key)}
                for rule in self.rules(subject, spec.get("namespace"))
                if rule.get("resources")
            ]
            return {"resourceRules": rules, "nonResourceRules": [], "incomplete": False}
        asked = spec.get("resourceAttributes") or {}
        target = Target(
            asked.get("group", ""),
            asked.get("version", ""),
            asked.get("resource", ""),
            asked.get("namespace") or None,
            asked.get("name") or None,
            asked.get("subresource", ""),
        )
        return {"allowed": self.allows(subject, Question(asked.get("verb", ""), target))}

    def rules(self, subject: Subject, namespace: str | None) -> Iterator[Mapping[str, Any]]:
        """The rules that hold for a subject in a namespace, or in the whole cluster."""
        bindings = list(self._objects("clusterrolebindings", None))
        if namespace is not None:
            bindings += self._objects("rolebindings", namespace)
        for binding in bindings:
            if any(subject.named_by(each) for each in binding.get("subjects") or ()):
                role = self._role(binding["roleRef"], binding["metadata"].get("namespace"))
                yield from (role or {}).get("rules") or ()

    def _objects(self, plural: str, namespace: str | None) -> Iterable[Object]:
        served = self._core.registry.builtin(f"{plural}.{_GROUP}")
        return (record.obj for record in served.collection.select(namespace))

    def _role(self, reference: Mapping[str, Any], namespace: str | None) -> Object | None:
        cluster = reference.get("kind") == "ClusterRole"
        plural = "clusterroles" if cluster else "roles"
        try:
            served = self._core.registry.builtin(f"{plural}.{_GROUP}")
        except NotFound:
            return None
        record = served.collection.get(Key("" if cluster else namespace or "", reference["name"]))
        return None if record is None else record.obj


def _with_selected_name(target: Target, params: Params) -> Target:
    """A list or watch of the one object that a field selector names counts as a request for it."""
    selected = dict(params).get("fieldSelector", "").partition("metadata.name=")
    if target.name is None and selected[1] and not selected[0] and "," not in selected[2]:
        return replace(target, name=selected[2])
    return target


def _covers(granted: Sequence[str] | None, asked: str) -> bool:
    return bool(granted) and granted is not None and ("*" in granted or asked in granted)


def _verb(method: str, target: Target, params: Params) -> str:
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    if method in ("GET", "HEAD"):
        if flag(params, "watch") and not target.subresource:
            return "watch"
        return "get" if target.name else "list"
    return _VERBS.get(method, method.lower())


def _forbidden(subject: Subject, question: Question) -> Forbidden:
    target = question.target
    named = f' "{target.name}"' if target.name else ""
    qualified = f"{target.plural}.{target.group}" if target.group else target.plural
    scope = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    return Forbidden(
        f'{qualified}{named} is forbidden: User "{subject.user}" cannot {question.verb} resource '
        f'"{question.resource}" in API group "{target.group}" {scope}',
        details={
            key: value
            for key, value in (("name", target.name), ("group", target.group), ("kind", target.plural))
            if value
        },
    )
