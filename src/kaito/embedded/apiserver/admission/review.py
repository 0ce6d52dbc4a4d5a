"""What the webhooks said about one request so far, and the order in which they are asked.

Mutating webhooks one after the other, each about what those before it left; once more those with
`reinvocationPolicy: IfNeeded` after which another one changed something. Validating webhooks all at once, about the
object as it would be stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from kaito.embedded.apiserver.admission.answers import (
    Answer,
    BadAnswer,
    bad_patch,
    denied,
    failed,
    no_dry_run,
    read_answer,
)
from kaito.embedded.apiserver.admission.attributes import DELETE, Attributes
from kaito.embedded.apiserver.admission.endpoints import Unreachable, resolve
from kaito.embedded.apiserver.admission.hooks import (
    MUTATING,
    VALIDATING,
    ConditionError,
    Hook,
    Hooks,
    unanswerable,
)
from kaito.embedded.apiserver.admission.sender import Send
from kaito.embedded.apiserver.core import Core
from kaito.embedded.apiserver.naming import new_uid
from kaito.embedded.apiserver.patching.jsonpatch import json_patch
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Object
from kaito.embedded.apiserver.subjects import Subject
from kaito.runtime.errors import ApiError, InternalError

log = logging.getLogger(__name__)

Refresh = Callable[[Object], None]
"""Brings a patched object into form again: drops what the kind does not know, fills in defaults."""


class Pending(Exception):
    """A request needs answers that it has not got: ask with `settle`, then run it again."""

    def __init__(self, review: Review, calls: list[Call]) -> None:
        super().__init__("waiting for admission webhooks")
        self._review = review
        self._calls = calls

    async def settle(self) -> None:
        """Asks the webhooks at the same time; their answers, good or bad, are kept in the review."""
        answers = await asyncio.gather(*(self._review.ask(call) for call in self._calls))
        for call, answer in zip(self._calls, answers, strict=True):
            self._review.answers[call.key] = answer


@dataclass(frozen=True, slots=True)
class Call:
    """One question to one webhook. `key` is the same when the request is run again on the same stored object."""

    key: tuple[str, ...]
    hook: Hook
    request: Object
    mutating: bool


@dataclass(slots=True)
class Review:
    """One request on its way through the webhooks. `begin` before each run of it."""

    core: Core
    hooks: Hooks
    send: Send
    user: Subject
    agreed_uid: str = field(default_factory=new_uid)
    agreed_time: str = ""
    answers: dict[tuple[str, ...], Answer] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _name: str = ""

    def begin(self) -> None:
        """Forgets what belongs to one run only; answers stay."""
        self.warnings.clear()
        self.agreed_time = self.agreed_time or self.core.now()

    def identify(self, metadata: Object) -> None:
        """Gives a new object the same uid, time and generated name in every run, so that what is seen is stored."""
        metadata["uid"], metadata["creationTimestamp"] = self.agreed_uid, self.agreed_time
        if metadata.get("generateName"):
            self._name = self._name or metadata["name"]
            metadata["name"] = self._name

    def check(self, attributes: Attributes) -> None:
        """Both kinds of webhooks about a request that brings no object to be stored."""
        self.mutate(attributes, None)
        self.validate(attributes)

    def mutate(self, attributes: Attributes, refresh: Refresh | None) -> None:
        """Lets the mutating webhooks change `attributes.object` in place.

        Raises:
            Pending: an answer is missing.
            ApiError: a webhook refuses, or fails and its policy is to fail.
        """
        hooks = self.hooks.concerning(MUTATING, attributes)
        before: list[Hook] = []
        again: list[Hook] = []
        for hook, matched in hooks:
            called, changed = self._mutate_by(hook, matched, attributes, refresh, 0)
            if changed:
                again += before
                before.clear()
            if called and hook.reinvocable:
                before.append(hook)
        for hook, matched in hooks:
            if hook in again:
                self._mutate_by(hook, matched, attributes, refresh, 1)

    def validate(self, attributes: Attributes) -> None:
        """Asks the validating webhooks, all at once.

        Raises:
            Pending: an answer is missing.
            ApiError: a webhook refuses, or fails and its policy is to fail.
        """
        calls = []
        for hook, matched in self.hooks.concerning(VALIDATING, attributes):
            call = self._call(hook, matched, attributes, 0, mutating=False)
            if call is not None:
                calls.append(call)
        missing = [call for call in calls if call.key not in self.answers]
        if missing:
            raise Pending(self, missing)
        errors = [error for call in calls if (error := self._judge(call)) is not None]
        if errors:
            raise errors[0]

    def _mutate_by(
        self, hook: Hook, matched: Served, attributes: Attributes, refresh: Refresh | None, turn: int
    ) -> tuple[bool, bool]:
        """(whether it was asked, whether it changed the object)."""
        call = self._call(hook, matched, attributes, turn, mutating=True)
        if call is None:
            return False, False
        if call.key not in self.answers:
            raise Pending(self, [call])
        error = self._judge(call)
        if error is not None:
            raise error
        patch = self.answers[call.key].patch
        if not patch:
            return True, False
        if attributes.object is None or refresh is None:
            if attributes.operation == DELETE:
                raise InternalError(
                    f'Internal error occurred: admission webhook "{hook.name}" attempted to modify the object, '
                    "which is not supported for this operation"
                )
            return True, False
        return True, _apply(patch, call.request["object"], matched, attributes, refresh)

    def _call(
        self, hook: Hook, matched: Served, attributes: Attributes, turn: int, *, mutating: bool
    ) -> Call | None:
        """The question, or None where the match conditions say that there is none.

        Raises:
            BadRequest: a dry run, and the webhook has side effects.
            Forbidden: a match condition cannot be evaluated.
        """
        shown = attributes if matched is attributes.served else _converted(attributes, matched)
        request = shown.review(new_uid(), matched, self.user)
        try:
            if not hook.applies(request):
                return None
        except ConditionError as error:
            raise unanswerable(attributes, error) from None
        if attributes.dry_run and hook.side_effects not in ("None", "NoneOnDryRun"):
            raise no_dry_run(hook.name)
        key = (hook.id, str(turn), attributes.operation, attributes.subresource, attributes.name)
        return Call((*key, attributes.identity), hook, request, mutating)

    def _judge(self, call: Call) -> ApiError | None:
        answer = self.answers[call.key]
        self.warnings += answer.warnings
        if answer.failure:
            if call.hook.ignores_failures:
                log.warning("webhook %s failed, which is ignored: %s", call.hook.name, answer.failure)
                return None
            return failed(call.hook.name, answer.failure)
        return None if answer.allowed else denied(call.hook.name, answer.status)

    async def ask(self, call: Call) -> Answer:
        """One answer, or how it failed."""
        hook = call.hook
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": call.request}
        try:
            endpoint = resolve(hook.client, self.core, hook.timeout, lambda addresses: addresses[0])
            try:
                async with self.core.clock.timeout(hook.timeout):
                    body = await self.send(endpoint, orjson.dumps(review))
            except TimeoutError:
                raise Unreachable(f'Post "{endpoint.url}": context deadline exceeded') from None
            return read_answer(body, call.request["uid"], mutating=call.mutating)
        except Unreachable as error:
            return Answer(failure=f"failed to call webhook: {error}")
        except BadAnswer as error:
            return Answer(failure=str(error))


def _apply(
    patch: list[Any], shown: Object, matched: Served, attributes: Attributes, refresh: Refresh
) -> bool:
    """Applies a patch to what the webhook saw, and the result to the object. Whether that changed it."""
    target = attributes.object
    assert target is not None
    before = orjson.loads(orjson.dumps(target))
    try:
        result = json_patch(orjson.loads(orjson.dumps(shown)), patch)
    except ApiError:
        raise bad_patch(_obstacle(patch, shown)) from None
    if (result.get("apiVersion"), result.get("kind")) != (shown.get("apiVersion"), shown.get("kind")):
        raise InternalError(
            f"converting ({result.get('apiVersion')}, Kind={result.get('kind')}) to "
            f"({shown.get('apiVersion')}, Kind={shown.get('kind')}): unknown conversion"
        )
    if matched is not attributes.served and attributes.own_kind:
        served = attributes.served.strategy
        result = served.from_storage(matched.strategy.to_storage(result))
    target.clear()
    target.update(result)
    try:
        refresh(target)
    except ApiError as error:
        raise bad_patch(error.message.partition(" cannot be handled as a ")[2].partition(": ")[2]) from None
    return bool(target != before)


def _obstacle(patch: list[Any], shown: Object) -> str:
    """Which operation of a patch cannot be applied, in kube-apiserver's words."""
    for operation in patch:
        try:
            shown = json_patch(shown, [operation])
        except ApiError as error:
            if not isinstance(operation, dict):
                return error.message
            kind, path = operation.get("op"), operation.get("path")
            if kind == "test":
                return f"testing value {path} failed: test failed"
            if kind not in ("add", "copy", "move", "remove", "replace"):
                return f"Unexpected kind: {kind}"
            return f'{kind} operation does not apply: doc is missing path: "{path}": missing value'
    return "the patch cannot be applied"


def _converted(attributes: Attributes, matched: Served) -> Attributes:
    """The same request with its objects in the version that a webhook asks for."""
    if not attributes.own_kind:
        return attributes

    def convert(obj: Object | None) -> Object | None:
        if obj is None:
            return None
        copy: Object = orjson.loads(orjson.dumps(obj))
        return matched.strategy.from_storage(attributes.served.strategy.to_storage(copy))

    return replace(attributes, object=convert(attributes.object), old_object=convert(attributes.old_object))


def options_of(kind: str, values: Mapping[str, object]) -> Object:
    """The options object of a request, without what is not set."""
    present = {name: value for name, value in values.items() if value not in (None, "", False, [])}
    return {"kind": kind, "apiVersion": "meta.k8s.io/v1", **present}
