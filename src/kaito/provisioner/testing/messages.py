"""What goes in and out of the fake: requests, replies, and the two shapes in which Azure words an error.

Plain data without a word of HTTP libraries, so that a socket and a function call carry the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

Object = dict[str, Any]

NOTHING: Final = b""
STATUS: Final[Mapping[str, int]] = {
    "AnotherOperationInProgress": 409,
    "AuthorizationFailed": 403,
    "AuthenticationFailed": 401,
    "Conflict": 409,
    "ExpiredAuthenticationToken": 401,
    "GatewayTimeout": 504,
    "InternalServerError": 500,
    "InvalidAuthenticationToken": 401,
    "LinkedAuthorizationFailed": 403,
    "MissingSubscriptionRegistration": 409,
    "NotFound": 404,
    "OperationNotAllowed": 409,
    "OriginalEtagNotExpect": 409,
    "PreconditionFailed": 412,
    "RequestDisallowedByPolicy": 403,
    "ResourceGroupNotFound": 404,
    "ResourceNotFound": 404,
    "ServiceUnavailable": 503,
    "SkuNotAvailable": 409,
    "SubscriptionNotFound": 404,
    "SubscriptionRequestsThrottled": 429,
    "TooManyRequests": 429,
}
"""HTTP status that Azure sends with a code; every other code comes with 400."""


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """An error in Azure's words, as answers, operations and failed pools carry it."""

    code: str
    message: str
    target: str = ""
    details: tuple[Mapping[str, Any], ...] = ()

    def nested(self) -> Object:
        """As Resource Manager itself words it, and every failed operation: code, message, target, details."""
        found: Object = {"code": self.code, "message": self.message}
        if self.target:
            found["target"] = self.target
        if self.details:
            found["details"] = [dict(each) for each in self.details]
        return found

    def flat(self) -> Object:
        """As the AKS resource provider answers: without the wrapping `error`, with a subcode."""
        return {
            "code": self.code,
            "details": [dict(each) for each in self.details] or None,
            "message": self.message,
            "subcode": "",
            **({"target": self.target} if self.target else {}),
        }


class Refused(Exception):
    """The request is answered with an error.

    nested: in the shape of Resource Manager rather than of AKS. retry_after: seconds, as a header.
    """

    def __init__(
        self, status: int, detail: ErrorDetail, *, nested: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{status} {detail.code}: {detail.message}")
        self.status = status
        self.detail = detail
        self.nested = nested
        self.retry_after = retry_after

    @property
    def reply(self) -> Reply:
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        body = {"error": self.detail.nested()} if self.nested else self.detail.flat()
        return Reply.of(self.status, body, headers)


class ConnectionDropped(Exception):
    """The connection breaks instead of an answer; the front ends turn it into what their caller would see."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. body: JSON, or nothing."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = NOTHING

    @classmethod
    def of(
        cls, status: int, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """With a JSON body; None: with none at all."""
        if body is None:
            return cls(status, dict(headers or {}))
        content = {"Content-Type": "application/json; charset=utf-8"}
        return cls(status, {**content, **(headers or {})}, orjson.dumps(body))

    def json(self) -> Any:
        return orjson.loads(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class ArmRequest:
    """A request as it arrived.

    call: which of Azure's operations it is, such as `put_pool`; "" for a path that does not exist. pool: the agent
    pool that it is about, "" if none. headers: names in lower case, without the token. at: clock seconds. body: the
    JSON that was sent, or None. base: scheme and host.
    """

    call: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    pool: str = ""
    operation: str = ""
    at: float = 0.0
    base: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request and how it was answered; status 0: the connection was dropped. code: of the error, else ""."""

    request: ArmRequest
    status: int
    code: str = ""

    @property
    def call(self) -> str:
        return self.request.call

    @property
    def pool(self) -> str:
        return self.request.pool

    @property
    def at(self) -> float:
        return self.request.at

    @property
    def refused(self) -> bool:
        return self.status >= 400

    def __str__(self) -> str:
        about = f" {self.pool}" if self.pool else ""
        return f"{self.at:g}: {self.call or self.request.path}{about} -> {self.status} {self.code}".rstrip()
