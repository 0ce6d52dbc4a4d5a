"""Answers of the transport-neutral handler: Kubernetes objects and Status bodies as responses.

The response classes are the transport's own, so the in-memory transport hands them to a client unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final

import orjson

from kaito.embedded.apiserver.routing import Target
from kaito.embedded.apiserver.strategy import CAUSE_REASONS
from kaito.runtime.errors import ApiError, Invalid, MethodNotAllowed, NotFound
from kaito.runtime.transport import BufferedResponse, Request, Response

JSON: Final = "application/json"
_ALWAYS_DETAILED: Final = frozenset(
    {"NotFound", "MethodNotAllowed", "NotAcceptable", "Invalid", "RequestEntityTooLarge"}
)

WARNING_SEPARATOR: Final = "\n"
"""Splits several `Warning` values in one header; the HTTP front sends one header line for each."""


def json_response(
    body: Any, status: int = 200, *, content_type: str = JSON, warnings: Sequence[str] = ()
) -> BufferedResponse:
    """A JSON answer; `body` may be JSON already (bytes). `warnings` become `Warning:` headers."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = {"Content-Type": content_type}
    if warnings:
        headers["Warning"] = _warning_header(warnings)
    return BufferedResponse(status, data, headers)


def add_warning(response: Response, text: str) -> None:
    """One more `Warning` on an answer that has not been sent yet."""
    headers = response.headers
    assert isinstance(headers, MutableMapping)
    present = headers.get("Warning")
    added = _warning_header([text])
    headers["Warning"] = f"{present}{WARNING_SEPARATOR}{added}" if present else added


def _warning_header(texts: Sequence[str]) -> str:
    return WARNING_SEPARATOR.join(f'299 - "{_quoted(text)}"' for text in texts)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def text_response(text: str, status: int = 200) -> BufferedResponse:
    return BufferedResponse(status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})


def error_response(error: ApiError) -> BufferedResponse:
    """The error as a Status object, with Retry-After where it names one."""
    headers = {"Content-Type": JSON}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, int(error.retry_after)))
    status = error.to_status()
    # What a Go struct with omitempty would leave out. Errors without an object of their own carry empty details.
    details = {
        name: value for name, value in (status.pop("details", None) or {}).items() if value not in ("", None)
    }
    if details or error.reason in _ALWAYS_DETAILED:
        status["details"] = details
    if not error.reason:
        del status["reason"]
    return BufferedResponse(error.status, orjson.dumps(status), headers)


class NoSuchPath(Exception):
    """Nothing is behind a path: the answer is a page of text and no Status, as in kube-apiserver."""


def page_not_found() -> BufferedResponse:
    """What kube-apiserver says about paths that nothing is behind."""
    return text_response("404 page not found\n", 404)


def method_not_allowed(request: Request) -> MethodNotAllowed:
    """405 for a verb that a path does not know."""
    return MethodNotAllowed(f"the server does not allow {request.method} on {request.path}")


def unknown_resource(request: Request, target: Target) -> NotFound:
    """404 in the words that kubectl knows, with what was asked for."""
    name = f"{target.plural}.{target.group}" if target.group else target.plural
    if target.subresource:
        name = f"{name}/{target.subresource}"
    return NotFound(f"the server could not find the requested resource ({request.method.lower()} {name})")


def not_implemented(what: str, why: str) -> ApiError:
    """501 for what a real API server would do."""
    return ApiError(f"{what} is not implemented: {why}", status=501, reason="NotImplemented")


def success_status(details: Mapping[str, Any]) -> dict[str, Any]:
    """The `v1 Status` of a finished deletion."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        **({"details": dict(details)} if details else {}),
    }


def invalid_parameter(kind: str, field: str, message: str) -> Invalid:
    """422 for a bad query parameter, worded as Kubernetes words the options object it decodes them into."""
    word = message.partition(":")[0]
    name, _, group = kind.partition(".")
    return Invalid(
        f'{kind} "" is invalid: {field}: {message}',
        details={
            "kind": name,
            "group": group,
            "causes": [
                {
                    "reason": CAUSE_REASONS.get(word, "FieldValueInvalid"),
                    "message": message,
                    "field": field,
                }
            ],
        },
    )
