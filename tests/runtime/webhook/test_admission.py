"""Reviews in, answers out, without a network."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import orjson
import pytest

from kaito.runtime.webhook import AdmissionRequest, Allow, Cause, Deny, GroupVersionKind, Operation
from kaito.runtime.webhook.admission import Answer, BadReview, Handler, decide, encode
from kaito.runtime.webhook.conversion import convert
from support.webhooks import review, widget


async def answered(body: bytes, *handlers: Handler, mutating: bool = False) -> dict[str, Any]:
    request = AdmissionRequest.decode(body)
    answer = orjson.loads(encode(request, await decide(handlers, request, mutating=mutating)))
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = answer["response"]
    assert response["uid"] == "u-1"
    return response


def test_a_request_is_typed() -> None:
    body = review(
        widget(size=1),
        "UPDATE",
        oldObject=widget(size=2),
        subResource="status",
        dryRun=True,
        options={"kind": "UpdateOptions", "fieldManager": "me"},
        requestKind={"group": "example.com", "version": "v1alpha1", "kind": "Widget"},
        userInfo={"username": "ann", "uid": "7", "groups": ["dev"], "extra": {"scopes": ["a"]}},
    )
    request = AdmissionRequest.decode(body)
    assert request.operation is Operation.UPDATE
    assert request.kind == GroupVersionKind("example.com", "v1", "Widget")
    assert request.request_kind == GroupVersionKind("example.com", "v1alpha1", "Widget")
    assert request.request_resource is None
    assert (request.namespace, request.name, str(request.key)) == ("n", "one", "n/one")
    assert request.sub_resource == "status"
    assert request.dry_run
    assert request.options["fieldManager"] == "me"
    assert (request.user.username, request.user.uid, request.user.groups) == ("ann", "7", ("dev",))
    assert request.user.extra == {"scopes": ["a"]}
    assert request.object == widget(size=1)
    assert request.old_object == widget(size=2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}', "list v1 in"),
        (b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}', "has no request"),
        (review(uid=""), "uid is empty"),
        (review(operation="PATCH"), "'PATCH' is not a valid Operation"),
        (review(kind=None), "malformed"),
        (review(object=[1]), "object is not an object"),
    ],
)
def test_what_is_no_review_is_refused_with_words(body: bytes, words: str) -> None:
    with pytest.raises(BadReview, match=words):
        AdmissionRequest.decode(body)


async def test_a_denial_names_the_fields() -> None:
    def check(request: AdmissionRequest) -> Answer:
        return Deny("spec is invalid", causes=[Cause("spec.size", "must be at most 10")], warnings=["look"])

    response = await answered(review(widget(size=11)), check)
    assert response == {
        "uid": "u-1",
        "allowed": False,
        "status": {
            "status": "Failure",
            "message": "spec is invalid: spec.size: must be at most 10",
            "reason": "Forbidden",
            "code": 403,
            "details": {
                "name": "one",
                "group": "example.com",
                "kind": "Widget",
                "causes": [
                    {"reason": "FieldValueInvalid", "message": "must be at most 10", "field": "spec.size"}
                ],
            },
        },
        "warnings": ["look"],
    }


async def test_a_chain_stops_at_the_first_denial_and_collects_warnings() -> None:
    calls: list[str] = []

    async def first(request: AdmissionRequest) -> Answer:
        calls.append("first")
        return Allow(warnings=["one"], audit={"a": "1"})

    def second(request: AdmissionRequest) -> Answer:
        calls.append("second")
        return Deny("no", warnings=["two"])

    def third(request: AdmissionRequest) -> Answer:
        calls.append("third")
        return None

    response = await answered(review(widget()), first, second, third)
    assert calls == ["first", "second"]
    assert response["warnings"] == ["one", "two"]
    assert response["auditAnnotations"] == {"a": "1"}


async def test_a_changed_object_becomes_a_patch_and_the_next_sees_it() -> None:
    def default(request: AdmissionRequest) -> dict[str, Any]:
        assert request.object is not None
        request.object["spec"].setdefault("size", 3)
        return request.object

    def double(request: AdmissionRequest) -> Allow:
        assert request.object is not None
        request.object["spec"]["size"] *= 2
        return Allow(request.object, warnings=["doubled"])

    response = await answered(review(widget()), default, double, mutating=True)
    assert response["allowed"]
    assert response["patchType"] == "JSONPatch"
    assert orjson.loads(b64decode(response["patch"])) == [{"op": "add", "path": "/spec/size", "value": 6}]
    assert response["warnings"] == ["doubled"]


async def test_no_change_is_no_patch_and_a_delete_is_not_defaulted() -> None:
    called = False

    def nothing(request: AdmissionRequest) -> dict[str, Any] | None:
        nonlocal called
        called = True
        return request.object

    assert await answered(review(widget(size=1)), nothing, mutating=True) == {"uid": "u-1", "allowed": True}
    assert called
    called = False
    deletion = review(None, "DELETE", oldObject=widget())
    assert await answered(deletion, nothing, mutating=True) == {"uid": "u-1", "allowed": True}
    assert not called


async def test_answers_that_are_none_are_named() -> None:
    def odd(request: AdmissionRequest) -> Any:
        return "yes"

    def changes(request: AdmissionRequest) -> Any:
        return request.object

    request = AdmissionRequest.decode(review(widget()))
    with pytest.raises(TypeError, match=r"odd returned str; return None, Allow, Deny"):
        await decide([odd], request, mutating=False)
    with pytest.raises(TypeError, match="registered to validate"):
        await decide([changes], request, mutating=False)


def conversion(*objects: dict[str, Any], wanted: str = "example.com/v2") -> bytes:
    request = {"uid": "c-1", "desiredAPIVersion": wanted, "objects": list(objects)}
    return orjson.dumps(
        {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}
    )


async def test_conversion() -> None:
    def to(obj: dict[str, Any], wanted: str) -> dict[str, Any]:
        if wanted != "example.com/v2":
            raise ValueError(f"no way to {wanted}")
        return {**obj, "apiVersion": wanted, "spec": {"width": obj["spec"]["size"]}}

    done = orjson.loads(await convert(conversion(widget(size=2)), to))["response"]
    assert done["uid"] == "c-1"
    assert done["result"] == {"status": "Success"}
    assert done["convertedObjects"] == [{**widget(width=2), "apiVersion": "example.com/v2"}]

    failed = orjson.loads(await convert(conversion(widget(size=2), wanted="example.com/v3"), to))["response"]
    assert failed["result"] == {"status": "Failure", "message": "no way to example.com/v3"}
    assert failed["convertedObjects"] == []

    def renames(obj: dict[str, Any], wanted: str) -> dict[str, Any]:
        return {**obj, "apiVersion": wanted, "metadata": {"name": "other"}}

    refused = orjson.loads(await convert(conversion(widget()), renames))["response"]
    assert "changed its name" in refused["result"]["message"]
    with pytest.raises(BadReview, match="no ConversionReview"):
        await convert(b"{}", to)
