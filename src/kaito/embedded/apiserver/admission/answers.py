"""Reads what webhooks answer, and words their refusals and failures as kube-apiserver does."""

from __future__ import annotations

import binascii
import unicodedata
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

import orjson

from kaito.embedded.apiserver.store import Object
from kaito.runtime.errors import ApiError, BadRequest, InternalError, from_status


class BadAnswer(Exception):
    """What came back is no answer to the review; the text says what and why, as kube-apiserver does."""


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
    response = _response(body)
    if response.get("uid") != uid:
        raise _invalid(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    return Answer(
        allowed=bool(response.get("allowed")),
        patch=_patch(response, mutating=mutating),
        status=response.get("status"),
        warnings=[text for each in response.get("warnings") or () if _is_printable(text := str(each))],
    )


def _response(body: bytes) -> Object:
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _undecodable(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(review, dict):
        raise _undecodable("couldn't get version/kind; json parse error: an AdmissionReview is an object")
    version, kind = review.get("apiVersion", ""), review.get("kind", "")
    if kind == "AdmissionReview" and version == "admission.k8s.io/v1beta1":
        raise _undecodable("converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion")
    if kind != "AdmissionReview" or version != "admission.k8s.io/v1":
        raise _undecodable(f'no kind "{kind}" is registered for version "{version}"')
    response = review.get("response")
    if not isinstance(response, dict):
        raise _invalid("webhook response was absent")
    return response


def _patch(response: Object, *, mutating: bool) -> list[Any] | None:
    patch, kind = response.get("patch"), response.get("patchType")
    if not mutating:
        if patch or kind:
            raise _invalid("validating webhook may not return response.patch")
        return None
    if not patch:
        if kind:
            raise _invalid("webhook returned response.patchType but not response.patch")
        return None
    if not kind:
        raise _invalid("webhook returned response.patch but not response.patchType")
    try:
        operations = orjson.loads(b64decode(patch, validate=True))
    except (binascii.Error, ValueError) as error:
        raise BadAnswer(f"received undecodable patch in webhook response: {error}") from None
    if not isinstance(operations, list):
        raise BadAnswer(
            "received undecodable patch in webhook response: json: cannot unmarshal "
            f"{_go_type(operations)} into Go value of type jsonpatch.Patch"
        )
    if operations and kind != "JSONPatch":
        raise BadAnswer(f'unsupported patch type "{kind}"')
    return operations


def _go_type(value: Any) -> str:
    """The JSON type in the words of Go's decoder."""
    return {dict: "object", str: "string", bool: "bool"}.get(type(value), "number")


def _is_printable(text: str) -> bool:
    """Whether a warning fits into a header; one with control characters is left out."""
    return not any(unicodedata.category(each) == "Cc" for each in text)


def _invalid(why: str) -> BadAnswer:
    return BadAnswer(f"received invalid webhook response: {why}")


def _undecodable(why: str) -> BadAnswer:
    return BadAnswer(f"failed to call webhook: {why}")


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


def bad_patch(why: str) -> InternalError:
    """The error for a patch that cannot be applied, or leaves something behind that is not of the kind."""
    return InternalError(f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


def no_dry_run(name: str) -> BadRequest:
    return BadRequest(f'admission webhook "{name}" does not support dry run')
