"""Reads what webhooks answer, and words their refusals and failures as kube-apiserver does."""

from __future__ import annotations

import binascii
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

import orjson

from kaito.embedded.apiserver.store import Object
from kaito.runtime.errors import ApiError, BadRequest, InternalError, from_status


class BadAnswer(Exception):
    """What came back is no answer to the review; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one webhook said, or how the call of it failed (`failure`)."""

    allowed: bool = True
    patch: list[Any] | None = None
    status: Object | None = None
    warnings: list[str] = field(default_factory=list)
    failure: str = ""


def read_answer(body: bytes, uid: str, *, mutating: bool) -> Answer:
    """Raises BadAnswer."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadAnswer(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(review, dict):
        raise BadAnswer("expected an AdmissionReview, got no object")
    wanted = "admission.k8s.io/v1, Kind=AdmissionReview"
    got = f"{review.get('apiVersion', '')}, Kind={review.get('kind', '')}"
    if got != wanted:
        raise BadAnswer(f"expected webhook response of {wanted}, got {got}")
    response = review.get("response")
    if not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if response.get("uid") != uid:
        raise BadAnswer(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    return Answer(
        allowed=bool(response.get("allowed")),
        patch=_patch(response, mutating=mutating),
        status=response.get("status"),
        warnings=[str(each) for each in response.get("warnings") or ()],
    )


def _patch(response: Object, *, mutating: bool) -> list[Any] | None:
    patch, kind = response.get("patch"), response.get("patchType")
    if not mutating:
        if patch or kind:
            raise BadAnswer("validating webhook may not return response.patch")
        return None
    if not patch:
        if kind:
            raise BadAnswer("webhook response without patch may not set response.patchType")
        return None
    if kind != "JSONPatch":
        raise BadAnswer(
            f'webhook returned response.patch but not response.patchType="JSONPatch", got "{kind or ""}"'
        )
    try:
        operations = orjson.loads(b64decode(patch, validate=True))
    except (binascii.Error, ValueError) as error:
        raise BadAnswer(f"response.patch is no JSON patch: {error}") from None
    if not isinstance(operations, list):
        raise BadAnswer("response.patch is no JSON patch: it is not a list")
    return operations


def denied(name: str, status: Object | None) -> ApiError:
    """The error for a refusal, with the code, reason and causes that the webhook gave."""
    result = dict(status or {})
    by = f'admission webhook "{name}" denied the request'
    code = result.get("code")
    if not isinstance(code, int) or code < 400:
        result["code"] = 400
    why = result.get("message") or result.get("reason")
    result["message"] = f"{by}: {why}" if why else f"{by} without explanation"
    result["status"] = "Failure"
    error = from_status(result["code"], {"kind": "Status", "apiVersion": "v1", **result})
    error.reason = result.get("reason") or ""
    return error


def failed(name: str, failure: str) -> InternalError:
    """The error for a webhook that could not be asked, where its policy is to fail."""
    text = f'failed calling webhook "{name}": {failure}'
    return InternalError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]})


def no_dry_run(name: str) -> BadRequest:
    return BadRequest(f'admission webhook "{name}" does not support dry run')
