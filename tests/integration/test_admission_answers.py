"""What both API servers make of every answer that a webhook can give, down to the words."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from kaito.runtime.client import Client
from kaito.runtime.errors import ApiError
from kaito.runtime.resources import CONFIGMAPS
from kaito.runtime.webhook.certificates import MUTATING, VALIDATING
from support.cluster import Wire, World
from support.webhooks import made, write_pair

pytestmark = pytest.mark.needs("api")


@dataclass
class Says:
    """One answer of a webhook. `response` is merged into a friendly one; `text` is the body instead."""

    response: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    text: str | None = None
    review: dict[str, Any] = field(default_factory=dict)
    slow: bool = False


FRIENDLY = Says()


def patched(*operations: Any, kind: str | None = "JSONPatch") -> Says:
    body = operations[0] if len(operations) == 1 and isinstance(operations[0], str) else list(operations)
    patch = {"patch": b64encode(body.encode() if isinstance(body, str) else orjson.dumps(body)).decode()}
    return Says({**patch, **({"patchType": kind} if kind else {})})


def denied(**status: Any) -> Says:
    return Says({"allowed": False, **({"status": status} if status else {})})


class Webhook:
    """Answers /validate and /mutate with what the test says."""

    def __init__(self) -> None:
        self.says = {"/validate": FRIENDLY, "/mutate": FRIENDLY}
        self.asked = {"/validate": 0, "/mutate": 0}
        self.bundle = ""
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        uid = orjson.loads(await request.read())["request"]["uid"]
        self.asked[request.path] += 1
        says = self.says[request.path]
        if says.slow:
            await asyncio.get_running_loop().create_future()
        if says.text is not None:
            return web.Response(status=says.status, text=says.text)
        response = {"uid": uid, "allowed": True, **says.response}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        return web.json_response({**review, **says.review})

    def configuration(self, name: str, path: str, namespace: str) -> dict[str, Any]:
        hook = {
            "name": f"{name}.example.com",
            "clientConfig": {"url": f"https://localhost:{self.port}{path}", "caBundle": self.bundle},
            "rules": [
                {
                    "operations": ["CREATE", "DELETE"],
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "resources": ["configmaps"],
                }
            ],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 1,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        }
        return {"metadata": {"name": f"{name}-{namespace}"}, "webhooks": [hook]}


@pytest.fixture
async def webhook(world: World, tmp_path: Path) -> AsyncIterator[Webhook]:
    """Installed, and called."""
    certificates = made()
    write_pair(tmp_path, certificates)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    hook = Webhook()
    hook.bundle = b64encode(certificates.bundle).decode()
    app = web.Application()
    app.router.add_post("/validate", hook.answer)
    app.router.add_post("/mutate", hook.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    hook.port = runner.addresses[0][1]
    for resource, name, path in ((VALIDATING, "check", "/validate"), (MUTATING, "change", "/mutate")):
        body = hook.configuration(name, path, world.namespace)
        await world.client.create(resource, body)
        world.stack.push_async_callback(world.client.delete, resource, body["metadata"]["name"])

    async def called() -> bool:
        await world.client.create(CONFIGMAPS, {"metadata": world.meta("probe")}, dry_run=True)
        return all(hook.asked.values())

    await world.until(called, "both webhooks are called")
    yield hook
    await runner.cleanup()


CHECK = 'admission webhook "check.example.com" denied the request'
FAILED = 'Internal error occurred: failed calling webhook "{}.example.com": '
CALL, INVALID = "failed to call webhook: ", "received invalid webhook response: "
UNDECODABLE = "received undecodable patch in webhook response: "
ADD = {"op": "add", "path": "/data", "value": {"a": "b"}}


@pytest.mark.parametrize(
    ("says", "code", "reason", "words"),
    [
        (denied(), 400, "", f"{CHECK} without explanation"),
        (denied(reason="Odd"), 400, "Odd", f"{CHECK}: Odd"),
        (denied(code=200, message="m"), 400, "", f"{CHECK}: m"),
        (denied(code=403, message="m"), 403, "", f"{CHECK}: m"),
        (denied(code=422, reason="Invalid", message="m"), 422, "Invalid", f"{CHECK}: m"),
        (Says(status=500, text='o"ps'), 500, "InternalError",
         FAILED + CALL + 'an error on the server ("o\\"ps") has prevented the request from succeeding'),
        (Says(status=400, text="x"), 500, "InternalError",
         FAILED + CALL + "the server rejected our request for an unknown reason"),
        (Says(status=403, text="go away"), 500, "InternalError", FAILED + CALL + "go away"),
        (Says(status=404, text="x"), 500, "InternalError",
         FAILED + CALL + "the server could not find the requested resource"),
        (Says(status=413, text="x"), 500, "InternalError",
         FAILED + CALL + "the server responded with the status code 413 but did not return more information"),
        (Says(text="hello"), 500, "InternalError", FAILED + CALL + "couldn't get version/kind; json parse error: "),
        (Says(text=""), 500, "InternalError",
         FAILED + CALL + "0-length response with status code: 200 and content type: text/plain"),
        (Says(review={"response": None}), 500, "InternalError", FAILED + INVALID + "webhook response was absent"),
        (Says({"uid": "other"}), 500, "InternalError", FAILED + INVALID + 'expected response.uid="'),
        (Says(review={"apiVersion": "admission.k8s.io/v1beta1"}), 500, "InternalError",
         FAILED + CALL + "converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion"),
        (Says(review={"kind": "Odd"}), 500, "InternalError",
         FAILED + CALL + 'no kind "Odd" is registered for version "admission.k8s.io/v1"'),
        (patched(ADD), 500, "InternalError", FAILED + INVALID + "validating webhook may not return response.patch"),
    ],
)  # fmt: skip
async def test_answers_of_validating_webhooks(
    webhook: Webhook, world: World, says: Says, code: int, reason: str, words: str
) -> None:
    webhook.says["/validate"] = says
    await refused(world, code, reason, words.format("check"))


@pytest.mark.parametrize(
    ("says", "code", "reason", "words"),
    [
        (denied(message="m"), 400, "", 'admission webhook "change.example.com" denied the request: m'),
        (patched(ADD, kind=None), 500, "InternalError",
         FAILED + INVALID + "webhook returned response.patch but not response.patchType"),
        (Says({"patchType": "JSONPatch"}), 500, "InternalError",
         FAILED + INVALID + "webhook returned response.patchType but not response.patch"),
        (patched(ADD, kind="Merge"), 500, "InternalError", FAILED + 'unsupported patch type "Merge"'),
        (patched("{}"), 500, "InternalError",
         FAILED + UNDECODABLE + "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        (patched({"op": "remove", "path": "/data/x"}), 500, "InternalError",
         'Internal error occurred: remove operation does not apply: doc is missing path: "/data/x": missing value'),
        (patched({"op": "test", "path": "/kind", "value": "X"}), 500, "InternalError",
         "Internal error occurred: testing value /kind failed: test failed"),
        (patched({"op": "odd", "path": "/kind", "value": "X"}), 500, "InternalError",
         "Internal error occurred: Unexpected kind: odd"),
        (patched({"op": "add", "path": "/data", "value": 3}), 500, "InternalError",
         "Internal error occurred: json: cannot unmarshal number into Go struct field ConfigMap.data of type "
         "map[string]string"),
        (patched({"op": "add", "path": "/data", "value": {"a b": "c"}}), 422, "Invalid",
         'data[a b]: Invalid value: "a b"'),
        (patched({"op": "replace", "path": "/metadata/namespace", "value": "x"}), 400, "BadRequest",
         "the namespace of the provided object does not match the namespace sent on the request"),
        (patched({"op": "replace", "path": "/kind", "value": "Secret"}), 500, "InternalError", "unknown conversion"),
    ],
)  # fmt: skip
async def test_answers_of_mutating_webhooks(
    webhook: Webhook, world: World, says: Says, code: int, reason: str, words: str
) -> None:
    webhook.says["/mutate"] = says
    await refused(world, code, reason, words.format("change"))


async def refused(world: World, code: int, reason: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        await world.client.create(CONFIGMAPS, {"metadata": world.meta("one")})
    assert words in caught.value.message
    assert caught.value.status == code
    assert reason in ("", caught.value.reason), "the client fills in a reason where the server gave none"
    if words.startswith("Internal error occurred: "):
        (cause,) = caught.value.details["causes"]
        assert cause["message"].startswith(words.removeprefix("Internal error occurred: "))


async def test_a_webhook_that_does_not_answer(webhook: Webhook, world: World) -> None:
    webhook.says["/validate"] = Says(slow=True)
    with pytest.raises(ApiError) as caught:
        await world.client.create(CONFIGMAPS, {"metadata": world.meta("one")})
    assert f'Post "https://localhost:{webhook.port}/validate?timeout=1s": ' in caught.value.message
    assert "deadline exceeded" in caught.value.message


async def test_warnings_and_names(webhook: Webhook, world: World) -> None:
    warnings: list[str] = []
    wire = Wire(world.backend)
    world.stack.push_async_callback(wire.close)
    client = Client(wire, clock=world.clock, user_agent="warned", on_warning=warnings.append)
    texts = ["one", 'a "quoted" one', "no \n control", "é"]
    webhook.says["/mutate"] = Says(
        {**patched({"op": "replace", "path": "/metadata/name", "value": "other"}).response, "warnings": texts}
    )
    webhook.says["/validate"] = Says({"warnings": ["two"], "auditAnnotations": {"a": "b"}})
    stored = await client.create(CONFIGMAPS, {"metadata": world.meta("one")})
    assert stored["metadata"]["name"] == "other"
    assert warnings == ["one", 'a "quoted" one', "é", "two"]


async def test_unknown_fields_of_a_patch_go_without_a_word(webhook: Webhook, world: World) -> None:
    webhook.says["/mutate"] = patched({"op": "add", "path": "/frob", "value": 1}, ADD)
    stored = await world.client.create(CONFIGMAPS, {"metadata": world.meta("one")})
    assert "frob" not in stored
    assert stored["data"] == {"a": "b"}


async def test_a_deletion_cannot_be_patched(webhook: Webhook, world: World) -> None:
    await world.client.create(CONFIGMAPS, {"metadata": world.meta("one")})
    webhook.says["/mutate"] = patched(ADD)
    with pytest.raises(ApiError) as caught:
        await world.client.delete(CONFIGMAPS, "one", world.namespace)
    assert "attempted to modify the object, which is not supported for this operation" in caught.value.message
    assert caught.value.status == 500


async def test_a_condition_that_cannot_be_evaluated(webhook: Webhook, world: World) -> None:
    body = webhook.configuration("condition", "/validate", world.namespace)
    body["webhooks"][0]["matchConditions"] = [{"name": "c", "expression": "object.data.x == 'a'"}]
    await world.client.create(VALIDATING, body)
    world.stack.push_async_callback(world.client.delete, VALIDATING, body["metadata"]["name"])
    error = await first_refusal(world)
    assert error.status == 403
    words = "expression 'object.data.x == 'a'' resulted in error: no such key: data"
    assert f'configmaps "one" is forbidden: {words}' in error.message


async def test_a_service_that_is_not_there(webhook: Webhook, world: World) -> None:
    body = webhook.configuration("absent", "/validate", world.namespace)
    reference = {"name": "absent", "namespace": world.namespace, "path": "/p"}
    body["webhooks"][0]["clientConfig"] = {"service": reference}
    await world.client.create(VALIDATING, body)
    world.stack.push_async_callback(world.client.delete, VALIDATING, body["metadata"]["name"])
    error = await first_refusal(world)
    host = f"absent.{world.namespace}.svc:443"
    assert f'Post "https://{host}/p?timeout=1s": service "absent" not found' in error.message


async def first_refusal(world: World) -> ApiError:
    """Creates a ConfigMap until that is refused: a real API server learns of new configurations by a watch."""
    errors: list[ApiError] = []

    async def is_refused() -> bool:
        try:
            await world.client.create(CONFIGMAPS, {"metadata": world.meta("one")}, dry_run=True)
        except ApiError as error:
            errors.append(error)
        return bool(errors)

    await world.until(is_refused, "a refusal")
    return errors[0]
