"""Admission reviews (admission.k8s.io/v1): what a webhook is asked, and what it may answer.

No I/O: bytes in, typed request out, handlers run in their order, bytes back. The server beside this module puts
HTTP, TLS and metrics around it.
"""

from __future__ import annotations

import copy
import inspect
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from kaito.runtime.resources import ObjectKey
from kaito.runtime.webhook.diff import json_patch

API_VERSION = "admission.k8s.io/v1"
Object = dict[str, Any]


class Operation(StrEnum):
    """What the user does.

    >>> Operation("CREATE") is Operation.CREATE
    True
    """

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    CONNECT = "CONNECT"


class BadReview(ValueError):
    """A request body that is no admission review; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class GroupVersionKind:
    """`group` "" is the core group.

    >>> GroupVersionKind("", "v1", "ConfigMap").kind
    'ConfigMap'
    """

    group: str
    version: str
    kind: str


@dataclass(frozen=True, slots=True)
class GroupVersionResource:
    """`resource` is the plural, as in URLs.

    >>> GroupVersionResource("apps", "v1", "deployments").resource
    'deployments'
    """

    group: str
    version: str
    resource: str


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who asks, as the API server authenticated them.

    >>> "system:masters" in UserInfo("ann", groups=("dev",)).groups
    False
    """

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """One request that waits for a decision.

    `object` is None for DELETE, `old_object` for CREATE; both are plain JSON trees. `kind` and `resource` are the
    version that the webhook registered for, `request_kind` and `request_resource` what the user sent; they differ
    only with `matchPolicy: Equivalent`. With `dry_run` nothing will be stored, so a handler must not have side
    effects. `options` is the CreateOptions, UpdateOptions, PatchOptions or DeleteOptions of the request.

        def check(request: AdmissionRequest) -> Deny | None:
            if request.operation is Operation.DELETE and not request.user.username.startswith("admin"):
                return Deny(f"{request.name} may only be deleted by an administrator")
            return None
    """

    uid: str
    operation: Operation
    kind: GroupVersionKind
    resource: GroupVersionResource
    name: str = ""
    namespace: str = ""
    sub_resource: str = ""
    request_kind: GroupVersionKind | None = None
    request_resource: GroupVersionResource | None = None
    request_sub_resource: str = ""
    user: UserInfo = UserInfo()
    object: Object | None = None
    old_object: Object | None = None
    dry_run: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> ObjectKey:
        """Namespace and name; the name is "" for a create that leaves it to the server."""
        return ObjectKey(self.namespace, self.name)

    @staticmethod
    def decode(body: bytes) -> AdmissionRequest:
        """Reads an AdmissionReview.

        Raises:
            BadReview: it is not JSON, of another kind or version, or has no request or no uid.
        """
        try:
            review = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadReview(f"the body is not JSON: {error}") from None
        if not isinstance(review, dict):
            raise BadReview("the body is not an object; an AdmissionReview is expected")
        if review.get("kind") != "AdmissionReview" or review.get("apiVersion") != API_VERSION:
            raise BadReview(
                f"the body is {review.get('apiVersion')!r} {review.get('kind')!r}; this webhook speaks "
                f"{API_VERSION} AdmissionReview: list v1 in admissionReviewVersions"
            )
        request = review.get("request")
        if not isinstance(request, dict):
            raise BadReview("the AdmissionReview has no request")
        try:
            return _request(request)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadReview(f"the request of the AdmissionReview is malformed: {error!r}") from None


def _request(request: Object) -> AdmissionRequest:
    if not isinstance(request["uid"], str) or not request["uid"]:
        raise ValueError("uid is empty")
    for name in ("object", "oldObject"):
        if not isinstance(request.get(name), dict | None):
            raise TypeError(f"{name} is not an object")
    user = request.get("userInfo") or {}
    return AdmissionRequest(
        uid=request["uid"],
        operation=Operation(request["operation"]),
        kind=_kind(request["kind"]),
        resource=_resource(request["resource"]),
        name=request.get("name") or "",
        namespace=request.get("namespace") or "",
        sub_resource=request.get("subResource") or "",
        request_kind=_kind(request["requestKind"]) if request.get("requestKind") else None,
        request_resource=_resource(request["requestResource"]) if request.get("requestResource") else None,
        request_sub_resource=request.get("requestSubResource") or "",
        user=UserInfo(
            user.get("username") or "",
            user.get("uid") or "",
            tuple(user.get("groups") or ()),
            user.get("extra") or {},
        ),
        object=request.get("object"),
        old_object=request.get("oldObject"),
        dry_run=bool(request.get("dryRun")),
        options=request.get("options") or {},
    )


def _kind(value: Mapping[str, Any]) -> GroupVersionKind:
    return GroupVersionKind(value.get("group") or "", value["version"], value["kind"])


def _resource(value: Mapping[str, Any]) -> GroupVersionResource:
    return GroupVersionResource(value.get("group") or "", value["version"], value["resource"])


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong: `field` is its path (`spec.size`), `reason` one of Kubernetes' cause types.

    https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/types.go, `CauseType`.

    >>> Cause("spec.size", "must be at most 10").reason
    'FieldValueInvalid'
    """

    field: str
    message: str
    reason: str = "FieldValueInvalid"


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may go on.

    `object` is the changed object of a mutating handler (None: unchanged); a validating handler leaves it out.
    Each of `warnings` is shown to the user (kubectl prints it); Kubernetes cuts those above 256 characters when
    there are many. `audit` becomes annotations of the audit event.

    >>> Allow(warnings=["spec.theme is deprecated"]).object is None
    True
    """

    object: Object | None = None
    warnings: Sequence[str] = ()
    audit: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused.

    The user reads `admission webhook "NAME" denied the request: MESSAGE`, and the causes after it. `reason` and
    `code` are the Status's; `causes` name the fields, several wrong ones together.

    >>> Deny("spec is invalid", causes=[Cause("spec.size", "must be at most 10")]).code
    403
    """

    message: str
    reason: str = "Forbidden"
    code: int = 403
    causes: Sequence[Cause] = ()
    warnings: Sequence[str] = ()
    audit: Mapping[str, str] = field(default_factory=dict)


Answer = Allow | Deny | None
"""None is `Allow()`."""

Handler = Callable[[AdmissionRequest], Answer | Object | Awaitable[Answer | Object]]
"""Decides on a request; plain function or coroutine function. A mutating handler may return the changed object itself.

It may change `request.object` in place as long as it returns it: the difference is taken from a copy.
"""


async def decide(handlers: Sequence[Handler], request: AdmissionRequest, *, mutating: bool) -> Allow | Deny:
    """Runs the handlers one after the other until one denies.

    A mutating handler sees the object as those before it left it, and is not called for DELETE, where there is
    nothing to change. Warnings and audit annotations add up.

    Raises:
        TypeError: a handler returned something that is no answer, or an object although it may only validate.
    """
    warnings: list[str] = []
    audit: dict[str, str] = {}
    current = request
    if mutating:
        if request.operation is Operation.DELETE:
            return Allow()
        current = _with_object(request, copy.deepcopy(request.object))
    for handler in handlers:
        result = handler(current)
        answer = _answer(handler, await result if inspect.isawaitable(result) else result, mutating=mutating)
        warnings += answer.warnings
        audit.update(answer.audit)
        if isinstance(answer, Deny):
            return Deny(answer.message, answer.reason, answer.code, answer.causes, warnings, audit)
        if answer.object is not None:
            current = _with_object(request, answer.object)
    return Allow(current.object if mutating else None, warnings, audit)


def _answer(handler: Handler, result: Any, *, mutating: bool) -> Allow | Deny:
    if result is None:
        return Allow()
    answer = Allow(result) if isinstance(result, dict) else result
    name = getattr(handler, "__qualname__", repr(handler))
    if not isinstance(answer, Allow | Deny):
        raise TypeError(
            f"{name} returned {type(result).__name__}; return None, Allow, Deny or the changed object"
        )
    if isinstance(answer, Allow) and answer.object is not None and not mutating:
        raise TypeError(
            f"{name} returned an object, but it is registered to validate; register it with mutate()"
        )
    return answer


def _with_object(request: AdmissionRequest, obj: Object | None) -> AdmissionRequest:
    fields = {name: getattr(request, name) for name in AdmissionRequest.__dataclass_fields__}
    return AdmissionRequest(**{**fields, "object": obj})


def encode(request: AdmissionRequest, answer: Allow | Deny) -> bytes:
    """The AdmissionReview with its response; for a changed object the JSON patch that leads to it."""
    response: Object = {"uid": request.uid, "allowed": isinstance(answer, Allow)}
    if isinstance(answer, Deny):
        response["status"] = _status(request, answer)
    elif answer.object is not None:
        operations = json_patch(request.object or {}, answer.object)
        if operations:
            response["patchType"] = "JSONPatch"
            response["patch"] = b64encode(orjson.dumps(operations)).decode()
    if answer.warnings:
        response["warnings"] = list(answer.warnings)
    if answer.audit:
        response["auditAnnotations"] = dict(answer.audit)
    return orjson.dumps({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})


def _status(request: AdmissionRequest, answer: Deny) -> Object:
    # kubectl shows the causes in the details of an Invalid only, under the object that the details name.
    causes = ", ".join(f"{cause.field}: {cause.message}" for cause in answer.causes)
    status: Object = {
        "status": "Failure",
        "message": f"{answer.message}: {causes}" if causes else answer.message,
        "reason": answer.reason,
        "code": answer.code,
    }
    if answer.causes:
        status["details"] = {
            "name": request.name,
            "group": request.kind.group,
            "kind": request.kind.kind,
            "causes": [
                {"reason": cause.reason, "message": cause.message, "field": cause.field}
                for cause in answer.causes
            ],
        }
    return status
