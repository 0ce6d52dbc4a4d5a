"""The look around at the start. It comes before everything else, so that nothing is written beside another KAITO."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from kaito.api.labels import WORKSPACE_LABEL
from kaito.cli.beside.rules import GO_WEBHOOK, Conflict, Installation, conflicts, lease_names, refusal
from kaito.cli.errors import CliError
from kaito.runtime.client import Client
from kaito.runtime.clock import Clock
from kaito.runtime.errors import ApiError, Forbidden, NotFound, TransportError
from kaito.runtime.groups import Group
from kaito.runtime.logs import get_logger
from kaito.runtime.manager import Manager
from kaito.runtime.resources import DEPLOYMENTS, LEASES, Resource
from kaito.runtime.webhook.certificates import VALIDATING

EXIT_CODE: Final = 3
"""Exit status of a process that refuses to start beside another."""
RETRY: Final = 5.0
"""Seconds between two tries while the API server does not answer."""
NOT_A_CHILD: Final = f"!{WORKSPACE_LABEL}"
"""Label selector: the Deployments of Workspaces are many, and none of them runs an operator."""

Object = dict[str, Any]
log = get_logger(__name__)


def add_check(manager: Manager, mine: Installation) -> None:
    """Has the manager look around before anything else starts; it then ends with CliError if it may not run."""
    manager.add(BesideCheck(manager.client, manager.clock, mine))


class BesideCheck:
    """A runnable that ends when nobody is in the way. Whatever waits for its readiness starts afterwards."""

    name = "beside-others"
    group = Group.SERVERS

    def __init__(self, client: Client, clock: Clock, mine: Installation) -> None:
        self._client = client
        self._clock = clock
        self._mine = mine
        self._passed = asyncio.Event()

    async def wait_ready(self) -> None:
        """Returns once the look around found nobody."""
        await self._passed.wait()

    async def run(self) -> None:
        """Returns when nobody is there; raises CliError when somebody is.

        While the API server does not answer it is asked again. What may not be read is left out, with a warning.
        """
        while True:
            try:
                found = await self.look()
            except (ApiError, TransportError) as error:
                log.warning("cannot look for other operators yet", error=str(error))
                await self._clock.sleep(RETRY)
                continue
            if found:
                raise CliError(refusal(found), code=EXIT_CODE)
            self._passed.set()
            return

    async def look(self) -> list[Conflict]:
        """What is in the way now. Raises ApiError and TransportError."""
        deployments = await self._readable(
            DEPLOYMENTS, self._client.list(DEPLOYMENTS, label_selector=NOT_A_CHILD)
        )
        leases: list[Object] = []
        for name in lease_names(self._mine):
            leases += await self._readable(
                LEASES, self._client.list(LEASES, field_selector=f"metadata.name={name}")
            )
        webhooks = []
        if self._mine.workspaces:
            webhooks = await self._readable(
                VALIDATING, self._client.list(VALIDATING, field_selector=f"metadata.name={GO_WEBHOOK}")
            )
        return conflicts(self._mine, deployments, leases, webhooks, self._clock.wall())

    async def _readable(self, resource: Resource, request: Awaitable[list[Object]]) -> list[Object]:
        try:
            return await request
        except Forbidden as error:
            log.warning("may not look for other operators", resource=resource.name, error=str(error))
        except NotFound:
            log.warning("the API server does not serve this", resource=resource.name)
        return []
