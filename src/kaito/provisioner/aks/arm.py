"""The Resource Manager's view of one managed cluster: the only code that calls Azure's SDK.

Every call starts something or looks at it and comes back at once: no poller waits, no retry pauses. What Azure refuses
comes out as one of `kaito.provisioner.errors`. Writes go through the SDK's operations; reads take the JSON from its
client as it is, since its models cost more time than all the rest of a read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode, urlsplit

import tenacity
from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
)
from azure.core.rest import HttpRequest

from kaito.provisioner.aks import identity
from kaito.provisioner.aks.arm_metrics import ArmMetrics
from kaito.provisioner.aks.classify import AmbiguousNotFound, classify, classify_answer
from kaito.provisioner.aks.config import AksConfig
from kaito.provisioner.aks.pipeline import API_VERSION, CALL, Call, Transport, client
from kaito.provisioner.aks.sentences import About
from kaito.provisioner.aks.signals import retry_after
from kaito.provisioner.errors import CloudError, CloudUnavailable, InstanceNotFound
from kaito.runtime.clock import Clock

Object = Mapping[str, Any]
Send = Callable[..., Awaitable[object]]

USAGES_VERSION: Final = "2024-07-01"
SKUS_VERSION: Final = "2021-07-01"
"""API versions of Microsoft.Compute."""
CONNECTION_RETRY: Final = 0.5
"""Seconds until the one other try after a connection that failed; kept-alive ones often do."""
_POOL: Final = "/agentPools/{}"
_MOST_PAGES: Final = 200
_NOTHING_SAID: Final = "Azure's answer to {} has nothing in it"

IN_PROGRESS: Final = "InProgress"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"
CANCELED: Final = "Canceled"
UNKNOWN: Final = "Unknown"
OperationStatus = Literal["InProgress", "Succeeded", "Failed", "Canceled", "Unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What Azure said.

    body: the JSON, as of an agent pool: {"id", "name", "properties": {...}}. retry_after: seconds, if it said so.
    operation: URL of the operation that was started; "" if none was named.
    """

    body: Object
    retry_after: float | None = None
    operation: str = ""

    @property
    def etag(self) -> str | None:
        """What If-Match wants to see, if the answer has it."""
        found = (self.body.get("properties") or {}).get("eTag")
        return str(found) if found else None


@dataclass(frozen=True, slots=True)
class Operation:
    """How far an operation is. Unknown: Azure has no record of it any more; only the pool can tell.

    error: why it failed or was canceled. retry_after: seconds, if Azure said so.
    """

    status: OperationStatus
    error: CloudError | None = None
    retry_after: float | None = None


class Arm:
    """One managed cluster, through the Resource Manager. Raises `CloudError` and nothing else.

    credential: default: as the configuration says. transport: in place of aiohttp's; closed with this.
    """

    def __init__(
        self,
        config: AksConfig,
        clock: Clock,
        *,
        credential: identity.Credential | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.metrics = ArmMetrics()
        self._config = config
        self._clock = clock
        self._credential = identity.credential(config) if credential is None else credential
        self._client = client(config, clock, self._credential, self.metrics, transport)
        self._place = (config.resource_group, config.cluster)
        self._about = About(
            location=config.location,
            cluster=config.cluster,
            resource_group=config.resource_group,
            subscription_id=config.subscription_id,
            identity=identity.who(config),
            host=urlsplit(config.arm).hostname or "",
            quota_page=config.cloud.quota_page,
        )

    async def get_pool(self, name: str) -> Answer:
        """Raises InstanceNotFound only if the pool is absent; ClusterNotFound if the cluster or its group is."""
        return await self._of_pool("get_pool", name, self._get, self._url(_POOL.format(quote(name, safe=""))))

    async def list_pools(self) -> list[Object]:
        """All agent pools of the cluster, also other people's."""
        return await self._get_all("list_pools", self._url("/agentPools"))

    async def put_pool(self, name: str, body: Object, *, etag: str | None) -> Answer:
        """Starts to make the pool, or to change it into this.

        etag: of the pool as it was read; None: only if there is none. Raises PreconditionFailed otherwise.
        """
        match: dict[str, Any] = {"match_condition": MatchConditions.IfMissing}
        if etag is not None:
            match = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        send = self._client.agent_pools.begin_create_or_update
        return await self._ask("put_pool", "", send, *self._place, name, dict(body), polling=False, **match)

    async def delete_pool(self, name: str, *, etag: str | None) -> Answer:
        """Starts to delete the pool, whatever PDBs say: its Node was drained before, or is to go anyway.

        etag: of the pool as it was read. Raises PreconditionFailed if it has changed, InstanceNotFound if it is gone.
        """
        match: dict[str, Any] = {}
        if etag is not None:
            match = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        send = self._client.agent_pools.begin_delete
        return await self._of_pool(
            "delete_pool",
            name,
            send,
            *self._place,
            name,
            polling=False,
            ignore_pod_disruption_budget=True,
            **match,
        )

    async def get_cluster(self) -> Answer:
        """The managed cluster: powerState and provisioningState are in its properties."""
        return await self._ask("get_cluster", "", self._get, self._url(""))

    async def list_machines(self, pool: str) -> list[Object]:
        """The machines of a pool. Raises InstanceNotFound if the pool is absent."""
        machines = self._url(_POOL.format(quote(pool, safe="")) + "/machines")
        try:
            return await self._get_all("list_machines", machines, pool=pool)
        except AmbiguousNotFound:
            await self.get_cluster()
            raise InstanceNotFound(f"the node pool {pool} does not exist") from None

    async def operation(self, url: str) -> Operation:
        """How far the operation is that an earlier answer named."""
        call = Call("operation")
        try:
            await self._run(call, lambda **options: self._get(url, **options), "")
        except CloudError:
            if call.status == 404:
                return Operation(UNKNOWN)
            raise
        wait = self._wait(call)
        if call.status == 202:
            return Operation(IN_PROGRESS, retry_after=wait)
        return self._operation(call.body or {}, wait)

    async def usages(self) -> list[Object]:
        """What the subscription uses of its quotas in the region: `value` of the Compute usages API."""
        path = f"/locations/{self._config.location}/usages"
        return await self._get_all("usages", self._compute_url(path, {"api-version": USAGES_VERSION}))

    async def resource_skus(self) -> list[Object]:
        """The sizes of the region and what restricts them: `value` of the Resource SKUs API."""
        only = f"location eq '{self._config.location}'"
        query = {"api-version": SKUS_VERSION, "$filter": only}
        return await self._get_all("resource_skus", self._compute_url("/skus", query))

    def problem(self, detail: Object) -> CloudError:
        """The error of a failed pool (`properties.status.provisioningError`) or operation, as a `CloudError`."""
        return classify_answer(0, detail, self._about)

    async def close(self) -> None:
        """Ends all connections, the credential's too."""
        await self._client.close()
        await self._credential.close()

    def _url(self, path: str) -> str:
        """Of something beneath the cluster."""
        return f"{self._config.arm}{self._config.cluster_id}{path}?api-version={API_VERSION}"

    def _compute_url(self, path: str, query: Mapping[str, str]) -> str:
        beneath = f"/subscriptions/{self._config.subscription_id}/providers/Microsoft.Compute"
        return f"{self._config.arm}{beneath}{path}?{urlencode(query)}"

    async def _of_pool(
        self, operation: str, pool: str, send: Send, *arguments: object, **options: Any
    ) -> Answer:
        """A 404 that does not say what is missing is the pool's if the cluster is there."""
        try:
            return await self._ask(operation, pool, send, *arguments, **options)
        except AmbiguousNotFound:
            await self.get_cluster()
            raise InstanceNotFound(f"the node pool {pool} does not exist") from None

    async def _ask(self, operation: str, pool: str, send: Send, *arguments: object, **options: Any) -> Answer:
        call = Call(operation)
        await self._run(call, lambda **more: send(*arguments, **options, **more), pool)
        if operation == "delete_pool" and call.status == 204:
            raise InstanceNotFound(f"the node pool {pool} does not exist")
        if operation.startswith("get_") and not call.body:
            raise CloudUnavailable(_NOTHING_SAID.format(operation))
        headers = {} if call.response is None else call.response.headers
        started = headers.get("Azure-AsyncOperation") or headers.get("Location") or ""
        return Answer(call.body or {}, self._wait(call), started)

    async def _get_all(self, operation: str, first: str, *, pool: str = "") -> list[Object]:
        call = Call(operation)

        async def all_pages(**options: Any) -> None:
            call.bodies.clear()
            url = first
            while url:
                await self._get(url, **options)
                _check_pages(call)
                url = str((call.body or {}).get("nextLink") or "")

        await self._run(call, all_pages, pool)
        return _values(call)

    async def _get(self, url: str, **options: Any) -> None:
        response = await self._client.send_request(HttpRequest("GET", url), **options)
        if response.status_code >= 300:
            raise HttpResponseError(response=response)

    async def _run(self, call: Call, send: Callable[..., Awaitable[object]], pool: str) -> None:
        """Sends, once more after a lost connection: If-None-Match and If-Match make that harmless for writes."""
        try:
            async for attempt in tenacity.AsyncRetrying(
                sleep=self._clock.sleep,
                stop=tenacity.stop_after_attempt(2),
                wait=tenacity.wait_fixed(CONNECTION_RETRY),
                retry=tenacity.retry_if_exception(_is_lost_connection),
                reraise=True,
            ):
                with attempt:
                    await send(**{CALL: call})
        except (AzureError, ValueError) as error:
            if not call.is_accepted:
                raise self._classified(error, pool) from error
            # The SDK does not like the answer, such as a status or a date in Retry-After; what counts is in `call`.

    def _classified(self, error: AzureError | ValueError, pool: str) -> CloudError:
        return classify(error, replace(self._about, pool=pool), now=self._clock.wall())

    def _wait(self, call: Call) -> float | None:
        return None if call.response is None else retry_after(call.response.headers, self._clock.wall())

    def _operation(self, body: Object, wait: float | None) -> Operation:
        status = str(body.get("status") or SUCCEEDED).lower()
        if status == "succeeded":
            return Operation(SUCCEEDED)
        if status not in ("failed", "canceled", "cancelled"):
            return Operation(IN_PROGRESS, retry_after=wait)
        detail = body.get("error")
        if status == "failed":
            return Operation(FAILED, self.problem(detail if isinstance(detail, Mapping) else {}))
        words = detail if isinstance(detail, Mapping) else {"message": "the operation was canceled"}
        return Operation(CANCELED, self.problem({"code": "OperationCanceled", "details": [words], **words}))


def _is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, ServiceRequestError) and not isinstance(error, ServiceRequestTimeoutError)


def _check_pages(call: Call) -> None:
    """A list that is cut short would look as if what is missing were gone."""
    if len(call.bodies) > _MOST_PAGES:
        raise CloudUnavailable(f"the list of {call.operation} has more than {_MOST_PAGES} pages")


def _values(call: Call) -> list[Object]:
    found: list[Object] = []
    for body in call.bodies:
        value = (body or {}).get("value")
        if not isinstance(value, list):
            raise CloudUnavailable(_NOTHING_SAID.format(call.operation))
        found += value
    return found
