"""One request in, one response out: the transport-neutral API server.

Everything below runs without awaiting anything, so a request is atomic; only watch streams live on. Between two runs of
a request the admission webhooks are asked that it cannot do without (see `admission`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar
from urllib.parse import unquote

from kaito.embedded.apiserver.admission.attributes import CONNECT, Attributes, subject_of
from kaito.embedded.apiserver.admission.connecting import options_kind, options_object
from kaito.embedded.apiserver.admission.hooks import Hooks
from kaito.embedded.apiserver.admission.review import Pending, Review
from kaito.embedded.apiserver.admission.sender import HttpsSender, Send
from kaito.embedded.apiserver.authorization import SUPERUSERS, Authorizer
from kaito.embedded.apiserver.bodies import decode_object, decode_options, duplicate_fields
from kaito.embedded.apiserver.collector import Collector
from kaito.embedded.apiserver.core import NAMESPACES, Core
from kaito.embedded.apiserver.definitions import Definitions
from kaito.embedded.apiserver.deletion import JOBS, ORPHANS_WARNING, Deleter
from kaito.embedded.apiserver.documents import Documents
from kaito.embedded.apiserver.forms import negotiate
from kaito.embedded.apiserver.messages import (
    NoSuchPath,
    add_warning,
    error_response,
    json_response,
    method_not_allowed,
    not_implemented,
    page_not_found,
    unknown_resource,
)
from kaito.embedded.apiserver.naming import check_type
from kaito.embedded.apiserver.orphans import OrphanedPods
from kaito.embedded.apiserver.parameters import (
    IGNORE,
    DeleteOptions,
    ListOptions,
    Params,
    WriteOptions,
    flag,
    parameters,
)
from kaito.embedded.apiserver.patch_verb import Patcher
from kaito.embedded.apiserver.reading import Reader, not_found, require
from kaito.embedded.apiserver.retention import EventRetention
from kaito.embedded.apiserver.reviews import answer, is_review
from kaito.embedded.apiserver.routing import Target, parse_target
from kaito.embedded.apiserver.selection import select
from kaito.embedded.apiserver.served import Served
from kaito.embedded.apiserver.store import Object
from kaito.embedded.apiserver.subresources import UNIMPLEMENTED, Subresources
from kaito.embedded.apiserver.tables.render import Tables
from kaito.embedded.apiserver.watching import Watcher
from kaito.embedded.apiserver.writing import Outcome, Writer
from kaito.runtime.errors import ApiError, InternalError, MethodNotAllowed
from kaito.runtime.transport import Request, Response

log = logging.getLogger(__name__)

Result = TypeVar("Result")

MAX_RUNS: Final = 100
"""Times that a request is begun anew because of webhooks; more means that the object changes all the time."""


class Api:
    """Answers requests on a core. `token_valid` judges the token of a TokenReview."""

    def __init__(
        self,
        core: Core,
        *,
        instance: str,
        bookmark_interval: float,
        token_valid: Callable[[str], bool],
        send_review: Send | None = None,
    ) -> None:
        """`send_review` carries reviews to webhooks; HTTPS by default."""
        self.core = core
        self._hooks = Hooks(core)
        self._sender = HttpsSender()
        self._send_review = send_review or self._sender.send
        self._token_valid = token_valid
        self._authorizer = Authorizer(core)
        tables = Tables(core.clock)
        self.reader = Reader(core.store, tables)
        self.watcher = Watcher(core.store, tables, core.clock, bookmark_interval)
        self.writer = Writer(core)
        self.deleter = Deleter(core)
        self._patcher = Patcher(core, self.writer)
        self._subresources = Subresources(core, self.writer, self.deleter)
        self._documents = Documents(core.registry, instance)
        Definitions(core, self.deleter)
        Collector(core, self.deleter)
        OrphanedPods(core, self.deleter)
        EventRetention(core)

    async def handle(self, request: Request) -> Response:
        """The answer to a request; never raises for anything the request says."""
        review = None
        if request.method not in ("GET", "HEAD") and self._hooks.exist:
            review = Review(self.core, self._hooks, self._send_review, subject_of(request.headers))
        try:
            response = await self._admitted(review, lambda: self._answer(request, review))
        except ApiError as error:
            response = error_response(error)
        except NoSuchPath:
            response = page_not_found()
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return error_response(
                InternalError(f"the server failed on {request.method} {request.path}; its log has the cause")
            )
        for warning in review.warnings if review is not None else ():
            add_warning(response, warning)
        return response

    async def admit_connect(
        self, target: Target, query: Sequence[tuple[str, str]], headers: Mapping[str, str]
    ) -> None:
        """Asks the webhooks about a connection (exec, attach, portforward, proxy) before it is made.

        Raises:
            ApiError: one refuses, or fails and its policy is to fail.
        """
        served = self.core.registry.find(target.group, target.version, target.plural)
        kind = options_kind(target.plural, target.subresource)
        if served is None or kind is None or not self._hooks.exist:
            return
        review = Review(self.core, self._hooks, self._send_review, subject_of(headers))
        attributes = Attributes(
            operation=CONNECT,
            served=served,
            namespace=target.namespace or "",
            name=target.name or "",
            object=options_object(kind, query, target.rest),
            old_object=None,
            kind=kind,
            subresource=target.subresource,
        )
        await self._admitted(review, lambda: review.check(attributes))

    async def close(self) -> None:
        """Drops the connections to webhooks."""
        await self._sender.close()

    @staticmethod
    async def _admitted(review: Review | None, run: Callable[[], Result]) -> Result:
        """Runs something that cannot wait until it has all the webhooks' answers that it needs."""
        if review is None:
            return run()
        for _ in range(MAX_RUNS):
            review.begin()
            try:
                return run()
            except Pending as pending:
                await pending.settle()
        raise InternalError(
            f"the object changed {MAX_RUNS} times while admission webhooks were asked; try again"
        )

    def _answer(self, request: Request, review: Review | None) -> Response:
        path = unquote(request.path)
        target = parse_target(path)
        if target is None:
            return self._documents.answer(request, path)
        served = self.core.registry.find(target.group, target.version, target.plural)
        if served is None or (target.namespace is not None and not served.resource.namespaced):
            if not self.core.registry.is_builtin(target.group):
                raise NoSuchPath
            raise unknown_resource(request, target)
        try:
            if target.subresource:
                response = self._on_subresource(served, target, request, review)
            elif target.name is not None:
                response = self._on_object(served, target, request, review)
            else:
                response = self._on_collection(served, target, request, review)
        except MethodNotAllowed as error:
            if served.custom:
                error.details = {"group": target.group, "kind": target.plural}
            raise
        if served.strategy.warning:
            add_warning(response, served.strategy.warning)
        return response

    # --- objects and collections ----------------------------------------------------------------------------------

    def _on_collection(
        self, served: Served, target: Target, request: Request, review: Review | None
    ) -> Response:
        params = parameters(request)
        match request.method:
            case "GET" | "HEAD":
                form = negotiate(request.header("accept"))
                if flag(params, "watch"):
                    _require_verb(served, "watch")
                    return self.watcher.watch(served, target.namespace, None, form, params)
                _require_verb(served, "list")
                return self.reader.list(served, target.namespace, form, params)
            case "POST":
                return self._create(served, target, request, params, review)
            case "DELETE":
                _require_verb(served, "deletecollection")
                options = ListOptions.parse(params)
                selection = select(served, target.namespace, None, options)
                delete_options = DeleteOptions.parse(params, decode_options(request), review)
                return json_response(self.deleter.delete_all(selection, delete_options))
        raise method_not_allowed(request)

    def _create(
        self, served: Served, target: Target, request: Request, params: Params, review: Review | None
    ) -> Response:
        if served.resource.namespaced and target.namespace is None:
            raise method_not_allowed(request)
        obj = decode_object(request)
        if is_review(served.resource.kind):
            check_type(served, obj)
            subject = subject_of(request.headers)
            limited = SUPERUSERS not in subject.groups
            about = partial(self._authorizer.about, subject) if limited else None
            return json_response(answer(obj, self._token_valid, about), 201)
        if served.resource.kind == "Binding":
            options = WriteOptions.parse(params, "CreateOptions", review)
            pods = self.core.registry.builtin("pods")
            name = str((obj.get("metadata") or {}).get("name") or "")
            body = self._subresources.bind(pods, target.namespace, name, obj, options, _agent(request))
            return json_response(body, 201)
        _require_verb(served, "create")
        options = _noting_duplicates(WriteOptions.parse(params, "CreateOptions", review), request)
        outcome = self.writer.create(served, target.namespace, obj, options, _agent(request))
        return self._written(served, outcome, request, params)

    def _on_object(self, served: Served, target: Target, request: Request, review: Review | None) -> Response:
        assert target.name is not None
        params = parameters(request)
        namespace, name = target.namespace, target.name
        if served.resource.namespaced and namespace is None:
            raise unknown_resource(request, target)
        match request.method:
            case "GET" | "HEAD":
                # `watch` means nothing here, as in kube-apiserver: one object is watched by a field selector.
                form = negotiate(request.header("accept"))
                _require_verb(served, "get")
                return self.reader.get(served, namespace, name, form, params)
            case "PUT":
                _require_verb(served, "update")
                outcome = self.writer.replace(
                    served,
                    namespace,
                    name,
                    decode_object(request),
                    _noting_duplicates(WriteOptions.parse(params, "UpdateOptions", review), request),
                    _agent(request),
                )
            case "PATCH":
                _require_verb(served, "patch")
                options = WriteOptions.parse(params, "PatchOptions", review)
                outcome = self._patcher.patch(served, namespace, name, request, options, _agent(request))
            case "DELETE":
                _require_verb(served, "delete")
                delete_options = DeleteOptions.parse(params, decode_options(request), review)
                status, body = self.deleter.delete(served, namespace, name, delete_options)
                orphans = served.resource.name == JOBS and not delete_options.propagation
                return json_response(body, status, warnings=[ORPHANS_WARNING] if orphans else ())
            case _:
                raise method_not_allowed(request)
        return self._written(served, outcome, request, params)

    def _written(self, served: Served, outcome: Outcome, request: Request, params: Params) -> Response:
        form = negotiate(request.header("accept"))
        status = 201 if outcome.created else 200
        return self.reader.show(served, outcome.record, form, params, status, outcome.warnings)

    # --- subresources ---------------------------------------------------------------------------------------------

    def _on_subresource(
        self, served: Served, target: Target, request: Request, review: Review | None
    ) -> Response:
        assert target.name is not None
        name, namespace, sub = target.name, target.namespace, target.subresource
        if sub not in served.strategy.subresources and not (
            sub == "finalize" and served.resource.name == NAMESPACES
        ):
            if sub in UNIMPLEMENTED and not served.custom:
                raise not_implemented(f"{served.resource.plural}/{sub}", UNIMPLEMENTED[sub])
            if served.custom:
                raise not_found(served, name)
            raise unknown_resource(request, target)
        if served.resource.namespaced and namespace is None:
            raise unknown_resource(request, target)
        params = parameters(request)
        match sub:
            case "status":
                return self._on_status(served, target, request, params, review)
            case "scale":
                return self._on_scale(served, target, request, params, review)
            case "binding" if request.method == "POST":
                options = WriteOptions.parse(params, "CreateOptions", review)
                body = decode_object(request)
                return json_response(
                    self._subresources.bind(served, namespace, name, body, options, _agent(request)), 201
                )
            case "eviction" if request.method == "POST":
                options = WriteOptions.parse(params, "CreateOptions", review)
                body = self._subresources.evict(served, namespace, name, decode_object(request), options)
                return json_response(body, 201)
            case "finalize" if request.method == "PUT":
                record = self._subresources.finalize_namespace(served, name, decode_object(request))
                return json_response(served.view(record))
        if target.streamed:
            raise not_implemented(
                f"{served.resource.plural}/{sub}", "it needs a connection of its own; ask over HTTPS"
            )
        if sub in UNIMPLEMENTED:
            raise not_implemented(f"{served.resource.plural}/{sub}", UNIMPLEMENTED[sub])
        raise method_not_allowed(request)

    def _on_status(
        self, served: Served, target: Target, request: Request, params: Params, review: Review | None
    ) -> Response:
        assert target.name is not None
        name, namespace = target.name, target.namespace
        match request.method:
            case "GET" | "HEAD":
                form = negotiate(request.header("accept"))
                return self.reader.get(served, namespace, name, form, params)
            case "PUT":
                outcome = self.writer.replace(
                    served,
                    namespace,
                    name,
                    decode_object(request),
                    WriteOptions.parse(params, "UpdateOptions", review),
                    _agent(request),
                    "status",
                )
            case "PATCH":
                options = WriteOptions.parse(params, "PatchOptions", review)
                outcome = self._patcher.patch(
                    served, namespace, name, request, options, _agent(request), "status"
                )
            case _:
                raise method_not_allowed(request)
        return self._written(served, outcome, request, params)

    def _on_scale(
        self, served: Served, target: Target, request: Request, params: Params, review: Review | None
    ) -> Response:
        assert target.name is not None
        if request.method in ("GET", "HEAD"):
            return json_response(self._subresources.get_scale(served, target.namespace, target.name))
        if request.method not in ("PUT", "PATCH"):
            raise method_not_allowed(request)
        options = WriteOptions.parse(
            params, "UpdateOptions" if request.method == "PUT" else "PatchOptions", review
        )
        scale, outcome = self._subresources.set_scale(
            served, target.namespace, target.name, request, options, _agent(request)
        )
        return json_response(scale, warnings=outcome.warnings)

    # --- for the rest of the process ------------------------------------------------------------------------------

    def find(self, name: str, namespace: str | None, object_name: str) -> Object:
        """A stored object by `plural` or `plural.group`; read-only.

        Raises:
            NotFound: there is none.
        """
        served = self.core.registry.builtin(name)
        return served.view(require(served, namespace, object_name))


def _agent(request: Request) -> str:
    """The default field manager: the first word of the user agent."""
    return request.header("user-agent").partition("/")[0].strip() or "unknown"


def _noting_duplicates(options: WriteOptions, request: Request) -> WriteOptions:
    """The options of a write whose body counts as a whole, with what that body says twice."""
    if options.field_validation == IGNORE:
        return options
    return replace(options, duplicates=tuple(duplicate_fields(request)))


def _require_verb(served: Served, verb: str) -> None:
    if verb not in served.strategy.verbs:
        raise MethodNotAllowed(f"{verb} is not supported on resources of kind {served.resource.plural!r}")
