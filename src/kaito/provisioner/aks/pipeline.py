"""The way of a request to the Resource Manager: azure-core's policies, without those that wait, follow or retry.

What the SDK would do by itself and must not: retry with pauses of its own, register resource providers (a POST and
endless polls inside a request), follow redirects, write requests to the log. What is added: a turn among the calls in
flight, one limit of time for all of a request, and no address but the Resource Manager's, so that a token goes nowhere
else, whatever an answer names as the next page or as an operation.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import urlsplit

from azure.core.credentials_async import AsyncSupportsTokenInfo, AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    ServiceRequestError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import (
    AsyncHTTPPolicy,
    HeadersPolicy,
    ProxyPolicy,
    RequestIdPolicy,
    SansIOHTTPPolicy,
    UserAgentPolicy,
)
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.mgmt.containerservice.aio import ContainerServiceClient
from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

from kaito.provisioner.aks.arm_metrics import NO_ANSWER, ArmMetrics, code_class
from kaito.provisioner.aks.config import AksConfig
from kaito.provisioner.aks.identity import Credential
from kaito.runtime.clock import Clock

CALL: Final = "call"
"""Option of a request: the `Call` that it belongs to."""
USER_AGENT: Final = "kaito-provisioner"
API_VERSION: Final = "2026-08-01"
"""Of Microsoft.ContainerService: the SDK's own default, and what its models were made from."""

Transport = AsyncHttpTransport[HttpRequest, AsyncHttpResponse]


@dataclass
class Call:
    """One call of `Arm`, which a list of several pages makes several requests for.

    operation: one of arm_metrics.OPERATIONS. response, bodies: the last answer, and the JSON of every good one.
    """

    operation: str
    response: AsyncHttpResponse | None = None
    bodies: list[dict[str, Any] | None] = field(default_factory=list)

    @property
    def status(self) -> int:
        return 0 if self.response is None else self.response.status_code

    @property
    def is_accepted(self) -> bool:
        """Whether the last request was answered, in full, with a good status."""
        return 200 <= self.status < 300

    @property
    def body(self) -> dict[str, Any] | None:
        return self.bodies[-1] if self.bodies else None


class Gate(AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]):
    """Lets so many requests of one cluster pass at the same time, each for so long, and counts them."""

    def __init__(self, config: AksConfig, clock: Clock, metrics: ArmMetrics) -> None:
        super().__init__()
        self._clock = clock
        self._metrics = metrics
        self._limit = config.request_timeout
        self._turns = asyncio.Semaphore(config.calls_in_flight)
        self._arm = config.arm

    async def send(
        self, request: PipelineRequest[HttpRequest]
    ) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        """Raises AzureError, for an address that is not the Resource Manager's and for what is no JSON too."""
        call: Call = request.context.options.pop(CALL)
        call.response = None
        if not belongs(request.http_request.url, self._arm):
            host = urlsplit(request.http_request.url).hostname
            raise AzureError(f"an answer led to {host}, which is not {urlsplit(self._arm).hostname}")
        self._metrics.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._metrics.waiting -= 1
        try:
            return await self._measured(call, request)
        finally:
            self._turns.release()

    async def _measured(
        self, call: Call, request: PipelineRequest[HttpRequest]
    ) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        code, started = NO_ANSWER, self._clock.now()
        self._metrics.in_flight += 1
        try:
            response = await self._in_time(request)
            code = code_class(response.http_response.status_code)
        finally:
            self._metrics.in_flight -= 1
            self._metrics.ended(call.operation, code, self._clock.now() - started)
        if response.http_response.status_code < 300:
            call.bodies.append(_object(response.http_response))
        call.response = response.http_response
        return response

    async def _in_time(
        self, request: PipelineRequest[HttpRequest]
    ) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        """With the body, which the SDK leaves in the connection for some requests."""
        try:
            async with self._clock.timeout(self._limit):
                response = await self.next.send(request)
                await response.http_response.read()
                return response
        except TimeoutError as error:
            raise ServiceResponseTimeoutError(f"no answer within {self._limit:g} seconds") from error
        except OSError as error:
            raise ServiceRequestError(str(error), error=error) from error


class Token(AsyncARMChallengeAuthenticationPolicy):
    """A token on every request. On http, which is loopback's alone, there is nothing real in it to protect."""

    async def on_request(self, request: PipelineRequest[HttpRequest]) -> None:
        """Raises SignInFailed."""
        if request.http_request.url.startswith("http://"):
            request.context.options["enforce_https"] = False
        await super().on_request(request)


def client(
    config: AksConfig,
    clock: Clock,
    credential: Credential,
    metrics: ArmMetrics,
    transport: Transport | None,
) -> ContainerServiceClient:
    """The SDK's client. transport: in place of aiohttp's."""
    policies: list[AsyncHTTPPolicy[Any, Any] | SansIOHTTPPolicy[Any, Any]] = [
        Gate(config, clock, metrics),
        RequestIdPolicy(),
        HeadersPolicy(),
        UserAgentPolicy(base_user_agent=USER_AGENT),
        ProxyPolicy(),
        Token(cast(AsyncSupportsTokenInfo, credential), config.cloud.scope),
    ]
    options: dict[str, Any] = {} if transport is None else {"transport": transport}
    return ContainerServiceClient(
        cast(AsyncTokenCredential, credential),  # only what `Token` does with it counts
        config.subscription_id,
        base_url=config.arm,
        policies=policies,
        api_version=API_VERSION,
        **options,
    )


def belongs(url: str, arm: str) -> bool:
    """Whether the URL is of this Resource Manager, or of one of its regions."""
    asked, ours = urlsplit(url), urlsplit(arm)
    if asked.scheme != ours.scheme or asked.username is not None:
        return False
    if asked.netloc.lower() == ours.netloc.lower():
        return True
    return asked.scheme == "https" and asked.netloc.lower().endswith(f".{ours.netloc.lower()}")


def _object(response: AsyncHttpResponse) -> dict[str, Any] | None:
    """The JSON object of an answer, None for an empty one; Azure answers nothing else."""
    content = response.content
    if not content.strip():
        return None
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServiceResponseError("the answer is no JSON object, as if a proxy had given it")
    return found
