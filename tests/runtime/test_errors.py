"""Status objects become typed errors."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kaito.runtime import errors
from kaito.runtime.errors import ApiError, from_status, is_too_large_resource_version, parse_retry_after


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (400, "BadRequest", errors.BadRequest),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (404, "", errors.NotFound),
        (405, "MethodNotAllowed", errors.MethodNotAllowed),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "", errors.Conflict),
        (410, "Expired", errors.Gone),
        (410, "Gone", errors.Gone),
        (410, "", errors.Gone),
        (415, "UnsupportedMediaType", errors.UnsupportedMediaType),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.InternalError),
        (500, "ServerTimeout", errors.ServerTimeout),
        (503, "ServiceUnavailable", errors.ServiceUnavailable),
        (504, "Timeout", errors.ServerTimeout),
        (418, "", ApiError),
        (418, "Teapot", ApiError),
    ],
)
def test_reasons_decide_the_class(status: int, reason: str, expected: type[ApiError]) -> None:
    body = {"kind": "Status", "reason": reason, "message": "words", "details": {"name": "x"}}
    for form in (body, orjson.dumps(body)):
        error = from_status(status, form)
        assert type(error) is expected
        assert (error.status, error.message, error.details) == (status, "words", {"name": "x"})
        assert error.reason == (reason or expected.default_reason)


def test_messages_say_what_was_asked() -> None:
    error = from_status(
        404, {"kind": "Status", "message": 'pods "x" not found', "reason": "NotFound"}, context="GET /x"
    )
    assert str(error) == 'GET /x: pods "x" not found (HTTP 404, NotFound)'
    assert str(from_status(418, None)) == "the server answered 418 (HTTP 418)"


def test_an_error_can_be_sent_and_read_back() -> None:
    error = errors.Invalid("spec.x: wrong", details={"causes": [{"field": "spec.x"}]})
    read = from_status(error.status, error.to_status())
    assert type(read) is errors.Invalid
    assert (read.message, read.details) == (error.message, error.details)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b'{"kind":"Pod"}', {"reason": 5, "message": None, "details": []}]
)
def test_strange_bodies_still_give_an_error(body: Any) -> None:
    assert type(from_status(403, body)) is errors.Forbidden


def test_retry_after() -> None:
    assert [parse_retry_after(text) for text in ("3", "0.5", "", None, "-1", "Wed, 21 Oct")] == [
        3,
        0.5,
        None,
        None,
        0,
        None,
    ]
    assert from_status(429, {"kind": "Status", "details": {"retryAfterSeconds": 2}}).retry_after == 2
    assert (
        from_status(429, {"kind": "Status", "details": {"retryAfterSeconds": 2}}, retry_after=7).retry_after
        == 7
    )


def test_too_large_resource_versions_in_all_dialects() -> None:
    causes = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "x"}]}
    words = {"causes": [{"message": "Too large resource version"}]}
    assert is_too_large_resource_version(errors.ServerTimeout("t", details=causes))
    assert is_too_large_resource_version(errors.InternalError("t", details=words))
    assert is_too_large_resource_version(errors.ServerTimeout("Too large resource version: 9, current: 2"))
    assert not is_too_large_resource_version(errors.ServerTimeout("t"))
    assert not is_too_large_resource_version(errors.ServerTimeout("t", details={"causes": "odd"}))
