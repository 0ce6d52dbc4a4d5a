"""What can go wrong between a client and an API server, as types.

The API server says what happened in a `Status` object; its `reason` decides the class here and the HTTP code
only where there is no reason. Catch `NotFound`, `Conflict` and so on, never compare codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson


class TransportError(Exception):
    """No answer came: connection refused, reset, broken off in mid-body, or timed out."""


class CredentialsError(TransportError):
    """Credentials could not be obtained (a plugin failed, a token file vanished); asking again may help."""


class MalformedAnswer(TransportError):
    """A success whose body is not what an API server sends: something in between answered in its place."""

    def __init__(self, context: str, body: bytes) -> None:
        start = body[:80].decode("utf-8", "replace").strip()
        super().__init__(
            f"{context}: the answer is not a JSON object but starts with {start!r}: "
            "is a proxy or a login page in between?"
        )


class ConfigurationError(Exception):
    """A kubeconfig or the pod's service account cannot be used; the message names the file and the remedy."""


class MalformedObject(ValueError):
    """Bytes that should hold a Kubernetes object do not: not JSON, or without a name."""


class ApiError(Exception):
    """The server answered with an error.

    `status` is the HTTP code, `reason` the machine-readable reason of the Status object ("" if none came),
    `details` its details, `retry_after` the seconds that the server asks to wait.
    """

    default_status: ClassVar[int] = 500
    default_reason: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = self.default_status if status is None else status
        self.reason = self.default_reason if reason is None else reason
        self.details: dict[str, Any] = dict(details or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} (HTTP {self.status}{', ' + self.reason if self.reason else ''})"

    def to_status(self) -> dict[str, Any]:
        """The error as a `Status` object, as a server would send it."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status,
        }
        if self.details:
            status["details"] = self.details
        return status


class BadRequest(ApiError):
    default_status, default_reason = 400, "BadRequest"


class Unauthorized(ApiError):
    default_status, default_reason = 401, "Unauthorized"


class Forbidden(ApiError):
    default_status, default_reason = 403, "Forbidden"


class NotFound(ApiError):
    default_status, default_reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    default_status, default_reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    default_status, default_reason = 406, "NotAcceptable"


class Conflict(ApiError):
    """The object has changed since it was read, or fields are owned by another manager."""

    default_status, default_reason = 409, "Conflict"


class AlreadyExists(ApiError):
    default_status, default_reason = 409, "AlreadyExists"


class Gone(ApiError):
    """The resourceVersion or continue token asked for is no longer available (reason Expired or Gone)."""

    default_status, default_reason = 410, "Expired"


class RequestEntityTooLarge(ApiError):
    default_status, default_reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    default_status, default_reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """The object is not valid; `details["causes"]` names the fields."""

    default_status, default_reason = 422, "Invalid"


class TooManyRequests(ApiError):
    default_status, default_reason = 429, "TooManyRequests"


class InternalError(ApiError):
    default_status, default_reason = 500, "InternalError"


class ServiceUnavailable(ApiError):
    default_status, default_reason = 503, "ServiceUnavailable"


class ServerTimeout(ApiError):
    """The server could not finish in time (reasons ServerTimeout and Timeout)."""

    default_status, default_reason = 504, "Timeout"


_CLASSES: tuple[type[ApiError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    Conflict,
    AlreadyExists,
    Gone,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    ServerTimeout,
)
_BY_REASON: dict[str, type[ApiError]] = {
    **{cls.default_reason: cls for cls in _CLASSES},
    "Gone": Gone,
    "ServerTimeout": ServerTimeout,
}
# 409 without a reason is a Conflict: the class that callers answer by reading again.
_BY_STATUS: dict[int, type[ApiError]] = {
    cls.default_status: cls for cls in _CLASSES if cls is not AlreadyExists
}


def _status_object(body: bytes | Mapping[str, Any] | None) -> dict[str, Any]:
    if isinstance(body, Mapping):
        return dict(body)
    try:
        parsed = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}


def parse_retry_after(value: str | None) -> float | None:
    """Seconds in a Retry-After header; None when absent or in the date form, which no API server sends."""
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None


def from_status(
    status: int,
    body: bytes | Mapping[str, Any] | None,
    *,
    retry_after: float | None = None,
    context: str = "",
) -> ApiError:
    """The typed error for a non-2xx answer.

    `body` is a Status object, as bytes or parsed; anything else (a proxy's HTML page) becomes the message,
    cut to 200 characters. `context` (e.g. "GET /api/v1/nodes") is put before the message.
    """
    parsed = _status_object(body)
    raw_reason = parsed.get("reason")
    reason = raw_reason if isinstance(raw_reason, str) else ""
    message = str(parsed.get("message") or "")
    if not message and isinstance(body, bytes):
        message = body.decode("utf-8", "replace").strip()[:200]
    message = message or reason or f"the server answered {status}"
    raw_details = parsed.get("details")
    details = raw_details if isinstance(raw_details, dict) else {}
    seconds = details.get("retryAfterSeconds")
    if retry_after is None and isinstance(seconds, int | float) and seconds > 0:
        retry_after = float(seconds)
    cls = _BY_REASON.get(reason) or _BY_STATUS.get(status) or ApiError
    return cls(
        f"{context}: {message}" if context else message,
        status=status,
        reason=reason or cls.default_reason,
        details=details,
        retry_after=retry_after,
    )


def is_too_large_resource_version(error: ApiError) -> bool:
    """Whether the server has not yet seen the resourceVersion asked for.

    Three dialects are in use: a detail cause of type ResourceVersionTooLarge, a cause that only says so in
    its message, and reason Timeout with the words in the Status message (Kubernetes 1.15 to 1.18).
    """
    causes = error.details.get("causes")
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict) and (
            cause.get("reason") == "ResourceVersionTooLarge"
            or "Too large resource version" in str(cause.get("message", ""))
        ):
            return True
    return isinstance(error, ServerTimeout) and "Too large resource version" in error.message
