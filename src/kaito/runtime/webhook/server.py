"""An HTTPS server that answers the API server's admission and conversion reviews.

HTTP statuses: a review that could be read is answered with 200, whatever was decided; a handler that fails is a denial
with code 500 that carries the review's uid and is counted as a panic, as controller-runtime does it. What cannot be
read as a review gets 400 (413 above the size limit), so that the API server takes the call for failed and the
`failurePolicy` applies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from kaito.runtime.clock import Clock
from kaito.runtime.groups import Group
from kaito.runtime.health import KEEPALIVE, cannot_listen, split_address
from kaito.runtime.logs import get_logger
from kaito.runtime.resources import Resource
from kaito.runtime.webhook import conversion
from kaito.runtime.webhook.admission import (
    AdmissionRequest,
    Allow,
    BadReview,
    Deny,
    Handler,
    decide,
    encode,
)
from kaito.runtime.webhook.certwatcher import CertificateWatcher
from kaito.runtime.webhook.conversion import Converter
from kaito.runtime.webhook.metrics import HookMetrics, WebhookMetrics

if TYPE_CHECKING:
    from kaito.runtime.manager import Manager

CONVERT_PATH = "/convert"
SHUTDOWN_TIMEOUT = 60.0
"""Seconds that requests get to finish when the server stops, as in controller-runtime."""

Reply = tuple[int, bytes]
Answerer = Callable[[bytes, float], Awaitable[bytes]]
"""(body, seconds left) -> the review with its response. Raises BadReview."""

log = get_logger(__name__)


def default_directory() -> Path:
    """`k8s-webhook-server/serving-certs` in the directory for temporary files, as controller-runtime has it."""
    return Path(tempfile.gettempdir()) / "k8s-webhook-server" / "serving-certs"


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """How a webhook server listens.

    >>> WebhookOptions(address="127.0.0.1:9443", directory=Path("/certs")).max_body
    7340032
    """

    address: str = ":9443"
    """HOST:PORT; `:9443` is every interface, port 0 any free one."""
    directory: Path = field(default_factory=default_directory)
    """Directory with `tls.crt` and `tls.key` (PEM). Default: `k8s-webhook-server/serving-certs` under the temporary
    files."""
    client_ca: Path | None = None
    """File (PEM) with the authority whose client certificates are let in. None: whoever reaches the port."""
    poll_interval: float = 10.0
    """Seconds between two looks at the certificate files; every TLS handshake looks as well."""
    max_body: int = 7 * 1024 * 1024
    """Bytes a review may have; larger ones get 413. Default: 7 MiB, which holds two objects of the
    largest size."""
    handler_timeout: float = 10.0
    """Seconds for all handlers of a request; the `timeout` that the API server names shortens it."""


def validate_path(resource: Resource) -> str:
    """`/validate-GROUP-VERSION-KIND`, dots of the group as dashes, kind in lower case.

    >>> validate_path(Resource("apps.example.com", "v1", "websites", "Website"))
    '/validate-apps-example-com-v1-website'
    """
    return _path("validate", resource)


def mutate_path(resource: Resource) -> str:
    """`/mutate-GROUP-VERSION-KIND`, dots of the group as dashes, kind in lower case.

    >>> mutate_path(Resource("", "v1", "pods", "Pod"))
    '/mutate--v1-pod'
    """
    return _path("mutate", resource)


def _path(verb: str, resource: Resource) -> str:
    return f"/{verb}-{resource.group.replace('.', '-')}-{resource.version}-{resource.kind.lower()}"


class WebhookServer:
    """Serves handlers under controller-runtime's paths; a runnable of the manager's group WEBHOOKS.

    Register handlers first, then add the server to a manager, or `run` it yourself.

        server = WebhookServer(clock=clock, options=WebhookOptions(directory=Path("/certs")))

        @server.validate(WIDGETS)
        def check(request: AdmissionRequest) -> Deny | None:
            size = (request.object or {}).get("spec", {}).get("size", 0)
            return Deny("spec is invalid", causes=[Cause("spec.size", "must be at most 10")]) if size > 10 else None

        @server.mutate(WIDGETS)
        def default(request: AdmissionRequest) -> dict[str, Any]:
            assert request.object is not None
            request.object["spec"].setdefault("size", 3)
            return request.object

        server.add_to(manager)
    """

    group = Group.WEBHOOKS
    name = "webhooks"

    def __init__(self, *, clock: Clock, options: WebhookOptions | None = None) -> None:
        self.options = options or WebhookOptions()
        self.metrics = WebhookMetrics()
        self._clock = clock
        self._chains: dict[str, list[Handler]] = {}
        self._answerers: dict[str, tuple[Answerer, HookMetrics]] = {}
        self._host, self._wanted_port = split_address(self.options.address)
        self._runner: web.AppRunner | None = None
        self._watcher: CertificateWatcher | None = None
        self._listening = asyncio.Event()

    # -- registration ----------------------------------------------------------------------------------------

    def validate(self, resource: Resource) -> Callable[[Handler], Handler]:
        """Decorator: the handler validates requests at `validate_path(resource)`.

        Several for one resource form a chain, in the order of their registration, that ends at the first denial.
        """
        return lambda handler: self.add(validate_path(resource), handler, mutating=False)

    def mutate(self, resource: Resource) -> Callable[[Handler], Handler]:
        """Decorator: the handler changes objects at `mutate_path(resource)`; chains as with `validate`."""
        return lambda handler: self.add(mutate_path(resource), handler, mutating=True)

    def add(self, path: str, handler: Handler, *, mutating: bool) -> Handler:
        """Registers a handler at any path.

        Raises:
            ValueError: the path has no leading slash, or is taken by the other kind of handlers or the conversion.
        """
        if not path.startswith("/"):
            raise ValueError(f"webhook path {path!r} must begin with a slash")
        chain = self._chains.setdefault(path, [])
        if not chain:
            self._register(path, _Admission(chain, mutating, self._clock, self.metrics.hook(path)))
        admission = self._answerers[path][0]
        if not isinstance(admission, _Admission) or admission.mutating is not mutating:
            raise ValueError(f"webhook path {path!r} cannot both validate and mutate; use two paths")
        chain.append(handler)
        return handler

    def convert(self, converter: Converter) -> Converter:
        """Decorator: answers conversion reviews at `/convert`, for every kind. Raises ValueError for a second one."""

        async def answer(body: bytes, limit: float) -> bytes:
            async with self._clock.timeout(limit):
                return await conversion.convert(body, converter)

        self._register(CONVERT_PATH, answer, conversion=True)
        return converter

    def _register(self, path: str, answerer: Answerer, *, conversion: bool = False) -> None:
        if path in self._answerers:
            raise ValueError(f"webhook path {path!r} is taken")
        self._answerers[path] = answerer, self.metrics.hook(path, conversion=conversion)

    def add_to(self, manager: Manager) -> None:
        """Adds the server to a manager: runs it, shows its metrics, and makes /readyz wait until it answers TLS."""
        manager.add(self)
        manager.metrics.add(self.metrics)
        manager.add_ready_check("webhooks", self.check)

    # -- running ---------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that is being served. Raises RuntimeError before the start."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the webhook server is not listening")
        return int(self._runner.addresses[0][1])

    async def wait_ready(self) -> None:
        """Until the server listens; the manager's caches start after that."""
        await self._listening.wait()

    async def run(self) -> None:
        """Serves until cancelled, then lets the requests that are under way finish.

        Raises:
            CertificateError: there is no usable serving certificate.
            OSError: the address is taken.
        """
        watcher = CertificateWatcher(
            self.options.directory,
            self.metrics,
            client_ca=self.options.client_ca,
            interval=self.options.poll_interval,
        )
        context = watcher.open()
        self._watcher = watcher
        app = web.Application(client_max_size=self.options.max_body)
        for path in self._answerers:
            app.router.add_route("*", path, self._serve)
        runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            handler_cancellation=True,
        )
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, self._wanted_port, ssl_context=context).start()
            except OSError as error:
                raise cannot_listen(self._host, self._wanted_port, error) from error
            self._runner = runner
            self._listening.set()
            log.info("serving webhooks", port=self.port, paths=", ".join(sorted(self._answerers)))
            await watcher.run(self._clock)
        finally:
            self._runner = None
            await runner.cleanup()

    async def check(self) -> None:
        """For /readyz: dials the server and completes a TLS handshake with it.

        Fails before the server listens, and when the certificate that it shows has expired. A renewed pair that cannot
        be used is no failure while the old one is still good: that is counted, and taking every replica out of the
        Service would help nobody.

        Raises:
            RuntimeError: it does not listen yet.
            OSError: the handshake failed (`ssl.SSLError`), or nobody answers.
        """
        port, watcher = self.port, self._watcher
        assert watcher is not None
        watcher.check()
        context = ssl.create_default_context(cadata=watcher.serving)
        context.check_hostname = False
        # Trust the leaf itself, whoever issued it, and ask no more of it than Kubernetes does.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        host = "127.0.0.1" if self._host in (None, "0.0.0.0", "::") else self._host
        async with self._clock.timeout(self.options.handler_timeout):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost")
            writer.close()
            with contextlib.suppress(OSError):  # where client certificates are asked for, this end has none
                await writer.wait_closed()

    async def _serve(self, request: web.Request) -> web.Response:
        answerer, metrics = self._answerers[request.path]
        started = self._clock.now()
        metrics.in_flight += 1
        status = 500
        try:
            try:
                body = await self._read(request)
                reply = await answerer(body, self._limit(request))
            except BadReview as error:
                log.warning("bad review", path=request.path, reason=str(error))
                status = 400
                return web.Response(status=status, text=f"{error}\n")
            except web.HTTPException as error:
                status = error.status
                return web.Response(status=status, text=f"{error.text}\n")
            except TimeoutError:
                return web.Response(status=status, text="the converter did not answer in time\n")
            except Exception as error:
                metrics.panics += 1
                log.panic("a webhook failed", path=request.path, error=error)
                return web.Response(status=status, text="the webhook failed; its log has the cause\n")
            status = 200
            return web.Response(body=reply, content_type="application/json")
        finally:
            metrics.in_flight -= 1
            metrics.requests[status] = metrics.requests.get(status, 0) + 1
            metrics.latency.observe(self._clock.now() - started)

    async def _read(self, request: web.Request) -> bytes:
        if request.method != "POST":
            raise web.HTTPMethodNotAllowed(request.method, ["POST"], text="reviews are sent with POST")
        if request.content_type != "application/json":
            raise web.HTTPBadRequest(
                text=f"content type {request.headers.get('Content-Type', '')!r} is not application/json"
            )
        limit = self.options.max_body
        too_large = web.HTTPRequestEntityTooLarge(limit, text=f"the review has more than {limit} bytes")
        if (request.content_length or 0) > limit:
            raise too_large
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise too_large from None
        if not body:
            raise web.HTTPBadRequest(text="the body is empty; an AdmissionReview is expected")
        return body

    def _limit(self, request: web.Request) -> float:
        return min(self.options.handler_timeout, _seconds(request.query.get("timeout", "")) or float("inf"))


class _Admission:
    """Answers the reviews of one path."""

    def __init__(self, chain: list[Handler], mutating: bool, clock: Clock, metrics: HookMetrics) -> None:
        self._chain = chain
        self.mutating = mutating
        self._clock = clock
        self._metrics = metrics

    async def __call__(self, body: bytes, limit: float) -> bytes:
        request = AdmissionRequest.decode(body)
        about = {"operation": request.operation, "kind": request.kind.kind, "object": str(request.key)}
        try:
            async with self._clock.timeout(limit):
                answer: Allow | Deny = await decide(self._chain, request, mutating=self.mutating)
            reply = encode(request, answer)
            self._metrics.decisions[_decision(answer)] += 1
            return reply
        except TimeoutError:
            self._metrics.decisions["failed"] += 1
            log.error("a webhook's handlers took too long", limit=limit, review=about)
            return encode(request, Deny(f"the webhook did not decide within {limit:g} s", "Timeout", 504))
        except Exception as error:
            self._metrics.panics += 1
            self._metrics.decisions["failed"] += 1
            log.panic("a webhook's handler failed", error=error, review=about)
            text = f"the webhook failed ({type(error).__name__}); its log has the cause"
            return encode(request, Deny(text, "InternalError", 500))


def _decision(answer: Allow | Deny) -> str:
    """The answer as the label `decision`."""
    if isinstance(answer, Deny):
        return "refused"
    return "warned" if answer.warnings else "allowed"


def _seconds(text: str) -> float | None:
    """A Go duration of one unit (`10s`, `500ms`, `1m`), which is what API servers send; None for anything else."""
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
        if text.endswith(unit):
            try:
                return float(text.removesuffix(unit)) * factor
            except ValueError:
                return None
    return None
