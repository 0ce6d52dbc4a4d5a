"""Reviews: questions a client POSTs and gets an answer to; nothing is stored.

There is one identity, the owner of the kubeconfig, and it may do everything: the answers say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kaito.embedded.apiserver.store import Object
from kaito.embedded.apiserver.strategy import INVALID, FieldError, KindStrategy, invalid
from kaito.runtime.errors import BadRequest
from kaito.runtime.resources import Resource

USER: Final = "kubernetes-admin"
GROUPS: Final = ("system:masters", "system:authenticated")
REASON: Final = "this server knows one user, who may do everything"

_IDENTITY: Final[dict[str, Any]] = {"username": USER, "groups": list(GROUPS)}


def _allowed(_spec: Object, _token_valid: Callable[[str], bool]) -> Object:
    return {"allowed": True, "reason": REASON}


def _rules(_spec: Object, _token_valid: Callable[[str], bool]) -> Object:
    return {
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": False,
    }


def _self(_spec: Object, _token_valid: Callable[[str], bool]) -> Object:
    return {"userInfo": _IDENTITY}


def _token(spec: Object, token_valid: Callable[[str], bool]) -> Object:
    if token_valid(str(spec.get("token") or "")):
        return {"authenticated": True, "user": _IDENTITY, "audiences": spec.get("audiences") or []}
    return {"user": {}, "error": "the token is not this server's"}


_ANSWERS: Final[dict[str, Callable[[Object, Callable[[str], bool]], Object]]] = {
    "SelfSubjectAccessReview": _allowed,
    "SubjectAccessReview": _allowed,
    "LocalSubjectAccessReview": _allowed,
    "SelfSubjectRulesReview": _rules,
    "SelfSubjectReview": _self,
    "TokenReview": _token,
}


def review_strategies() -> list[KindStrategy]:
    """The kinds of reviews, and bindings: they have no verbs but create, and nothing of their own behind them."""
    kinds = [
        ("authentication.k8s.io", "SelfSubjectReview", False),
        ("authentication.k8s.io", "TokenReview", False),
        ("authorization.k8s.io", "LocalSubjectAccessReview", True),
        ("authorization.k8s.io", "SelfSubjectAccessReview", False),
        ("authorization.k8s.io", "SelfSubjectRulesReview", False),
        ("authorization.k8s.io", "SubjectAccessReview", False),
    ]
    strategies = [
        KindStrategy(Resource(group, "v1", f"{kind.lower()}s", kind, namespaced), verbs=())
        for group, kind, namespaced in kinds
    ]
    return [*strategies, KindStrategy(Resource("", "v1", "bindings", "Binding"), verbs=())]


def is_review(kind: str) -> bool:
    return kind in _ANSWERS


def answer(
    obj: Object, token_valid: Callable[[str], bool], about: Callable[[Object], Object] | None = None
) -> Object:
    """The review with its status filled in: by `about` where somebody asks who may not do everything.

    Raises:
        Invalid: it asks about nothing.
        BadRequest: there is no token to review.
    """
    spec = obj.get("spec") or {}
    if obj["kind"].endswith("AccessReview") and not (
        spec.get("resourceAttributes") or spec.get("nonResourceAttributes")
    ):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        group, _, version = obj["apiVersion"].partition("/")
        resource = Resource(group, version, f"{obj['kind'].lower()}s", obj["kind"], False)
        raise invalid(resource, "", [FieldError("spec.resourceAttributes", INVALID, text, None)])
    if obj["kind"] == "TokenReview" and not spec.get("token"):
        raise BadRequest("token is required for TokenReview in authentication")
    status = _ANSWERS[obj["kind"]](spec, token_valid) if about is None else about(obj)
    return {**obj, "metadata": obj.get("metadata") or {}, "status": status}
